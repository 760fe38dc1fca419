from pathlib import Path

from click.testing import CliRunner

from mien.cli.study import study
from mien.errors import UsageError


def test_the_list_names_every_study_with_its_question():
    done = CliRunner().invoke(study, ["list"])

    assert "sequence: Does the order of frames tell anything about expressions?" in done.output
    assert "augmentation: " in done.output


def test_settings_reach_the_study_of_sequences(monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr("mien.cli.study.run_study", lambda study, out, jobs: made.append((study, out, jobs)) or 0)

    monkeypatch.chdir(tmp_path)
    for name in ("a", "b.csv"):
        Path(name).touch()
    words = f"run sequence --data a --data b.csv --out {tmp_path} --task first --seeds 2 --features landmarks"
    done = CliRunner().invoke(study, [*words.split(), "--images", "640", "--jobs", "2"])

    assert done.exception is None or done.exit_code == 0
    ((asked, out, jobs),) = made
    assert (asked.data, asked.task, asked.seeds) == ((Path("a"), Path("b.csv")), "first", 2)
    assert (asked.features, asked.images, asked.arms[0], out, jobs) == (("landmarks",), 640, "last", tmp_path, 2)


def test_an_arm_that_there_is_not_is_named(tmp_path):
    done = CliRunner().invoke(
        study, ["run", "sequence", "--data", str(tmp_path), "--out", str(tmp_path), "--arm", "mood"]
    )

    assert isinstance(done.exception, UsageError) and "There is no arm 'mood'" in str(done.exception)


def test_data_that_are_not_there_claim_no_folder(tmp_path):
    for name in ("sequence", "augmentation", "few-shot"):
        done = CliRunner().invoke(study, ["run", name, "--data", "nowhere", "--out", str(tmp_path / name)])

        assert isinstance(done.exception, UsageError) and "'nowhere' does not exist" in str(done.exception)
        assert not (tmp_path / name).exists()
