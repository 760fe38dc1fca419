import builtins
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from mien.cli.root import cli
from mien.cli.train import SUBCOMMANDS, expression, train
from mien.drawing import draw_face
from mien.errors import UsageError
from mien.images import save_image


@pytest.fixture
def asked(monkeypatch):
    """What the story is asked for; it does nothing, and answers as a short training would."""
    from mien.training import expression as story

    configs = []
    scores = {"pictures": 1200, "accuracy": 0.7123, "macro_f1": 0.654, "ece": 0.012}
    done = story.Trained(None, {"expression": ("neutral", "happiness")}, {"expression": scores, "parameters": 5})

    def learn(config):
        configs.append(config)
        return done

    monkeypatch.setattr(story, "train", learn)
    monkeypatch.setattr(story, "dry_run", lambda config: configs.append(config) or foreseen(story))
    return configs


def foreseen(story):
    return story.DryRun(1_250_000, 140_000_000, 250.0, 900, 100, {"expression": ("neutral", "happiness")})


def run(*args):
    return CliRunner().invoke(expression, [str(arg) for arg in args])


def test_options_settings_and_file_become_one_config(asked, tmp_path):
    (tmp_path / "recipe.toml").write_text('batch_size = 64\nlearning_rate = 0.2\n[net]\narch = "residual"\nside = 64\n')
    result = run(
        *("--data", tmp_path, "--out", tmp_path / "run", "--config", tmp_path / "recipe.toml"),
        *("--set", "learning_rate=0.05", "--set", "augment.rotate=5", "--arch", "tutorial-cnn"),
        *("--seed", 3, "--images", "2e3", "--seconds", 9, "--device", "cpu", "--strict", "--labels", "fer2013"),
    )

    assert result.exit_code == 0, result.output
    (config,) = asked
    assert (config.batch_size, config.learning_rate, config.augment.rotate) == (64, 0.05, 5)
    assert (config.net.arch, config.net.side, config.seed, config.images) == ("tutorial-cnn", 64, 3, 2000)
    assert (config.seconds, config.device, config.strict, config.labels) == (9, "cpu", True, "fer2013")


def test_the_last_lines_say_how_good_it_is_and_how_to_go_on(asked, tmp_path):
    out = run("--data", tmp_path, "--out", tmp_path / "run").output
    assert "1,200 validation pictures: accuracy 71.23 %, macro-F1 0.654, calibration error 0.012" in out
    assert f"mien evaluate expression --model {tmp_path / 'run'} --data {tmp_path}" in out
    assert f"mien analyze PICTURE --expression {tmp_path / 'run'}" in out


def test_a_dry_run_needs_no_folder_and_tells_the_time(asked, tmp_path):
    out = run("--data", tmp_path, "--images", "9e5", "--dry-run").output
    assert "1.25 million parameters, 140 million multiplications" in out
    assert "250 images/s: 900,000 images take about 1.0 hours" in out
    assert "Nothing was written" in out
    assert "take about 2 minutes" in run("--data", tmp_path, "--images", 20_000, "--dry-run").output


@pytest.mark.parametrize(("resume", "there"), [("must", False), ("never", True)])
def test_resume_is_held_against_the_folder(asked, tmp_path, resume, there):
    (tmp_path / "run").mkdir()
    if there:
        (tmp_path / "run" / "last.safetensors").write_bytes(b"")
    result = run("--data", tmp_path, "--out", tmp_path / "run", "--resume", resume)
    assert isinstance(result.exception, UsageError) and "leave --resume out" in str(result.exception)
    assert asked == []


def test_resume_alone_goes_on_where_there_is_a_run(asked, tmp_path):
    assert run("--resume", "--data", tmp_path, "--out", tmp_path / "run").exit_code == 0
    assert len(asked) == 1


@pytest.mark.parametrize(("resume", "there"), [("auto", False), ("auto", True), ("must", True), ("never", False)])
def test_resume_lets_pass_what_it_should(asked, tmp_path, resume, there):
    (tmp_path / "run").mkdir()
    if there:
        (tmp_path / "run" / "last.safetensors").write_bytes(b"")
    assert run("--data", tmp_path, "--out", tmp_path / "run", "--resume", resume).exit_code == 0


def test_an_unknown_setting_is_refused_with_the_nearest_one(asked, tmp_path):
    result = run("--data", tmp_path, "--out", tmp_path, "--set", "learning_rat=1")
    assert isinstance(result.exception, UsageError) and "'learning_rate'" in str(result.exception)


def test_what_is_missing_is_named(asked, tmp_path):
    assert "'out' is missing" in str(run("--data", tmp_path).exception)
    assert "'data' is missing" in str(run("--out", tmp_path).exception)


def test_ctrl_c_says_how_to_go_on_and_exits_130(monkeypatch, tmp_path):
    from mien.training import expression as story
    from mien.training.stopping import Interrupted

    def stopped(config):
        raise Interrupted(config.out, 4096)

    monkeypatch.setattr(story, "train", stopped)
    result = run("--data", tmp_path, "--out", tmp_path / "run")
    assert result.exit_code == 130
    assert "saved at 4,096 images" in result.output and "same command" in result.output


def test_without_pytorch_one_line_names_the_cure(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "mien.training.expression", raising=False)
    monkeypatch.delattr("mien.training.expression", raising=False)
    original = builtins.__import__

    def importing(name, *args, **kwargs):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", importing)
    result = run("--data", tmp_path, "--out", tmp_path / "run")
    assert isinstance(result.exception, UsageError)
    assert str(result.exception) == "Training needs PyTorch. Install it with: pip install 'mien[train]'"


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_is_there(name):
    command = train.get_command(click.Context(train), name)
    assert command is not None and command.name == name
    assert {"data", "out"} <= {parameter.name for parameter in command.params}


def test_help_imports_no_pytorch():
    code = (
        "import sys; from mien.cli.root import cli; cli(['train', '--help'], standalone_mode=False);"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(f"\n  {name} " in done.stdout for name in SUBCOMMANDS)
    assert done.stdout.strip().endswith("False")


def test_there_is_no_other_subcommand():
    assert CliRunner().invoke(cli, ["train", "dragon"]).exit_code == 2


def test_a_folder_of_faces_becomes_a_restorer_and_the_last_line_says_how_to_use_it(tmp_path, monkeypatch):
    monkeypatch.setattr("mien.training.card.draw_curves", lambda rows: None)  # longer than the training
    (tmp_path / "faces").mkdir()
    for subject in range(12):
        save_image(tmp_path / "faces" / f"{subject}.png", draw_face(subject, side=48).image)
    small = ["--aligned", "--set", "net.side=32", "--set", "net.widths=8,8", "--set", "net.blocks=1,1", "--set",
             "canvas=40", "--set", "judged=0", "--set", "batch_size=4"]  # fmt: skip
    arguments = ["restoration", "--data", str(tmp_path / "faces"), *small]
    foreseen = CliRunner().invoke(train, [*arguments, "--dry-run"])
    assert foreseen.exit_code == 0 and "Nothing was written." in foreseen.output, foreseen.output
    done = CliRunner().invoke(train, [*arguments, "--out", str(tmp_path / "run"), "--images", "8"])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == f"Use: mien restore PICTURE -o OUT --model {tmp_path / 'run'}"
