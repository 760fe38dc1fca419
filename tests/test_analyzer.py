import copy
import itertools
import pickle
import threading

import numpy as np
import pytest
from PIL import Image

from mien import zoo
from mien.analyzer import Analyzer, choose_face, main_face
from mien.errors import ImageError, ModelError, UsageError
from mien.images import decode, digest, load_image
from mien.types import EXPRESSIONS, Box, Face
from mien.zoo.adding import add
from squares import POINTS, filled_store, save, scene, store  # noqa: F401
from zoo import nets

THREE = ((4, 4, 30, 0), (50, 10, 60, 100), (118, 60, 40, 200))


@pytest.fixture
def analyzer(store):  # noqa: F811
    return Analyzer(embedder="tiny", threads=2)


@pytest.fixture
def own_store(tmp_path, monkeypatch):
    """An empty store, and real detectors."""
    monkeypatch.setenv("MIEN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MIEN_OFFLINE", "1")
    return tmp_path


def face(left, top, side):
    box = Box(left, top, left + side, top + side)
    return Face(box, (POINTS * side + np.float32([left, top])).astype(np.float32), 0.9)


# One picture


def test_expressions_are_read_unless_none_are_asked_for(analyzer):
    faces = Analyzer(embedder="tiny", expression=None, threads=1).analyze(scene(*THREE))

    assert len(faces) == 3 and all(face.expression is None for face in faces)
    assert all(tuple(face.expression.probabilities) == EXPRESSIONS for face in analyzer.analyze(scene(*THREE)))


def test_faces_come_largest_first_with_unit_embeddings_of_the_model(analyzer):
    faces = analyzer.analyze(scene(*THREE))

    assert [face.box.side for face in faces] == [60, 40, 30]
    assert {face.embedding.model for face in faces} == {zoo.card("tiny").id}
    assert all(abs(np.linalg.norm(face.embedding.vector) - 1) < 1e-5 for face in faces)
    assert all(face.quality is not None and face.expression is not None and face.crop is None for face in faces)
    assert faces[0].quality.measures["side"] == 60


def test_a_restorer_changes_what_is_read_but_not_where_faces_are_nor_their_quality(analyzer, tmp_path):
    from vision.restorers import save_restorer

    plain = analyzer.analyze(scene(*THREE), crops=True)
    lighter = Analyzer(embedder="tiny", threads=1, restorer=str(save_restorer(tmp_path / "lighter", added=30))).analyze(
        scene(*THREE), crops=True
    )
    gated = Analyzer(embedder="tiny", threads=1, restorer=str(save_restorer(tmp_path / "gated", added=0.1, gate=1.0)))

    assert [face.box for face in lighter] == [face.box for face in plain]
    assert [face.quality for face in lighter] == [face.quality for face in plain]
    assert all((a.crop != b.crop).any() for a, b in zip(lighter, plain, strict=True))
    clean = np.full((120, 160, 3), 90, np.uint8)
    assert len(gated.analyze(clean)) == 0
    assert pickle.loads(pickle.dumps(gated)).analyze(clean) == gated.analyze(clean)
    with pytest.raises(UsageError, match="expected a model of role restorer"):
        Analyzer(embedder="tiny", restorer="tiny")


def test_a_picture_without_a_face_gives_none(analyzer):
    assert analyzer.analyze(scene()) == ()


def test_a_face_is_embedded_alike_wherever_it_stands_and_whoever_stands_beside_it(analyzer):
    size = {"width": 400, "height": 300}  # room for the crops
    alone = analyzer.analyze(scene((60, 70, 60, 100), **size))[0]
    among = analyzer.analyze(scene((240, 40, 50, 0), (60, 70, 60, 100), (250, 200, 40, 200), **size))[0]
    elsewhere = analyzer.analyze(scene((240, 120, 60, 100), **size))[0]

    np.testing.assert_allclose(among.embedding.vector, alone.embedding.vector, atol=1e-6)
    np.testing.assert_allclose(elsewhere.embedding.vector, alone.embedding.vector, atol=1e-6)


def test_embedding_the_kept_crops_gives_the_same_vectors(analyzer):
    faces = analyzer.analyze(scene(*THREE), crops=True)

    crops = np.stack([face.crop for face in faces])
    assert crops.shape == (3, 112, 112, 3)
    np.testing.assert_allclose(analyzer.embed_crops(crops), [face.embedding.vector for face in faces], atol=1e-6)


def test_crops_of_a_wrong_side_are_refused(analyzer):
    with pytest.raises(ModelError, match=r"shape \(n, 112, 112, 3\), got uint8 of shape \(1, 100, 100, 3\)"):
        analyzer.embed_crops(np.zeros((1, 100, 100, 3), np.uint8))
    assert analyzer.embed_crops(np.zeros((0, 112, 112, 3), np.uint8)).shape == (0, 64)


def test_without_embedding_the_embedders_file_is_not_needed(store):  # noqa: F811
    analyzer = Analyzer(threads=1)  # the default embedder is not in this store

    (found,) = analyzer.analyze(scene((50, 10, 60, 100)), embed=False, crops=True)

    assert found.embedding is None and found.quality is not None and found.crop.shape == (112, 112, 3)
    with pytest.raises(ModelError, match="not on this machine"):
        analyzer.analyze(scene((50, 10, 60, 100)))


@pytest.mark.parametrize(
    "image",
    [np.zeros((9, 9, 5), np.uint8), np.zeros((9, 9, 3)), "no-such.jpg", np.zeros((0, 9, 3), np.uint8), None],
    ids=["five channels", "float", "missing", "empty", "nothing"],
)
def test_what_is_no_picture_is_refused(analyzer, image):
    with pytest.raises(ImageError):
        analyzer.analyze(image)


def test_whatever_holds_a_picture_is_analysed(analyzer, tmp_path):
    path = save(tmp_path / "a.png", *THREE)
    boxes = [face.box for face in analyzer.analyze(scene(*THREE))]

    for source in (path, str(path), path.as_uri(), path.read_bytes(), Image.open(path)):
        assert [face.box for face in analyzer.analyze(source)] == boxes
    (picture,) = analyzer.pictures([path.read_bytes()])
    assert picture.path is None and [face.box for face in picture.faces] == boxes


def test_a_single_path_is_no_list_of_letters(analyzer):
    with pytest.raises(UsageError, match=r"give one alone as \[picture\]"):
        next(iter(analyzer.pictures("a.jpg")))


def test_an_analyzer_crosses_processes_by_its_options(analyzer):
    analyzer.analyze(scene(*THREE))
    packed = pickle.dumps(analyzer)
    assert len(packed) < 4000  # options, no networks
    for other in (pickle.loads(packed), copy.deepcopy(analyzer)):
        assert other.embedder is not analyzer.embedder and other.threads == 2 and other.card == analyzer.card
        one, *_ = other.analyze(scene(*THREE))
        np.testing.assert_array_equal(one.embedding.vector, analyzer.analyze(scene(*THREE))[0].embedding.vector)
    assert pickle.loads(pickle.dumps(next(analyzer.pictures([scene(*THREE)])))).faces[0].box == one.box


# Which face


def test_a_choice_between_two_faces_as_prominent_is_refused():
    pair, single = (face(10, 30, 60), face(90, 30, 60)), (face(20, 20, 60),)
    with pytest.raises(ImageError, match=r"it shows 2 faces, and no single one is .* Say which one with --face"):
        choose_face(pair, 160, 120)
    assert choose_face((face(50, 30, 60), face(4, 4, 20)), 160, 120).box.left == 50
    assert choose_face(pair, 160, 120, "largest") is pair[0]
    assert choose_face(pair, 160, 120, 2) is choose_face(pair, 160, 120, "2") is pair[1]
    assert choose_face(single, 160, 120, "only") is choose_face(single, 160, 120) is single[0]
    with pytest.raises(ImageError, match="2 faces, expected one"):
        choose_face(pair, 160, 120, "only")
    with pytest.raises(ImageError, match="it shows 2 faces, there is no face 3"):
        choose_face(pair, 160, 120, "3")
    with pytest.raises(UsageError, match="got 'nicest'"):
        choose_face(pair, 160, 120, "nicest")


# Options


def test_options_out_of_range_are_refused(store):  # noqa: F811
    with pytest.raises(UsageError, match="min_face should be 2 to 10000 px, got 1"):
        Analyzer(embedder="tiny", min_face=1)
    with pytest.raises(UsageError, match="between 0 and 1, got 2"):
        Analyzer(embedder="tiny", threshold=2)
    with pytest.raises(UsageError, match="'tiny' is of role embedder, expected a model of role detector"):
        Analyzer(detector="tiny")
    with pytest.raises(ModelError, match="There is no model 'nobody'"):
        Analyzer(embedder="nobody")


def test_opening_an_analyzer_opens_no_network(store):  # noqa: F811
    analyzer = Analyzer()

    with pytest.raises(ModelError, match="not on this machine"):
        _ = analyzer.embedder.session


# Many pictures


def test_a_batch_reports_in_order_and_goes_on_after_a_bad_picture(analyzer, tmp_path):
    paths = [save(tmp_path / f"{i}.png", (10, 10, 20 + 4 * i, 100)) for i in range(9)]
    paths[4].write_text("text")
    paths.append(save(tmp_path / "nobody.png"))

    pictures = list(analyzer.pictures(paths, digests=True))

    assert [picture.path for picture in pictures] == [str(path) for path in paths]
    assert [len(picture.faces) for picture in pictures] == [1, 1, 1, 1, 0, 1, 1, 1, 1, 0]
    assert "'" + str(paths[4]) + "' is no picture" in pictures[4].error
    assert pictures[9].error is None and (pictures[9].width, pictures[9].height) == (160, 120)
    assert pictures[0].digest == digest(load_image(paths[0]))
    assert [picture.faces[0].box.width for picture in pictures[:4]] == [20, 24, 28, 32]


def test_a_batch_finds_what_single_pictures_show(analyzer, tmp_path):
    paths = [save(tmp_path / f"{i}.png", *THREE[: i + 1]) for i in range(3)]

    batch = list(analyzer.pictures(paths, crops=True))
    single = [next(analyzer.pictures([path], crops=True)) for path in paths]

    for one, other in zip(batch, single, strict=True):
        assert [f.box for f in one.faces] == [f.box for f in other.faces]
        for a, b in zip(one.faces, other.faces, strict=True):
            np.testing.assert_array_equal(a.crop, b.crop)
            np.testing.assert_allclose(a.embedding.vector, b.embedding.vector, atol=1e-6)


def test_no_paths_give_no_pictures(analyzer):
    assert list(analyzer.pictures([])) == []


def test_a_batch_takes_paths_only_as_it_goes(analyzer, tmp_path):
    path = save(tmp_path / "a.png", (10, 10, 40, 0))
    taken = itertools.count()
    endless = (path for _ in taken)

    pictures = analyzer.pictures(endless, embed=False)
    for _ in range(20):
        assert next(pictures).error is None
    assert next(taken) < 20 + 4 * (analyzer.threads + 4)
    pictures.close()
    after = next(taken)

    assert next(taken) == after + 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mien")]


def test_a_picture_that_does_not_fit_into_memory_is_reported(analyzer, tmp_path, monkeypatch):
    paths = [save(tmp_path / f"{i}.png", (10, 10, 40, 0)) for i in range(3)]

    def load(path):
        if path == paths[1]:
            raise MemoryError
        return decode(path)

    monkeypatch.setattr("mien.analyzer.decode", load)

    errors = [picture.error for picture in analyzer.pictures(paths)]

    assert errors[0] is None and errors[2] is None and "needs more memory than there is" in errors[1]


def test_a_model_that_cannot_be_had_ends_the_batch(store, tmp_path):  # noqa: F811
    paths = [save(tmp_path / f"{i}.png", (10, 10, 40, 0)) for i in range(3)]

    with pytest.raises(ModelError, match="not on this machine"):
        list(Analyzer(threads=2).pictures(paths))


# The face a portrait is of


def test_the_main_face_is_the_larger_one_unless_it_stands_far_off():
    assert main_face([face(40, 40, 20), face(30, 30, 40)], 100, 100).box.side == 40
    assert main_face([face(45, 45, 30), face(160, 60, 40)], 120, 120).box.side == 30
    assert main_face([], 100, 100) is None


# A user's own models, really run


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "threshold"), [("scrfd", 0.5), ("yunet", 0.6), ("centerface", 0.77)])
def test_a_users_detector_runs_on_any_size_of_picture(own_store, rng, kind, threshold):
    net = {"scrfd": nets.scrfd, "yunet": nets.yunet, "centerface": nets.centerface}[kind]()
    add(net.save(own_store / "m.onnx"), name="mine", role="detector", convention_name=kind)
    image = rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)

    faces = Analyzer(detector="mine", threshold=threshold, threads=1).analyze(image, embed=False)

    assert len(faces) > 1  # noise to a random network: many faces, all inside the picture
    assert all(0 <= f.box.left <= f.box.right <= 90 and 0 <= f.box.top <= f.box.bottom <= 70 for f in faces)


def test_a_users_detector_of_one_size_sees_the_whole_picture_at_that_size(own_store, rng):
    net = nets.scrfd((1, 3, 128, 128), fixed_rows=True)
    card = add(net.save(own_store / "m.onnx"), name="fixed", role="detector", convention_name="scrfd")
    assert card.convention["side"] == 128

    image = rng.integers(0, 40, (300, 200, 3), dtype=np.uint8)  # dark, where this network's boxes have an extent
    faces = Analyzer(detector="fixed", threshold=0.4, threads=1).analyze(image, embed=False)

    assert max(f.box.bottom for f in faces) > 250 and max(f.box.right for f in faces) > 150
    assert all(f.box.right <= 200 and f.box.bottom <= 300 and f.box.area > 0 for f in faces)


def test_an_embedder_that_takes_one_picture_at_a_time_embeds_many(store, tmp_path):  # noqa: F811
    free = Analyzer(embedder="tiny", threads=1)
    net = nets.embedder(batch=1, batch_reshape=1)
    card = add(net.save(tmp_path / "m.onnx"), name="single", role="embedder", convention_name="arcface-112")
    assert card.convention["batch"] == 1

    faces = Analyzer(embedder="single", threads=1).analyze(scene(*THREE))

    for one, other in zip(faces, free.analyze(scene(*THREE)), strict=True):
        np.testing.assert_allclose(one.embedding.vector, other.embedding.vector, atol=1e-6)


@pytest.mark.parametrize("softmax", [False, True], ids=["logits", "probabilities"])
@pytest.mark.parametrize("single", [False, True], ids=["batch", "one at a time"])
def test_a_users_expression_model_fills_the_faces(store, tmp_path, softmax, single):  # noqa: F811
    reshape = {"batch": 1, "batch_reshape": 1} if single else {}
    net = nets.expression(64, channels=1, softmax=softmax, **reshape)
    name = f"mood-{softmax}-{single}".lower()
    add(net.save(tmp_path / "m.onnx"), name=name, role="expression", convention_name="ferplus-64")

    faces = Analyzer(embedder="tiny", expression=name, threads=1).analyze(scene(*THREE), embed=False)

    for found in faces:
        assert tuple(found.expression.probabilities) == EXPRESSIONS
        assert sum(found.expression.probabilities.values()) == pytest.approx(1)
        assert found.expression.probabilities[found.expression.label] == max(found.expression.probabilities.values())


def test_probabilities_are_taken_as_they_are(store, tmp_path):  # noqa: F811
    answers = {}
    for softmax in (False, True):
        net = nets.expression(64, channels=1, softmax=softmax)
        name = "plain" if softmax else "raw"
        add(net.save(tmp_path / "m.onnx"), name=name, role="expression", convention_name="ferplus-64", replace=True)
        analyzer = Analyzer(embedder="tiny", expression=name, threads=1)
        answers[name] = analyzer.analyze(scene(*THREE), embed=False)[0].expression.probabilities

    assert answers["plain"] == pytest.approx(answers["raw"], abs=1e-5)


def test_valence_and_arousal_are_no_classes(store, tmp_path):  # noqa: F811
    net = nets.expression(224, classes=10)
    card = add(net.save(tmp_path / "m.onnx"), name="tasks", role="expression", convention_name="hsemotion-224")
    assert card.convention["labels"][-2:] == ["valence", "arousal"]

    (found,) = Analyzer(embedder="tiny", expression="tasks", threads=1).analyze(scene((50, 10, 60, 9)), embed=False)

    assert set(found.expression.probabilities) == set(EXPRESSIONS)
