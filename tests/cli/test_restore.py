import json

import numpy as np
import pytest
from click.testing import CliRunner

from mien.cli import restore as commands
from mien.cli.work import restore as work
from mien.drawing import draw_scene
from mien.errors import ImageError, UsageError
from mien.images import load_image, save_image
from mien.types import Box, Face
from vision.restorers import ADDED, save_restorer


@pytest.fixture(scope="module")
def scene():
    return draw_scene([1, 2], width=400, height=240)


@pytest.fixture
def model(tmp_path):
    return save_restorer(tmp_path / "models" / "tiny")


@pytest.fixture(autouse=True)
def found(scene, monkeypatch):
    """In pictures of the scene's size its faces are found."""

    class Finder:
        def analyze(self, image, embed=True):
            if image.shape != scene.image.shape:
                return []
            return [Face(Box(*face.box.as_tuple()), face.landmarks.astype(np.float32), 0.9) for face in scene.faces]

    monkeypatch.setattr(work, "make_analyzer", Finder)


@pytest.fixture
def pictures(tmp_path, scene):
    folder = tmp_path / "pictures"
    folder.mkdir()
    save_image(folder / "a.png", scene.image)
    save_image(folder / "nobody.png", np.full((50, 60, 3), 90, np.uint8))
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def run(command, *arguments):
    result = CliRunner().invoke(getattr(commands, command), [*map(str, arguments)], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


def test_a_folder_is_restored_into_a_folder_and_a_bad_file_is_reported(pictures, tmp_path, scene, model):
    result = run("restore", pictures, "-o", tmp_path / "out", "--model", model)
    assert result.return_value == 1 and "1 failed" in result.stderr and "broken.jpg" in result.stderr
    assert "2 faces restored" in result.stdout and "no face was restored" in result.stdout
    done = load_image(tmp_path / "out" / "a.png")
    x, y = scene.faces[0].landmarks[2].astype(int)
    assert done[y, x].astype(int) - scene.image[y, x] == pytest.approx(ADDED, abs=1)
    assert np.array_equal(load_image(tmp_path / "out" / "nobody.png"), load_image(pictures / "nobody.png"))


def test_clean_faces_are_left_alone_and_that_is_said(pictures, tmp_path, model, scene):
    result = run("restore", pictures / "a.png", "-o", tmp_path / "out.png", "--model", model, "--gate", "50")
    assert "2 faces left alone, under the gate" in result.stdout
    assert np.array_equal(load_image(tmp_path / "out.png"), scene.image)


def test_what_was_done_comes_as_json_and_as_a_sheet(pictures, tmp_path, model):
    result = run(
        "restore", pictures / "a.png", "-o", tmp_path / "out.png", "--model", model, "--json", "--sheet",
        tmp_path / "sheet.png",
    )  # fmt: skip
    row = json.loads(result.stdout)
    assert row["schema"] == "mien/restoration/1" and len(row["faces"]) == 2
    assert row["faces"][0]["damage"] == pytest.approx(ADDED, abs=0.5)
    assert load_image(tmp_path / "sheet.png").shape[0] > 200


def test_a_mask_given_as_a_picture_says_what_is_filled_in(pictures, tmp_path, model, scene):
    mask = np.zeros(scene.image.shape, np.uint8)
    x, y = scene.faces[0].landmarks[3].astype(int)
    mask[y - 8 : y + 8, x - 8 : x + 8] = 255
    save_image(tmp_path / "mask.png", mask)
    result = run(
        "restore", pictures / "a.png", "-o", tmp_path / "out.png", "--model", model, "--mask", tmp_path / "mask.png"
    )
    assert "of a face filled in" in result.stdout
    with pytest.raises(UsageError, match="of the size of its picture"):
        run(
            "restore",
            pictures / "nobody.png",
            "-o",
            tmp_path / "o.png",
            "--model",
            model,
            "--mask",
            tmp_path / "mask.png",
        )


def test_classical_methods_work_without_a_model(pictures, tmp_path):
    assert (
        "2 faces restored" in run("restore", pictures / "a.png", "-o", tmp_path / "out.png", "--by", "unsharp").stdout
    )
    with pytest.raises(UsageError, match="fills nothing in"):
        run("restore", pictures / "a.png", "-o", tmp_path / "out.png", "--by", "clahe", "--mask", "mouth")


def test_a_larger_picture_has_its_faces_where_they_belong(pictures, tmp_path, model, scene):
    run("enhance", pictures / "a.png", "-o", tmp_path / "out.png", "--model", model, "--scale", "2")
    done = load_image(tmp_path / "out.png")
    assert done.shape[:2] == (480, 800)
    x, y = (2 * scene.faces[0].landmarks[2]).astype(int)
    assert done[y, x].astype(int) - scene.image[y // 2, x // 2] == pytest.approx(ADDED, abs=6)


def test_enhancing_nothing_is_refused(pictures, tmp_path):
    with pytest.raises(UsageError, match="nothing to do"):
        run("enhance", pictures / "a.png", "-o", tmp_path / "out.png", "--no-faces")
    run("enhance", pictures / "a.png", "-o", tmp_path / "out.png", "--no-faces", "--light", "--sharpen")


def test_without_a_word_the_shipped_network_restores(pictures, tmp_path, scene):
    rng = np.random.default_rng(0)
    noisy = np.clip(scene.image + rng.normal(0, 25, scene.image.shape), 0, 255).astype(np.uint8)
    save_image(pictures / "noisy.png", noisy)

    assert "2 faces restored" in run("restore", pictures / "noisy.png", "-o", tmp_path / "out.png").stdout

    x, y = scene.faces[0].landmarks[2].astype(int)
    face = np.s_[y - 10 : y + 10, x - 10 : x + 10]
    far = [np.abs(image[face].astype(int) - scene.image[face]).mean() for image in
           (noisy, load_image(tmp_path / "out.png"))]  # fmt: skip
    assert far[1] < 0.7 * far[0]


def test_wrong_options_are_refused_in_one_line(pictures, tmp_path, model):
    with pytest.raises(UsageError, match="into one file"):
        run("restore", pictures, "-o", tmp_path / "out.png", "--model", model)
    with pytest.raises(UsageError, match="over itself"):
        run("restore", pictures / "a.png", "-o", pictures / "a.png", "--model", model)
    with pytest.raises(UsageError, match="--gate is auto"):
        run("restore", pictures / "a.png", "-o", tmp_path / "o.png", "--model", model, "--gate", "much")
    with pytest.raises(UsageError, match="there is no file"):
        run("restore", pictures / "a.png", "-o", tmp_path / "o.png", "--model", model, "--mask", "hat")
    with pytest.raises(UsageError, match="--by is one of"):
        run("restore", pictures / "a.png", "-o", tmp_path / "o.png", "--model", model, "--by", "magic")
    with pytest.raises(ImageError, match="broken"):
        run("restore", pictures / "broken.jpg", "-o", tmp_path / "o.png", "--model", model)
