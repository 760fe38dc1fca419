from pathlib import Path

from click.testing import CliRunner

from mien.cli.study import run_study, study
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
    for name in ("sequence", "augmentation", "few-shot", "restoration"):
        done = CliRunner().invoke(study, ["run", name, "--data", "nowhere", "--out", str(tmp_path / name)])

        assert isinstance(done.exception, UsageError) and "'nowhere' does not exist" in str(done.exception)
        assert not (tmp_path / name).exists()


def test_settings_reach_the_study_of_restoration(monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr("mien.cli.study.run_study", lambda study, out, jobs: made.append((study, out, jobs)) or 0)
    (tmp_path / "pairs.txt").touch()

    words = ["--pairs", str(tmp_path / "pairs.txt"), "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    words += ["--condition", "noise 40", "--arm", "denoise", "--embedder", "sface", "--model", "run", "--most", "50"]
    done = CliRunner().invoke(study, ["run", "restoration", *words])

    assert done.exception is None or done.exit_code == 0
    ((asked, out, jobs),) = made
    assert (asked.data, asked.pairs, asked.model) == (tmp_path, tmp_path / "pairs.txt", "run")
    assert (asked.conditions, asked.arms, asked.embedders) == (("noise 40",), ("as-is", "denoise"), ("sface",))
    assert (asked.seeds, asked.most, out, jobs) == (1, 50, tmp_path / "out", 1)


def test_what_a_study_of_restoration_cannot_do_is_one_line(tmp_path):
    for words, told in (
        (("--condition", "rain"), "There is no condition 'rain'. Choose from clean; 3 times smaller, noise 8;"),
        (("--arm", "rain"), "There is no arm 'rain'. Choose from as-is, "),
        (("--most", "5"), "11 mated pairs of different subjects give; there are 5."),
        (("--pairs", "nowhere"), "'nowhere' does not exist"),
    ):
        done = CliRunner().invoke(
            study, ["run", "restoration", "--data", str(tmp_path), "--out", str(tmp_path / "out"), *words]
        )
        assert isinstance(done.exception, UsageError) and told in str(done.exception)
        assert not (tmp_path / "out").exists()


def test_what_was_left_out_is_said_beside_the_figures(monkeypatch, tmp_path, capsys):
    from mien.studies import engine

    def run_cells(made, out, *, jobs, told, noted):
        noted("'a.png' shows no face: its pair is left out.")
        return []

    monkeypatch.setattr(engine, "run_cells", run_cells)
    monkeypatch.setattr("mien.cli.study._write", lambda made, out: None)

    assert run_study(object(), tmp_path, 1) == 0
    assert capsys.readouterr().err == "mien: 'a.png' shows no face: its pair is left out.\n"
