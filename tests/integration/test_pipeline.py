"""The shipped models together: do the detectors agree, and is the batch the same as one by one."""

import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from mien import zoo
from mien.analyzer import DETECTORS, Analyzer
from mien.drawing import draw_face, draw_scene
from mien.images import load_image, save_image
from mien.vision.embedder import Embedder

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def folder(portrait, tmp_path_factory):
    """Pictures of several sizes with no, one and many faces."""
    folder = tmp_path_factory.mktemp("pictures")
    save_image(folder / "portrait.png", portrait)
    save_image(folder / "turned.png", np.ascontiguousarray(portrait.transpose(1, 0, 2)))
    save_image(folder / "nobody.png", np.full((300, 200, 3), 120, np.uint8))
    save_image(folder / "crowd.png", draw_scene(range(9), width=1200, height=900, seed=2).image)
    for subject in range(4):
        save_image(folder / f"subject-{subject}.png", draw_face(subject, side=150 + 60 * subject).image)
    return sorted(folder.iterdir())


def facts(faces):
    return [
        (face.box.as_tuple(), face.landmarks.tolist(), face.score, face.quality.score, face.embedding.vector.tolist())
        for face in faces
    ]


def test_the_detectors_agree_on_a_portrait(portrait):
    faces = {name: Analyzer(detector=name).analyze(portrait) for name in DETECTORS}

    assert {name: len(found) for name, found in faces.items()} == dict.fromkeys(DETECTORS, 1)
    (auto,), others = faces["auto"], [faces["fast"][0], faces["accurate"][0]]
    for other in others:
        # In parts of the face's side, and as the embedder sees it.
        assert np.abs(other.landmarks - auto.landmarks).max() < 0.06 * auto.box.side
        assert np.abs(np.subtract(other.box.as_tuple(), auto.box.as_tuple())).max() < 0.06 * auto.box.side
        assert other.embedding.vector @ auto.embedding.vector > 0.98


@pytest.mark.parametrize("factor", [2, 4])
def test_a_reduced_portrait_is_still_the_same_person(portrait, factor):
    import cv2

    small = cv2.resize(portrait, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    analyzer = Analyzer()

    (large_face,), (small_face,) = analyzer.analyze(portrait), analyzer.analyze(small)

    assert np.abs(small_face.landmarks * factor - large_face.landmarks).max() < 0.05 * large_face.box.side
    assert small_face.embedding.vector @ large_face.embedding.vector > 0.9


def test_half_precision_embeddings_are_those_of_single_precision(portrait, pulled):
    pulled("dlib-resnet29-fp16")
    full, half = (Embedder(zoo.card(name)) for name in ("dlib-resnet29", "dlib-resnet29-fp16"))
    pictures = [portrait, *(draw_face(subject, side=300).image for subject in range(8))]
    analyzer = Analyzer(embedder="dlib-resnet29")
    crops = np.stack([analyzer.analyze(picture, crops=True)[0].crop for picture in pictures])

    cosines = (full.embed(crops) * half.embed(crops)).sum(axis=1)

    assert cosines.min() > 0.999 and full.card.id != half.card.id


def test_a_folder_gives_what_its_pictures_give_one_by_one_up_to_rounding(folder):
    single = Analyzer(threads=1)

    batch = [picture.faces for picture in single.pictures(folder)]
    alone = [single.analyze(load_image(path)) for path in folder]

    assert [len(found) for found in batch] == [len(found) for found in alone]
    for a, b in zip(itertools.chain(*batch), itertools.chain(*alone), strict=True):
        assert a.box == b.box and (a.landmarks == b.landmarks).all() and a.quality.score == b.quality.score
        # Faces of several pictures are embedded together, and sums in another order round otherwise.
        assert np.abs(a.embedding.vector - b.embedding.vector).max() < 1e-5
    assert min(map(len, batch)) == 0 and max(map(len, batch)) >= 8


def test_two_workers_give_the_same_as_one_bit_for_bit(folder):
    one, two = ([facts(p.faces) for p in Analyzer(threads=n).pictures(folder)] for n in (1, 2))

    assert one == two


def test_two_threads_on_one_picture_give_the_same_up_to_rounding(folder):
    one, two = Analyzer(threads=1), Analyzer(threads=2)

    for path in folder:
        image = load_image(path)
        pairs = list(zip(one.analyze(image), two.analyze(image), strict=True))
        assert all(a.embedding.vector @ b.embedding.vector > 0.99999 for a, b in pairs)


def test_a_smiling_drawn_subject_is_nearest_to_its_own_neutral_picture(portrait):
    analyzer = Analyzer()

    def embed(subject, **how):
        (face,) = analyzer.analyze(draw_face(subject, side=240, **how).image)
        return face.embedding.vector

    plain = np.stack([embed(subject) for subject in range(8)])
    smiling = np.stack([embed(subject, expression="happiness", seed=1, light=0.9) for subject in range(8)])

    scores = plain @ smiling.T
    assert (scores.argmax(axis=1) == np.arange(8)).all()


def test_a_new_process_gives_the_same_vectors(folder, portrait):
    code = """
import json, sys
from mien import Analyzer, load_image
print(json.dumps(Analyzer(threads=1).analyze(load_image(sys.argv[1]))[0].embedding.vector.tolist()))
"""
    path = next(path for path in folder if path.name == "portrait.png")

    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, env=os.environ)

    again = np.array(json.loads(done.stdout), np.float32)
    np.testing.assert_array_equal(again, Analyzer(threads=1).analyze(portrait)[0].embedding.vector)
