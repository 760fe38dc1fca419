import json
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from click.testing import CliRunner

from mien.anonymizer import AnonymousFace, AnonymousPicture
from mien.cli import anonymize as commands
from mien.errors import ImageError, UsageError
from mien.images import load_image, save_image


class Worker:
    """Stands in for `mien.anonymizer.Anonymizer`: dark pictures hold nobody, bright ones a face that still matches."""

    verify, threshold = True, 0.8
    asked: ClassVar = []

    def __init__(self, analyzer, generator, **options):
        Worker.asked.append(options)

    def anonymize(self, image, *, name, people):
        if image.mean() < 20:
            return AnonymousPicture(image, ())
        similarity = 0.9 if image.mean() > 200 else 0.3
        face = AnonymousFace("generate", similarity=similarity, expression_before="neutral", expression_after="neutral")
        small = AnonymousFace("mosaic", fell_back=True, similarity=0.1)
        return AnonymousPicture(255 - image, (face, small))


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    Worker.asked = []
    monkeypatch.setattr("mien.anonymizer.Anonymizer", Worker)
    monkeypatch.setattr("mien.vision.generator.Generator", lambda name: SimpleNamespace(name=name))
    monkeypatch.setattr(commands, "make_analyzer", lambda **_: SimpleNamespace(analyze=lambda image: []))


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, level in (("a.png", 100), ("nobody.png", 5)):
        save_image(folder / name, np.full((40, 50, 3), level, np.uint8))
    return folder


def run(*arguments):
    result = CliRunner().invoke(commands.anonymize, [*map(str, arguments)], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


def test_a_folder_is_anonymised_and_a_picture_without_a_face_is_not_written(pictures, tmp_path):
    result = run(pictures, "-o", tmp_path / "out")
    assert result.return_value == 0 and (load_image(tmp_path / "out" / "a.png") == 155).all()
    assert not (tmp_path / "out" / "nobody.png").exists() and "no face was found, not written" in result.stderr
    assert "2 faces replaced, 1 by a mosaic" in result.stderr and "expression kept in 1 of 1" in result.stderr
    assert "at most 0.30 (a match from 0.80)" in result.stdout
    run(pictures, "-o", tmp_path / "all", "--keep-faceless")
    assert (tmp_path / "all" / "nobody.png").exists()


def test_a_bad_file_is_reported_and_the_rest_is_done(pictures, tmp_path):
    (pictures / "broken.jpg").write_bytes(b"no picture")
    result = run(pictures, "-o", tmp_path / "out")
    assert result.return_value == 1 and "broken.jpg" in result.stderr and (tmp_path / "out" / "a.png").exists()
    with pytest.raises(ImageError):
        run(pictures / "broken.jpg", "-o", tmp_path / "o.png")


def test_a_face_that_still_matches_ends_with_status_1(pictures, tmp_path):
    save_image(pictures / "bright.png", np.full((40, 50, 3), 230, np.uint8))
    result = run(pictures, "-o", tmp_path / "out")
    assert result.return_value == 1 and "1 still matching" in result.stderr


def test_no_data_about_the_camera_or_the_place_is_copied(tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x010F] = "A camera"
    Image.new("RGB", (40, 50), (99, 99, 99)).save(tmp_path / "with.jpg", exif=exif)
    run(tmp_path / "with.jpg", "-o", tmp_path / "out.jpg")
    assert Image.open(tmp_path / "with.jpg").getexif() and not Image.open(tmp_path / "out.jpg").getexif()


def test_a_key_is_made_for_its_owner_only_and_used_again(pictures, tmp_path):
    key = tmp_path / "secret.key"
    made = run(pictures, "-o", tmp_path / "out", "--consistent", key)
    assert "was made" in made.stderr and key.stat().st_mode & 0o077 == 0 and len(key.read_bytes()) == 32
    assert "was made" not in run(pictures, "-o", tmp_path / "out2", "--consistent", key).stderr
    assert Worker.asked[0]["secret"] == Worker.asked[1]["secret"] == key.read_bytes()
    (tmp_path / "short").write_bytes(b"short")
    with pytest.raises(UsageError, match="holds 5 bytes"):
        run(pictures, "-o", tmp_path / "out3", "--consistent", tmp_path / "short")


def test_what_was_done_comes_as_json(pictures, tmp_path):
    row = json.loads(run(pictures / "a.png", "-o", tmp_path / "o.png", "--json").stdout)
    assert row["schema"] == "mien/anonymization/1" and [face["mode"] for face in row["faces"]] == ["generate", "mosaic"]
