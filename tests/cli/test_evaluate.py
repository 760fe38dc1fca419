import json

import numpy as np
import pytest
from click.testing import CliRunner

from evaluation.fake import FakeAnalyzer, write_faces, write_lfw
from mien.cli.evaluate import evaluate
from mien.errors import EvaluationError, UsageError
from vision.planted import save_constant


@pytest.fixture
def run(monkeypatch):
    asked = []

    def make(detector, embedder):
        asked.append((detector, embedder))
        return FakeAnalyzer(noise=0.8)

    monkeypatch.setattr("mien.cli.evaluate.open_analyzer", make)

    def call(*arguments):
        result = CliRunner().invoke(evaluate, [str(a) for a in arguments])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    call.asked = asked
    return call


def test_verification_prints_a_table_and_writes_json_and_plots(run, tmp_path):
    path = write_lfw(tmp_path)

    result = run(
        "verification", "--images", tmp_path, "--pairs", path, "--json", tmp_path / "new" / "out.json",
        "--plots", tmp_path / "plots", "--embedder", "fake", "--detector", "accurate",
    )  # fmt: skip

    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("pairs.txt: 60 mated and 60 non-mated pairs")
    assert any(line.startswith("accuracy, 10 folds") and "+-" in line for line in lines)
    assert any(line.startswith("TAR at FMR 1e-1") for line in lines)
    assert any(line.startswith("failures to acquire") and "0 of 60 pictures" in line for line in lines)
    assert "Not measured: FMR 0.0001 needs at least 10000 impostor scores, got 60" in result.stderr
    record = json.loads((tmp_path / "new" / "out.json").read_text())
    assert record["schema"] == "mien/evaluation-verification/1" and record["detector"] == "drawn"
    assert {p.name for p in (tmp_path / "plots").iterdir()} == {"det.png", "roc.png"}
    assert run.asked == [("accurate", "fake")]


def test_json_on_stdout_is_alone_there(run, tmp_path):
    result = run("verification", "--pairs", write_lfw(tmp_path), "--json", "-")

    assert json.loads(result.stdout)["n_pairs"] == 120
    assert "accuracy, 10 folds" in result.stderr


def test_a_failure_to_acquire_is_no_error_but_an_unreadable_picture_is(run, tmp_path):
    path = write_lfw(tmp_path)
    (tmp_path / "subject_0" / "subject_0_0001.jpg").write_text("empty")
    assert run("verification", "--pairs", path).exit_code == 0

    (tmp_path / "subject_1" / "subject_1_0001.jpg").write_text("text")
    result = run("verification", "--pairs", path, "--json", tmp_path / "out.json")

    assert result.exit_code == 1
    assert "1 picture could not be read" in result.stderr
    assert len(json.loads((tmp_path / "out.json").read_text())["unreadable"]) == 1


def write_groups(tmp_path, *, few=3):
    """Write faces of 24 people, 12 of the north and 12 of the south, and ``few`` of the west, with their list."""
    names = write_faces(tmp_path, 24 + few, 2)
    origins = ["north"] * 12 + ["south"] * 12 + ["west"] * few
    rows = [f"{name}/{name}_{n:04d}.jpg,{origin}" for name, origin in zip(names, origins, strict=True) for n in (1, 2)]
    path = tmp_path / "who.csv"
    path.write_text("\n".join(["path,origin", *rows]), encoding="utf-8")
    return path


def test_rates_by_group_are_a_table_json_and_a_plot(run, tmp_path):
    path = write_groups(tmp_path)

    result = run(
        "verification", "--groups", path, "--threshold", "0.3", "--json", tmp_path / "g.json", "--plots", tmp_path / "p"
    )

    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("who.csv: within groups, at your own threshold")
    assert {line.split(" (")[0] for line in lines[1:3]} == {"north", "south"}
    assert "left out, too few people: west: 3 people" in result.stderr
    record = json.loads((tmp_path / "g.json").read_text())
    assert record["schema"] == "mien/evaluation-groups/1" and record["target_fmr"] is None
    assert {group["group"]: (group["num_impostor"], group["num_genuine"]) for group in record["groups"]} == {
        "north": (264, 12), "south": (264, 12),
    }  # fmt: skip
    assert [file.name for file in (tmp_path / "p").iterdir()] == ["groups.png"]


def test_pairs_or_groups_are_named_one_of_them(run, tmp_path):
    for named in ([], ["--pairs", write_lfw(tmp_path), "--groups", write_groups(tmp_path)]):
        with pytest.raises(UsageError, match="one of them"):
            run("verification", *named)
    with pytest.raises(UsageError, match="are for --groups"):
        run("verification", "--pairs", write_lfw(tmp_path), "--fmr", "1e-3")


def test_identification_prints_a_table_and_writes_json(run, tmp_path):
    write_faces(tmp_path / "gallery", 6, 1)
    write_faces(tmp_path / "probes", 18, 1, start=2)
    source = tmp_path / "gallery" / "subject_0" / "subject_0_0001.jpg"
    (tmp_path / "probes" / "subject_0" / "copy.jpg").write_bytes(source.read_bytes())

    result = run(
        "identification", "--gallery-dir", tmp_path / "gallery", "--probe-dir", tmp_path / "probes",
        "--json", tmp_path / "out.json",
    )  # fmt: skip

    assert result.exit_code == 0
    assert "6 subjects, 6 references; 7 mated and 12 other probes" in result.stdout
    assert "rank 1 " in result.stdout and "rank 5 " in result.stdout and "FNIR at FPIR 1e-1" in result.stdout
    assert "Not measured: FPIR 0.01 needs at least 100 non-mated searches, got 12" in result.stderr
    assert "1 probes are the very picture that is enrolled" in result.stderr
    assert json.loads((tmp_path / "out.json").read_text())["schema"] == "mien/evaluation-identification/1"


def test_a_place_that_cannot_be_written_is_refused_before_the_work(run, tmp_path):
    (tmp_path / "file").write_text("")
    path = write_lfw(tmp_path)

    with pytest.raises(UsageError, match="Cannot write into"):
        run("verification", "--pairs", path, "--json", tmp_path / "file" / "out.json")
    assert run.asked == []


def test_a_broken_list_is_refused_before_models_are_loaded(run, tmp_path):
    (tmp_path / "pairs.txt").write_text("nothing of use\n")

    with pytest.raises(EvaluationError, match="Expected LFW's header"):
        run("verification", "--pairs", tmp_path / "pairs.txt")
    assert run.asked == []


def test_a_terminal_gets_a_table(run, tmp_path, monkeypatch):
    path = write_lfw(tmp_path)
    monkeypatch.setattr("mien.cli.evaluate.is_terminal", lambda stream: True)

    result = run("verification", "--pairs", path)

    assert result.exit_code == 0
    assert "measured" in result.stdout and "95 % interval" in result.stdout


def test_help_names_the_formats(run):
    assert "a,b,same" in run("verification", "--help").stdout


@pytest.fixture
def moods(tmp_path, monkeypatch):
    """A run folder whose network always says happiness at 0.8, and 8 smiling and 4 angry grey pictures."""
    from PIL import Image

    monkeypatch.setattr("mien.data.crops.patient_detector", lambda: _Blind())
    (tmp_path / "run").mkdir()
    save_constant(tmp_path / "run" / "model.onnx", [np.log(np.tile([[0.8, 0.1, 0.1]], (12, 1)))])
    convention = {"labels": ["happiness", "anger", "fear"], "template": "fer-48", "side": 48, "order": "GRAY"}
    card = {"role": "expression", "convention": {**convention, "uncertain_below": 0.5}}
    (tmp_path / "run" / "card.json").write_text(json.dumps(card))
    for label, count in (("happy", 8), ("angry", 4)):
        (tmp_path / "moods" / label).mkdir(parents=True)
        for number in range(count):
            Image.new("L", (60, 60), 10 * number).save(tmp_path / "moods" / label / f"{number}.png")
    return tmp_path


class _Blind:
    def detect(self, image):
        return []


def test_expression_prints_a_table_and_writes_json_and_plots(run, moods):
    result = run(
        "expression", "--model", moods / "run", "--data", moods / "moods", "--json", moods / "out.json",
        "--plots", moods / "plots",
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("moods, all: 12 pictures, 2 classes by expression, run-1-")
    assert lines[1].split()[:3] == ["accuracy", "66.67", "%"]
    assert any(line.startswith("F1 of happiness (8)") and "80.00 %" in line for line in lines)
    assert any(line.startswith("no face found") and "12 of 12 pictures" in line for line in lines)
    record = json.loads((moods / "out.json").read_text())
    assert record["schema"] == "mien/evaluation-expression/1" and record["not_found"] == record["n"] == 12
    assert record["ece"] == pytest.approx(8 / 9 - 2 / 3)
    assert {path.name for path in (moods / "plots").iterdir()} == {"confusion.png", "reliability.png"}


def test_expression_says_what_is_left_out(run, moods):
    (moods / "moods" / "surprised").mkdir()
    (moods / "moods" / "surprised" / "x.png").write_bytes((moods / "moods" / "happy" / "1.png").read_bytes())
    (moods / "moods" / "happy" / "broken.png").write_text("no picture")

    result = run("expression", "--model", moods / "run", "--data", moods / "moods", "--no-leaks", "--json", "-")

    record = json.loads(result.stdout)
    assert record["left_out"] == {"surprise": 1} and record["leaks_left_out"] == 0 and record["n"] == 12
    assert "does not know surprise (1)" in result.stderr
    assert result.exit_code == 1 and "1 picture could not be read; left out" in result.stderr


def test_expression_wants_a_model_of_expressions(run, moods):
    (moods / "run" / "card.json").write_text(json.dumps({"role": "embedder", "convention": {}}))

    with pytest.raises(UsageError, match="of role embedder, expected a model of role expression"):
        run("expression", "--model", moods / "run", "--data", moods / "moods")
