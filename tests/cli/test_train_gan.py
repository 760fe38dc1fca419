import json

import pytest
from click.testing import CliRunner

from mien.cli.train import train
from mien.data.drawn import draw_samples
from mien.errors import UsageError

SMALL = [
    "--side", "16", "--grey", "--set", "batch_size=8", "--set", "keep_without_face=true", "--set", "health.pictures=16",
    "--set", "generator.widths=8,6", "--images", "16", "--set", "report_every=16", "--template", "fer-48",
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
    draw_samples(folder, per_class=6, side=32)
    return folder


def run(*args):
    return CliRunner().invoke(train, ["gan", *map(str, args)])


def test_a_folder_becomes_a_run_and_the_last_line_says_how_to_use_it(data, tmp_path):
    result = run("--data", data, "--out", tmp_path / "run", "--variant", "hinge", *SMALL)
    assert result.exit_code == 0, result.output
    assert "times as widely as photographs" in result.output
    assert f"Use: mien generate --model {tmp_path / 'run'}" in result.output.splitlines()[-1]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["game"] == "hinge" and config["generator"]["norm"] == "batch"
    assert json.loads((tmp_path / "run" / "card.json").read_text())["convention"]["kind"] == "gan"


def test_a_dry_run_needs_no_folder_and_writes_nothing(data):
    result = run("--data", data, "--dry-run", *SMALL)
    assert result.exit_code == 0, result.output
    assert "labels: neutral, happiness" in result.output and "Nothing was written." in result.output


def test_no_data_is_the_users_mistake(tmp_path):
    assert isinstance(run("--out", tmp_path / "run").exception, UsageError)
