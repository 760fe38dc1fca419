import json

import pytest
from click.testing import CliRunner

from mien.cli.train import train
from mien.data.drawn import draw_samples
from mien.errors import DataError, UsageError

SMALL = [
    "--side", "16", "--set", "net.widths=8,16", "--set", "net.latents=4", "--set", "batch_size=8",
    "--set", "keep_without_face=true", "--set", "components=1", "--images", "32", "--set", "report_every=32",
]  # fmt: skip


@pytest.fixture(autouse=True)
def blind(monkeypatch):
    class Blind:
        def detect(self, image):
            return []

    monkeypatch.setattr("mien.data.crops._run_time_detector", Blind)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "data"
    draw_samples(folder, per_class=10, side=32)
    return folder


def run(*args):
    return CliRunner().invoke(train, ["vae", *map(str, args)])


def test_a_folder_becomes_a_run_and_the_last_line_says_how_to_use_it(data, tmp_path):
    result = run("--data", data, "--data", data, "--out", tmp_path / "run", "--grey", *SMALL)
    assert result.exit_code == 0, result.output
    assert "held out: ELBO" in result.output
    assert f"Use: mien generate --model {tmp_path / 'run'}" in result.output.splitlines()[-1]
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert card["convention"]["order"] == "GRAY" and len(card["convention"]["labels"]) == 8


def test_a_dry_run_needs_no_folder_and_writes_nothing(data, tmp_path):
    result = run("--data", data, "--cache", tmp_path / "cache", "--dry-run", *SMALL)
    assert result.exit_code == 0, result.output
    assert "labels: neutral, happiness" in result.output and "Nothing was written." in result.output


def test_no_data_is_the_users_mistake(tmp_path):
    assert isinstance(run("--out", tmp_path / "run").exception, UsageError)
    result = run("--data", tmp_path / "nowhere", "--out", tmp_path / "run")
    assert isinstance(result.exception, DataError) and "There is no" in str(result.exception)
