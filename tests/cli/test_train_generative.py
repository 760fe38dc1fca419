import json

import pytest
from click.testing import CliRunner

from mien.cli.train import train
from mien.data.drawn import draw_samples
from mien.errors import DataError, UsageError
from mien.training import gan, vae

VAE = [
    "--side", "16", "--set", "net.widths=8,16", "--set", "net.latents=4", "--set", "batch_size=8",
    "--set", "keep_without_face=true", "--set", "components=1", "--images", "32", "--set", "report_every=32",
    "--set", "flow.steps=2", "--set", "flow.images=128", "--set", "flow.batch_size=16", "--set", "flow.net.width=16",
    "--set", "flow.net.blocks=1",
]  # fmt: skip
GAN = [
    "--side", "16", "--grey", "--set", "batch_size=8", "--set", "keep_without_face=true", "--set", "health.pictures=16",
    "--set", "generator.widths=8,6", "--images", "16", "--set", "report_every=16", "--template", "fer-48",
]  # fmt: skip


@pytest.fixture(autouse=True)
def blind(monkeypatch):
    class Blind:
        def detect(self, image):
            return []

    monkeypatch.setattr("mien.data.crops.patient_detector", Blind)
    monkeypatch.setattr("mien.training.card.draw_curves", lambda rows: None)  # longer than the trainings


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "data"
    draw_samples(folder, per_class=10, side=32)
    return folder


def run(*args):
    return CliRunner().invoke(train, [*map(str, args)])


def test_a_folder_becomes_a_vae_and_the_last_line_says_how_to_use_it(data, tmp_path):
    result = run("vae", "--data", data, "--data", data, "--out", tmp_path / "run", "--grey", *VAE)
    assert result.exit_code == 0, result.output
    assert "held out: ELBO" in result.output
    assert f"Use: mien generate --model {tmp_path / 'run'}" in result.output.splitlines()[-1]
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert card["convention"]["order"] == "GRAY" and len(card["convention"]["labels"]) == 8


def test_a_decoder_for_a_kept_encoder_says_whose_flow_it_draws_from(data, tmp_path):
    first = run("vae", "--data", data, "--out", tmp_path / "first", "--grey", *VAE)
    assert "on faces held out" in first.output and first.exit_code == 0

    kept = ["--set", f"init={tmp_path / 'first'}", "--set", "keep_encoder=true"]
    result = run("vae", "--data", data, "--out", tmp_path / "second", "--grey", *VAE, *kept)

    assert result.exit_code == 0, result.output
    assert f"flow: that of {tmp_path / 'first'}, whose encoder was kept" in result.output


def test_a_folder_becomes_a_gan_and_the_last_line_says_how_to_use_it(data, tmp_path):
    result = run("gan", "--data", data, "--out", tmp_path / "run", "--variant", "hinge", *GAN)
    assert result.exit_code == 0, result.output
    assert "times as widely as photographs" in result.output
    assert f"Use: mien generate --model {tmp_path / 'run'}" in result.output.splitlines()[-1]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["game"] == "hinge" and config["generator"]["norm"] == "batch"
    assert json.loads((tmp_path / "run" / "card.json").read_text())["convention"]["kind"] == "gan"


@pytest.mark.parametrize(("command", "settings"), [("vae", VAE), ("gan", GAN)])
def test_a_dry_run_needs_no_folder_and_writes_nothing(command, settings, data, tmp_path):
    result = run(command, "--data", data, "--cache", tmp_path / "cache", "--dry-run", *settings)
    assert result.exit_code == 0, result.output
    assert "labels: neutral, happiness" in result.output and "Nothing was written." in result.output


@pytest.mark.parametrize("command", ["vae", "gan"])
def test_no_data_is_the_users_mistake(command, tmp_path):
    assert isinstance(run(command, "--out", tmp_path / "run").exception, UsageError)
    result = run(command, "--data", tmp_path / "nowhere", "--out", tmp_path / "run")
    assert isinstance(result.exception, DataError) and "There is no" in str(result.exception)


@pytest.mark.parametrize("command", ["vae", "gan"])
def test_help_says_the_defaults_that_are_trained(command):
    words = " ".join(run(command, "--help").output.split())
    config = {"vae": vae, "gan": gan}[command].configured(given={"data": ["x"], "out": "x"})
    pictures = config.net if command == "vae" else config
    assert f"default: {config.template}." in words
    assert f"default: the template's, {pictures.side} for {config.template}" in words
    assert "default: grey for fer-48, else in colour" in words and pictures.colour
