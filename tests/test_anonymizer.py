"""Anonymising with stand-ins: faces are squares whose mean colour says whose they are."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from mien.anonymizer import Anonymizer, People
from mien.drawing import draw_scene
from mien.errors import UsageError
from mien.types import Embedding, Expression, Face

LABELS = ("neutral", "happiness")


class Embedder:
    """Who it is, is the hue in the middle of the face."""

    model = "tiny/1"
    card = SimpleNamespace(name="tiny", operating_points=())

    def crop(self, image, marks):
        x, y = np.rint(marks.mean(axis=0)).astype(int)
        r = max(int(np.ptp(marks[:, 0]) / 3), 1)
        return cv2.resize(image[max(y - r, 0) : y + r + 1, max(x - r, 0) : x + r + 1], (8, 8))

    def embed(self, crops):
        means = np.asarray(crops, float).mean(axis=(1, 2)) - 128
        return (means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-6)).astype(np.float32)


class Analyzer:
    """Finds the faces of the scene, wherever they were."""

    def __init__(self, scene):
        self.scene, self.embedder, self.looked = scene, Embedder(), 0
        self.expression_reader = None

    def analyze(self, image, **_):
        self.looked += 1
        faces = []
        for drawn in self.scene.faces:
            vector = self.embedder.embed(self.embedder.crop(image, drawn.landmarks)[None])[0]
            shown = Expression("neutral", {"neutral": 0.9, "happiness": 0.1})
            faces.append(
                Face(drawn.box, drawn.landmarks.astype(np.float32), 0.9, expression=shown,
                     embedding=Embedding("tiny/1", vector))
            )  # fmt: skip
        return faces


class Generator:
    """Draws faces of one colour, which are their latents; those of a seed have the seed's colour."""

    has_encoder, side, labels = True, 64, ()
    convention = SimpleNamespace(template="face-64")
    card = SimpleNamespace(name="tiny")

    def __init__(self, colour=None):
        self.colour, self.seeds = colour, []

    def encode(self, faces):
        return np.asarray(faces, np.float32).mean(axis=(1, 2))

    def generate(self, n, *, seed, truncation):
        self.seeds.append(seed)
        rng = np.random.default_rng(seed)
        rows = rng.integers(0, 256, (n, 3)) if self.colour is None else np.tile(self.colour, (n, 1))
        return np.repeat(rows[:, None, None], 64, 1).repeat(64, 2).astype(np.uint8)

    def decode(self, latents, *, expression=None):
        return np.clip(np.asarray(latents)[:, None, None].repeat(64, 1).repeat(64, 2), 0, 255).astype(np.uint8)


@pytest.fixture
def scene():
    return draw_scene([1, 2], width=400, height=240)


@pytest.fixture(autouse=True)
def limits(monkeypatch):
    monkeypatch.setattr("mien.anonymizer.operating_point", lambda card, fmr: SimpleNamespace(threshold=0.9))
    # Colour is who it is here: nothing may take it from the photograph.
    monkeypatch.setattr("mien.anonymizer.transfer_colour", lambda face, crop, mask: face)
    monkeypatch.setattr("mien.anonymizer.match_border", lambda face, crop, mask: face)


def test_faces_change_and_nothing_else_does(scene):
    done = Anonymizer(Analyzer(scene), Generator(), secret=b"s" * 16, verify=False).anonymize(scene.image)
    changed = (done.image != scene.image).any(axis=2)
    assert len(done.faces) == 2 and all(face.mode == "generate" and face.similarity is None for face in done.faces)
    for drawn in scene.faces:
        x, y = np.rint(drawn.landmarks[2]).astype(int)
        assert changed[y - 3 : y + 3, x - 3 : x + 3].mean() > 0.8
    assert not changed[:10].any() and changed.mean() < 0.5


def test_the_same_secret_draws_the_same_faces_and_another_draws_others(scene):
    def made(secret, name="a"):
        return (
            Anonymizer(Analyzer(scene), Generator(), secret=secret, verify=False)
            .anonymize(scene.image, name=name)
            .image
        )

    assert np.array_equal(made(b"s" * 16), made(b"s" * 16))
    assert not np.array_equal(made(b"s" * 16), made(b"t" * 16))
    assert not np.array_equal(made(b"s" * 16), made(b"s" * 16, name="b"))
    assert not np.array_equal(made(None), made(None)), "without a secret nobody knows what was drawn"


class Stubborn(Generator):
    """Draws whoever was there."""

    def decode(self, latents, *, expression=None):
        return np.repeat(self.last, len(latents), 0)

    def encode(self, faces):
        if len(faces) == 1:
            self.last = np.asarray(faces)
        return super().encode(faces)


def test_where_every_new_face_matches_a_mosaic_is_made_and_that_is_said(scene):
    analyzer, generator = Analyzer(scene), Stubborn()
    done = Anonymizer(analyzer, generator, secret=b"s" * 16).anonymize(scene.image)
    assert all(face.mode == "mosaic" and face.fell_back and face.similarity is not None for face in done.faces)
    assert len(set(generator.seeds)) == len(generator.seeds) == 6, "each try draws from another seed"


def test_a_finished_picture_in_which_nobody_is_known_is_kept(scene):
    done = Anonymizer(Analyzer(scene), Generator((0, 255, 0)), secret=b"s" * 16).anonymize(scene.image)
    assert done.faces
    assert all(face.mode == "generate" and face.similarity < 0.9 and face.keeps_expression for face in done.faces)


def test_nobody_of_a_gallery_may_match_either(scene):
    class Gallery:
        def search(self, embedding, k):
            return [SimpleNamespace(score=0.95 if embedding.vector[1] > 0.5 else 0.1)]

    done = Anonymizer(Analyzer(scene), Generator((0, 255, 0)), gallery=Gallery(), secret=b"s" * 16).anonymize(
        scene.image
    )
    assert done.faces and all(face.mode == "mosaic" for face in done.faces)


@pytest.mark.parametrize("mode", ["blur", "mosaic"])
def test_classical_modes_need_no_generator_and_lose_the_detail(scene, mode):
    done = Anonymizer(Analyzer(scene), mode=mode, verify=False).anonymize(scene.image)
    x, y = np.rint(scene.faces[0].landmarks[:2].mean(axis=0)).astype(int)

    def detail(image):
        return np.abs(np.diff(image[y - 8 : y + 8, x - 12 : x + 12].astype(int), axis=1)).mean()

    assert [face.mode for face in done.faces] == [mode] * 2 and detail(done.image) < 0.6 * detail(scene.image)


def test_small_faces_become_mosaics():
    scene = draw_scene([1, 2], width=64, height=40)
    assert all(0 < face.box.side < 20 for face in scene.faces)
    done = Anonymizer(Analyzer(scene), Generator(), verify=False).anonymize(scene.image)
    assert [(face.mode, face.fell_back) for face in done.faces] == [("mosaic", True)] * 2


def test_one_person_gets_one_new_face_in_all_pictures(scene):
    analyzer, generator = Analyzer(scene), Generator()
    faces = analyzer.analyze(scene.image)
    people = People.of([("a.png", faces), ("b.png", faces[::-1])], 0.9, b"s" * 16)
    assert people.person["a.png", 0] == people.person["b.png", 1] != people.person["a.png", 1]
    worker = Anonymizer(analyzer, generator, secret=b"s" * 16, verify=False)
    for name in ("a.png", "b.png"):
        worker.anonymize(scene.image, name=name, people=people)
    assert set(generator.seeds) == {people.seed(0, 0), people.seed(1, 0)}
    assert set(people.chosen) == {0, 1}


def test_a_picture_without_faces_stays_as_it_is(scene):
    scene = SimpleNamespace(faces=[], image=scene.image)
    done = Anonymizer(Analyzer(scene), Generator()).anonymize(scene.image)
    assert done.faces == () and np.array_equal(done.image, scene.image)


def test_wrong_modes_and_generators_are_refused(scene):
    with pytest.raises(UsageError, match="mode is one of"):
        Anonymizer(Analyzer(scene), mode="hide")
    with pytest.raises(UsageError, match="need a generator"):
        Anonymizer(Analyzer(scene))
    blind = Generator()
    blind.has_encoder = False
    with pytest.raises(UsageError, match="has no encoder"):
        Anonymizer(Analyzer(scene), blind)


def test_a_face_that_shows_only_in_the_finished_picture_goes_as_well(scene):
    class LateSighted(Analyzer):
        def analyze(self, image, **options):
            found = super().analyze(image, **options)
            return found if self.looked > 1 else found[:1]

    done = Anonymizer(LateSighted(scene), Generator((0, 255, 0)), secret=b"s" * 16).anonymize(scene.image)

    assert [face.mode for face in done.faces] == ["generate", "mosaic"] and done.faces[1].fell_back
    x, y = np.rint(scene.faces[1].landmarks[2]).astype(int)
    assert (done.image[y - 3 : y + 3, x - 3 : x + 3] != scene.image[y - 3 : y + 3, x - 3 : x + 3]).any()
