"""`mien generate`, `encode`, `decode` and `edit` with tiny linear networks."""

import csv
import errno
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from mien.cli import generate as commands
from mien.data.samples import read_samples
from mien.drawing import draw_face
from mien.errors import ImageError, ModelError, UsageError
from mien.images import load_image, save_image
from mien.vision.detector import Detection
from mien.vision.generator import Generator
from processes import start
from squares import filled_store, store  # noqa: F401
from vision.generators import LABELS, LATENTS, SIDE, save_generator

TESTS = Path(__file__).parent.parent


@pytest.fixture
def vae(tmp_path):
    components = ((0, 0.4), (1, 0.3), (2, 0.3))
    means = 2 * np.eye(LATENTS)[:3]
    return save_generator(tmp_path / "vae", kind="vae", labels=LABELS, components=components, means=means, encoder=True)


@pytest.fixture
def gan(tmp_path):
    return save_generator(tmp_path / "gan", labels=LABELS)


@pytest.fixture
def portrait(tmp_path, monkeypatch):
    """A picture whose face is found and shows happiness."""
    drawn = draw_face(3, side=180)
    face = Detection(drawn.box, drawn.landmarks.astype(np.float32), 0.9)
    detector = SimpleNamespace(detect=lambda image: [face] if image.shape == drawn.image.shape else [])
    monkeypatch.setattr("mien.vision.generator.patient_detector", lambda: detector)
    outcome = SimpleNamespace(probabilities={"happiness": 0.7, "neutral": 0.3})
    reader = SimpleNamespace(read=lambda *_: [outcome])
    monkeypatch.setattr("mien.vision.generator.ExpressionReader", lambda card, *, threads: reader)
    save_image(tmp_path / "portrait.png", drawn.image)
    return tmp_path / "portrait.png"


def run(command, *arguments):
    result = CliRunner().invoke(getattr(commands, command), [*map(str, arguments)], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


def rows(folder):
    with (folder / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Sheets


def test_a_sheet_shows_all_pictures_enlarged_by_whole_multiples(gan, tmp_path):
    result = run("generate", "--model", gan, "-n", 12, "-o", tmp_path / "sheet.png")

    sheet = load_image(tmp_path / "sheet.png")
    gap = 8
    assert sheet.shape == (3 * (96 + gap) + gap, 4 * (96 + gap) + gap, 3)
    first = Generator(gan).generate(1)[0]
    middle = sheet[gap + 48, gap + 48].astype(int)
    assert np.abs(middle - first[SIDE // 2 - 1 : SIDE // 2 + 1, SIDE // 2 - 1 : SIDE // 2 + 1]).max() < 60
    assert "12 pictures by gan" in result.stdout


def test_a_sheet_of_all_expressions_has_a_named_row_each(gan, tmp_path):
    run("generate", "--model", gan, "-n", 6, "-o", tmp_path / "plain.png", "--expression", "happiness")
    result = run("generate", "--model", gan, "-n", 7, "-o", tmp_path / "all.png", "--expression", "all")

    assert "6 pictures" in result.stdout
    height, width, _ = load_image(tmp_path / "all.png").shape
    assert height == 3 * 104 + 8 and width > 2 * 104 + 8 + 40


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (8, 4), (64, 8), (60, 10), (7, 3)])
def test_the_last_row_is_full_where_that_is_possible(gan, tmp_path, count, columns):
    run("generate", "--model", gan, "-n", count, "-o", tmp_path / "sheet.png")

    rows = -(-count // columns)
    assert load_image(tmp_path / "sheet.png").shape[:2] == (rows * 104 + 8, columns * 104 + 8)


def test_the_way_between_two_seeds_is_one_row_or_a_folder(gan, tmp_path):
    run("generate", "--model", gan, "--between", 1, 2, "--steps", 5, "-o", tmp_path / "way.png")
    run("generate", "--model", gan, "--between", 1, 2, "--steps", 5, "-o", tmp_path / "way")

    assert load_image(tmp_path / "way.png").shape[:2] == (96 + 16, 5 * 104 + 8)
    assert sorted(path.name for path in (tmp_path / "way").iterdir()) == [f"{k:04d}.png" for k in range(5)]


def test_the_way_between_two_seeds_as_a_gif_goes_there_and_back(gan, tmp_path):
    run("generate", "--model", gan, "--between", 1, 2, "--steps", 6, "-o", tmp_path / "way.gif")

    with Image.open(tmp_path / "way.gif") as way:
        assert way.n_frames == 10 and way.size[0] == way.size[1] and way.info["loop"] == 0
    with pytest.raises(UsageError, match="-o takes a sheet"):
        run("generate", "--model", gan, "-o", tmp_path / "other.gif")
    with pytest.raises(UsageError, match="Cannot write"):
        run("generate", "--model", gan, "--between", 1, 2, "-o", tmp_path / "none" / "way.gif")


def test_a_clip_of_an_expression_is_a_folder_of_frames_or_moves(vae, tmp_path):
    run("generate", "--model", vae, "--clip", "--expression", "surprise", "--steps", 5, "-o", tmp_path / "clip")
    run("generate", "--model", vae, "--clip", "--expression", "surprise", "--steps", 5, "-o", tmp_path / "clip.gif")

    assert [file.name for file in sorted((tmp_path / "clip").iterdir())] == [f"{n:04d}.png" for n in range(5)]
    with Image.open(tmp_path / "clip.gif") as moving:
        assert moving.n_frames == 4  # there in three, and back
    with pytest.raises(UsageError, match="--clip goes with --expression NAME"):
        run("generate", "--model", vae, "--clip", "-o", tmp_path / "x.gif")
    with pytest.raises(UsageError, match="--steps says"):
        run("generate", "--model", vae, "--clip", "--expression", "surprise", "-n", 5, "-o", tmp_path / "x.gif")


def test_the_way_between_two_pictures_is_a_vaes(vae, gan, portrait, tmp_path):
    run("generate", "--model", vae, "--between", portrait, portrait, "-o", tmp_path / "way")

    frames = [load_image(path) for path in sorted((tmp_path / "way").iterdir())]
    assert len(frames) == 8 and all(np.array_equal(frame, frames[0]) for frame in frames)
    with pytest.raises(ModelError, match="has no encoder"):
        run("generate", "--model", gan, "--between", portrait, portrait, "-o", tmp_path / "no")


# Folders


def test_a_folder_is_labelled_data_to_learn_from(gan, tmp_path):
    run("generate", "--model", gan, "-n", 20, "-o", tmp_path / "out", "--seed", 3, "--expression", "all")

    listed = rows(tmp_path / "out")
    assert [row["label"] for row in listed] == [LABELS[k % 3] for k in range(20)]
    assert listed[4]["file"] == "happiness/0000004.png" and listed[4]["seed"] == "3" and listed[4]["number"] == "4"
    assert listed[0]["model"].startswith("gan-1-")
    assert all((tmp_path / "out" / row["file"]).stat().st_size == int(row["bytes"]) for row in listed)
    samples = read_samples(tmp_path / "out")
    assert len(samples) == 20 and set(samples.targets["expression"].classes) == set(LABELS)
    expected = Generator(gan).generate(20, seed=3, expression=LABELS)
    assert all(np.array_equal(samples.picture(k), expected[k]) for k in range(20))


def test_a_model_without_expressions_fills_one_folder(tmp_path):
    run("generate", "--model", save_generator(tmp_path / "bare"), "-n", 3, "-o", tmp_path / "out")

    assert [row["file"] for row in rows(tmp_path / "out")] == [f"faces/000000{k}.png" for k in range(3)]
    assert "label" not in rows(tmp_path / "out")[0]
    assert len(read_samples(tmp_path / "out")) == 3


def test_a_folder_goes_on_where_it_was_stopped(gan, tmp_path):
    run("generate", "--model", gan, "-n", 30, "-o", tmp_path / "whole")
    run("generate", "--model", gan, "-n", 13, "-o", tmp_path / "part")
    with (tmp_path / "part" / "manifest.csv").open("a") as file:
        file.write("neutral/00000")  # a row torn by a kill
    (tmp_path / "part" / "neutral" / ".mien-abc.png").write_bytes(b"half")

    result = run("generate", "--model", gan, "-n", 30, "-o", tmp_path / "part")

    assert "13 pictures are there already" in result.stderr
    assert contents(tmp_path / "part") == contents(tmp_path / "whole")
    assert "30 pictures" in run("generate", "--model", gan, "-n", 10, "-o", tmp_path / "part").stdout


def test_another_call_or_other_files_are_not_mixed_in(gan, tmp_path):
    run("generate", "--model", gan, "-n", 3, "-o", tmp_path / "out")
    before = contents(tmp_path / "out")

    with pytest.raises(UsageError, match="pictures of another call: seed 0, here 1"):
        run("generate", "--model", gan, "-n", 3, "-o", tmp_path / "out", "--seed", 1)
    with pytest.raises(UsageError, match="holds other files"):
        run("generate", "--model", gan, "-n", 3, "-o", gan)
    assert contents(tmp_path / "out") == before


def test_a_full_disk_is_one_line_and_the_call_can_go_on(gan, tmp_path, monkeypatch):
    from mien import images

    real, left = images.write_whole, [10]

    def write(path, data):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data)

    monkeypatch.setattr("mien.cli.work.generate.write_whole", write)
    with pytest.raises(UsageError, match=r"No space left on device. 8 pictures are there. Free some space"):
        run("generate", "--model", gan, "-n", 20, "-o", tmp_path / "out")
    left[0] = 100
    run("generate", "--model", gan, "-n", 20, "-o", tmp_path / "out")

    assert len(rows(tmp_path / "out")) == 20


def background(gan, out, count):
    process = start([sys.executable, "-m", "mien", "generate", "--model", gan, "-n", count, "-o", out])
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not ((out / "manifest.csv").exists() and len(rows(out)) > 50):
        time.sleep(0.02)
    return process


@pytest.mark.slow
def test_killed_in_the_middle_it_comes_to_the_same_folder(gan, tmp_path):
    process = background(gan, tmp_path / "killed", 100_000)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = len(rows(tmp_path / "killed"))
    run("generate", "--model", gan, "-n", done + 20, "-o", tmp_path / "killed")
    run("generate", "--model", gan, "-n", done + 20, "-o", tmp_path / "whole")

    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT for another process")
@pytest.mark.slow
def test_ctrl_c_ends_it_cleanly_with_130(gan, tmp_path):
    process = background(gan, tmp_path / "out", 100_000)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)

    assert process.returncode == 130, told
    assert "Stopped" in told and "Traceback" not in told
    listed = rows(tmp_path / "out")
    assert listed and all((tmp_path / "out" / row["file"]).stat().st_size == int(row["bytes"]) for row in listed)


def test_scores_stand_in_the_manifest(gan, tmp_path, monkeypatch):
    found = iter([SimpleNamespace(score=0.5), None])
    monkeypatch.setattr("mien.cli.work.generate.find_face", lambda image, detector: next(found))
    reader = SimpleNamespace(read=lambda image, faces: [SimpleNamespace(label="fear")])
    monkeypatch.setattr("mien.cli.work.generate.patient_detector", lambda: None)
    monkeypatch.setattr("mien.cli.work.generate.ExpressionReader", lambda card: reader)

    run("generate", "--model", gan, "-n", 2, "-o", tmp_path / "out", "--scores")

    assert [(row["face"], row["seen"]) for row in rows(tmp_path / "out")] == [("0.5", "fear"), ("0.0", "")]


# Latents


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_latents_come_back_as_pictures(vae, portrait, tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    file = tmp_path / f"latents{suffix}"
    second = tmp_path / "second.png"
    second.write_bytes(portrait.read_bytes())
    result = run("encode", portrait, second, "--model", vae, "-o", file)
    run("decode", file, "--model", vae, "-o", tmp_path / "out")
    run("decode", file, "--model", vae, "-o", tmp_path / "neutral", "--expression", "neutral")
    run("decode", file, "--model", vae, "-o", tmp_path / "sheet.png")

    generator = Generator(vae)
    latents = generator.encode([portrait])
    assert "latents of 2 faces, 6 each" in result.stdout
    assert [row["label"] for row in rows(tmp_path / "out")] == ["happiness"] * 2
    made = load_image(tmp_path / "out" / "happiness" / "0000001.png")
    assert np.array_equal(made, generator.decode(latents, expression="happiness")[0])
    assert (tmp_path / "neutral" / "neutral" / "0000000.png").is_file() and (tmp_path / "sheet.png").is_file()


def test_pictures_without_a_face_are_named_and_the_others_written(vae, portrait, tmp_path):
    save_image(tmp_path / "blank.png", np.full((50, 60, 3), 90, np.uint8))
    result = run("encode", tmp_path / "blank.png", portrait, "--model", vae, "-o", tmp_path / "l.npz")

    assert result.return_value == 1 and "No face was found in" in result.stderr and "1 failed" in result.stdout
    assert len(np.load(tmp_path / "l.npz")["latents"]) == 1
    with pytest.raises(ImageError, match="nothing was written"):
        run("encode", tmp_path / "blank.png", "--model", vae, "-o", tmp_path / "none.npz")


def test_a_file_that_holds_no_latents_is_refused(vae, gan, portrait, tmp_path):
    run("encode", portrait, "--model", vae, "-o", tmp_path / "l.npz")
    (tmp_path / "broken.npz").write_bytes((tmp_path / "l.npz").read_bytes()[:100])
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")

    for name in ("broken.npz", "other.csv"):
        with pytest.raises(UsageError, match="holds no latents of `mien encode`, or is damaged"):
            run("decode", tmp_path / name, "--model", vae, "-o", tmp_path / "out")
    with pytest.raises(UsageError, match="These latents are of 'vae-1-"):
        run("decode", tmp_path / "l.npz", "--model", gan, "-o", tmp_path / "out")
    with pytest.raises(UsageError, match=r"got 'l\.txt'"):
        run("encode", portrait, "--model", vae, "-o", "l.txt")
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        run("decode", tmp_path / "gone.npz", "--model", vae, "-o", tmp_path / "out")


# Editing


def test_an_edit_writes_before_and_after_or_the_whole_picture(vae, portrait, tmp_path, store, monkeypatch):  # noqa: F811
    monkeypatch.setattr("mien.zoo.default", lambda role: "tiny")
    arguments = (portrait, "--model", vae, "--expression", "surprise")
    told = run("edit", *arguments, "-o", tmp_path / "a.png")
    facts = json.loads(run("edit", *arguments, "-o", tmp_path / "b.png", "--paste", "--json").stdout)
    run("edit", portrait, "--model", vae, "--expression", "all", "-o", tmp_path / "c.png")

    assert "happiness to surprise" in told.stdout and "identity" in told.stdout
    assert facts["shown"] == "happiness" and facts["edits"][0]["expression"] == "surprise"
    assert load_image(tmp_path / "b.png").shape == load_image(portrait).shape
    assert load_image(tmp_path / "a.png").shape[1] < load_image(tmp_path / "c.png").shape[1] * 2


# What is refused


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-o", "x.tiff"), "-o takes a sheet"),
        (("-o", "x.png", "-n", 0), "1 or more, got 0"),
        (("-o", "x.png", "-n", 5000), "at most 4096 pictures, got 5000. Name a folder"),
        (("-o", "x.png", "--expression", "joy"), "got 'joy'"),
        (("-o", "folder", "--expression", "joy"), "got 'joy'"),
        (("-o", "x.png", "--like", "p.png"), "cannot be told the face to be like"),
        (("-o", "x.png", "--scores"), "manifest of a folder"),
        (("-o", "x.png", "--between", 1, 2, "--prior", "normal"), "--between goes with"),
        (("-o", "x.png", "--prior", "fitted"), "has no fitted prior"),
    ],
)
def test_what_cannot_be_made_is_one_line_and_leaves_nothing(gan, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)

    with pytest.raises((UsageError, ModelError), match=words):
        run("generate", "--model", gan, *arguments)
    assert contents(tmp_path) == before and not Path("folder").exists()


def test_a_generator_is_to_be_named_where_none_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setattr("mien.zoo.defaults", lambda: {})

    with pytest.raises(UsageError, match="Name a generator: --model RUN"):
        run("generate", "-o", tmp_path / "x.png")
