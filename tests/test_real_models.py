"""The real pipeline on a public-domain portrait and on drawn faces."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from mien.alignment import TEMPLATES
from mien.analyzer import Analyzer, main_face
from mien.cli.analyze import analyze
from mien.drawing import draw_face, draw_scene
from mien.images import save_image
from mien.matching import verify

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def analyzer(portrait):
    return Analyzer()


def eye_distance(landmarks):
    return np.linalg.norm(landmarks[1] - landmarks[0])


@pytest.mark.parametrize("detector", ["auto", "fast", "accurate", "centerface"])
def test_the_astronaut_has_one_face_where_it_is(portrait, detector):
    (face,) = Analyzer(detector=detector).analyze(portrait, embed=False)

    # Read off the picture by eye.
    eyes_nose_mouth = np.array([[203, 99], [246, 103], [222, 123], [204, 141], [240, 145]])
    assert np.abs(face.landmarks - eyes_nose_mouth).max() < 6
    assert face.quality.score > 0.5 and not face.quality.reasons


@pytest.mark.parametrize("side", [80, 240, 900], ids=lambda side: f"{side} px")
def test_landmarks_of_drawn_faces_are_near_the_drawn_ones(analyzer, side):
    errors = []
    for subject in range(8):
        drawn = draw_face(subject, side=side)
        face = main_face(analyzer.analyze(drawn.image, embed=False), side, side)
        assert face is not None, f"drawn subject {subject} was not found"
        errors.append(np.linalg.norm(face.landmarks - drawn.landmarks, axis=1).mean() / eye_distance(drawn.landmarks))

    assert np.mean(errors) < 0.15


def test_everybody_in_a_drawn_scene_is_found(analyzer):
    scene = draw_scene([1, 2, 3, 4], width=800, height=600, seed=1)

    found = analyzer.analyze(scene.image, embed=False)

    def is_near(drawn, face):
        return np.linalg.norm(face.landmarks - drawn.landmarks, axis=1).mean() < 0.3 * eye_distance(drawn.landmarks)

    assert all(any(is_near(drawn, face) for face in found) for drawn in scene.faces)
    assert len(found) == len(scene.faces)


def test_one_subject_drawn_twice_is_more_alike_than_two_subjects(analyzer):
    def embed(subject, seed):
        image = draw_face(subject, side=240, seed=seed).image
        return main_face(analyzer.analyze(image), 240, 240).embedding.vector

    first = np.stack([embed(subject, 0) for subject in range(6)])
    second = np.stack([embed(subject, 1) for subject in range(6)])

    scores = first @ second.T
    mated, others = np.diag(scores), scores[~np.eye(6, dtype=bool)]
    assert mated.mean() > others.mean() + 2 * others.std()


def test_the_portrait_matches_its_mirror_image_and_no_drawn_face(analyzer, portrait):
    mirrored = np.ascontiguousarray(portrait[:, ::-1])
    drawn = draw_face(3, side=240).image

    assert verify(portrait, mirrored, fmr=1e-3, analyzer=analyzer).match
    different = verify(portrait, drawn, fmr=1e-3, analyzer=analyzer)
    assert not different.match and different.probability < 0.5


def test_the_crop_has_the_eyes_where_the_template_has_them(analyzer, portrait):
    (face,) = analyzer.analyze(portrait, crops=True)
    side, points = TEMPLATES[analyzer.card.convention["template"]]

    # Found again in its own crop, padded so that the detector sees a face with some room.
    padded = np.pad(face.crop, ((side, side), (side, side), (0, 0)), mode="edge")
    again = main_face(analyzer.analyze(padded, embed=False), *padded.shape[1::-1])

    assert np.abs(again.landmarks - side - np.array(points))[:2].max() < 0.06 * side


def test_looking_for_small_faces_loses_no_large_one(portrait):
    scene = draw_scene([1, 2, 3], width=2400, height=1800, seed=0)
    image = scene.image.copy()
    image[1200:1230, 1100:1130] = draw_face(5, side=30).image

    usual = Analyzer().analyze(image, embed=False)
    small = Analyzer(min_face=10).analyze(image, embed=False)

    assert len(usual) == 3 and len(small) == 4
    assert [face.box.side > 250 for face in small] == [True, True, True, False]
    assert np.abs(small[3].landmarks.mean(axis=0) - [1115, 1218]).max() < 4


def test_a_folder_goes_through_the_command(portrait, tmp_path):
    save_image(tmp_path / "astronaut.png", portrait)
    save_image(tmp_path / "drawn.jpg", draw_scene([1, 2], width=640, height=480, seed=0).image)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")

    result = CliRunner().invoke(analyze, ["--json", "--embeddings", str(tmp_path)], standalone_mode=False)

    pictures = json.loads(result.stdout)["pictures"]
    assert [len(p.get("faces", ())) for p in pictures] == [1, 0, 2] and "damaged" in pictures[1]["error"]
    assert result.return_value == 1 and "3 pictures: 3 faces, 1 failed" in result.stderr
    norms = [np.linalg.norm(face["embedding"]["vector"]) for p in pictures for face in p.get("faces", ())]
    assert norms == pytest.approx([1] * 3, abs=1e-5)


def test_attributes_of_the_astronaut_are_those_of_a_smiling_woman_of_about_thirty(portrait):
    (face,) = Analyzer(attributes=True, expression=None).analyze(portrait, embed=False)

    seen = face.attributes
    assert seen.left_eye.open and seen.right_eye.open and seen.mouth.open
    assert 20 < seen.age.years < 50 and seen.age.error is not None
    assert seen.gender.label == "female" and seen.mesh_score > 0.99
    eyes = [seen.mesh[list(corners), :2].mean(axis=0) for corners in ((33, 133), (263, 362))]
    assert np.abs(np.array(eyes) - face.landmarks[:2]).max() < 6


@pytest.mark.parametrize(("yaw", "roll"), [(30.0, 0.0), (-30.0, 0.0), (0.0, 20.0)])
def test_the_pose_follows_a_drawn_head(yaw, roll):
    image = draw_face(3, side=320, yaw=yaw, roll=roll).image
    (face,) = Analyzer(attributes=True, expression=None).analyze(image, embed=False)

    assert abs(face.attributes.pose.yaw - yaw) < 12 and abs(face.attributes.pose.roll - roll) < 6


def test_a_mesh_lies_on_the_picture_that_was_stored_turned(portrait):
    turned = np.ascontiguousarray(np.rot90(portrait, 1))
    analyzer = Analyzer(attributes=True, expression=None)
    (straight,), (other,) = (analyzer.analyze(image, embed=False) for image in (portrait, turned))

    assert other.turn == 90
    # Turned counterclockwise by a quarter, (x, y) is at (y, width - 1 - x).
    x, y = straight.attributes.mesh[:, 0], straight.attributes.mesh[:, 1]
    expected = np.stack([y, portrait.shape[1] - 1 - x], axis=1)
    assert np.abs(other.attributes.mesh[:, :2] - expected).mean() < 2
