"""The expression reader around its network; class k's answer is read off the crop."""

from types import SimpleNamespace

import numpy as np
import pytest

from mien import zoo
from mien.alignment import TEMPLATES, align
from mien.errors import ModelError
from mien.types import EXPRESSIONS, Box
from mien.vision.detector import Detection
from mien.vision.expression import ExpressionReader
from vision.planted import make, save_constant

LABELS = ("anger", "happiness", "neutral")


class Keep:
    """Stands in for a session: keeps what it is fed and gives the same answers to every face; a dict is by head."""

    def __init__(self, answers):
        self.answers, self.fed = answers, []

    def get_inputs(self):
        return [SimpleNamespace(name="x")]

    def get_outputs(self):
        return [SimpleNamespace(name=name) for name in self.answers]

    def run(self, names, feed):
        self.fed.append(feed["x"])
        told = []
        for answers in [self.answers[name] for name in names] if names else [self.answers]:
            answers = answers(feed["x"]) if callable(answers) else np.tile(answers, (len(feed["x"]), 1))
            told.append(np.asarray(answers, np.float32))
        return told


@pytest.fixture
def reader(monkeypatch):
    """Make a reader whose network gives these answers; further arguments go into its convention."""
    monkeypatch.setattr(zoo, "path", lambda name: None)

    def open_reader(answers=(0, 0, 0), /, labels=LABELS, side=16, **convention):
        monkeypatch.setattr("mien.vision.expression.make_session", lambda *_, **__: Keep(answers))
        classes = {} if "heads" in convention else {"labels": list(labels)}
        return ExpressionReader(make("expression", **classes, side=side, **convention), threads=1)

    return open_reader


def found(left, top, side):
    points = np.array(TEMPLATES["arcface-112"][1]) * (side / 112) + [left, top]
    return Detection(Box(left, top, left + side, top + side), points.astype(np.float32), 0.9)


IMAGE = np.random.default_rng(5).integers(0, 256, (120, 160, 3), dtype=np.uint8)


# What the answers mean


def test_answers_go_to_their_labels_and_come_in_the_order_of_mien(reader):
    (outcome,) = reader(np.log([0.2, 0.7, 0.1])).read(IMAGE, [found(10, 10, 64)])

    assert outcome.label == "happiness"
    assert list(outcome.probabilities) == ["neutral", "happiness", "anger"]
    assert outcome.probabilities == pytest.approx({"neutral": 0.1, "happiness": 0.7, "anger": 0.2})


def test_temperature_flattens_by_the_plain_formula(reader):
    logits = np.array([1.0, 3.0, -2.0])

    (outcome,) = reader(logits, temperature=2.5).read(IMAGE, [found(10, 10, 64)])

    shares = np.exp(logits / 2.5)
    assert [outcome.probabilities[label] for label in LABELS] == pytest.approx(shares / shares.sum())


@pytest.mark.parametrize("answers", [(0.25, 0.6, 0.15), (0.0, 1.0, 0.0)])
def test_probabilities_stay_as_the_network_gave_them(reader, answers):
    (outcome,) = reader(answers, answers="probabilities").read(IMAGE, [found(10, 10, 64)])

    assert [outcome.probabilities[label] for label in LABELS] == pytest.approx(answers, abs=1e-6)


def test_logits_too_large_for_exp_still_give_probabilities(reader):
    (outcome,) = reader([1e4, 9e3, -1e4]).read(IMAGE, [found(10, 10, 64)])

    assert outcome.label == "anger" and outcome.probabilities["anger"] == pytest.approx(1)


@pytest.mark.parametrize(("below", "uncertain"), [(0.69, False), (0.71, True)])
def test_an_outcome_is_uncertain_below_the_cards_probability(reader, below, uncertain):
    (outcome,) = reader(np.log([0.2, 0.7, 0.1]), uncertain_below=below).read(IMAGE, [found(10, 10, 64)])

    assert outcome.uncertain is uncertain


def test_valence_and_arousal_are_not_read(reader):
    one = reader([*np.log([0.2, 0.7, 0.1]), 50, 60], labels=[*LABELS, "valence", "arousal"])

    assert one.labels == LABELS
    assert one.read(IMAGE, [found(10, 10, 64)])[0].probabilities["happiness"] == pytest.approx(0.7)


def test_unknown_labels_are_refused_by_name():
    with pytest.raises(ModelError, match="'odd' answers bored, sleepy; known are neutral, happiness"):
        ExpressionReader(make("expression", "odd", labels=["neutral", "sleepy", "bored"], side=64))


HEADS = {"ferplus": ["neutral", "happiness", "contempt"], "fer2013": ["anger", "sadness"]}


def test_the_first_head_is_told_and_others_answer_when_asked(reader):
    one = reader({"fer2013": np.log([0.9, 0.1]), "ferplus": np.log([0.2, 0.7, 0.1])}, heads=HEADS)

    (outcome,) = one.read(IMAGE, [found(10, 10, 64)])

    assert one.heads == {name: tuple(labels) for name, labels in HEADS.items()}
    assert outcome.probabilities == pytest.approx({"neutral": 0.2, "happiness": 0.7, "contempt": 0.1})
    crops = np.zeros((2, 16, 16, 3), np.uint8)
    np.testing.assert_allclose(one.probabilities(crops, head="fer2013"), [[0.9, 0.1]] * 2, rtol=1e-6)


def test_each_head_may_have_a_temperature_of_its_own(reader):
    logits = {"ferplus": np.array([1.0, 2.0, 0.0]), "fer2013": np.array([3.0, 0.0])}
    one = reader(logits, heads=HEADS, temperature={"ferplus": 2.0})
    crops = np.zeros((1, 16, 16, 3), np.uint8)

    for name, temperature in (("ferplus", 2.0), ("fer2013", 1.0)):
        shares = np.exp(logits[name] / temperature)
        np.testing.assert_allclose(one.probabilities(crops, head=name)[0], shares / shares.sum(), rtol=1e-6)


def test_a_card_of_another_files_heads_is_refused(reader):
    with pytest.raises(ModelError, match="has no output ferplus"):
        reader({"fer2013": [0.0, 0.0]}, heads=HEADS)


@pytest.mark.parametrize(("key", "convention"), [("labels", {"side": 16}), ("side", {"labels": ["neutral"]})])
def test_a_card_that_lacks_what_is_needed_is_refused(key, convention):
    with pytest.raises(ModelError, match=f"does not say '{key}'"):
        ExpressionReader(make("expression", **convention))


def test_an_unknown_template_is_refused():
    with pytest.raises(ModelError, match="cut by 'round'; known are arcface-112"):
        ExpressionReader(make("expression", labels=list(LABELS), side=16, template="round"))


def left_and_right(x):
    """Logits that tell a face from its mirror image: the mean of the left half, of the right half, and nought."""
    half = x.shape[-1] // 2
    return np.stack([x[..., :half].mean((1, 2, 3)), x[..., half:].mean((1, 2, 3)), np.zeros(len(x))], axis=1) / 50


def test_with_flip_the_logits_of_face_and_mirror_image_are_averaged(reader):
    crops = np.random.default_rng(1).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    mirrored = np.ascontiguousarray(crops[:, :, ::-1])
    plain, flipped = reader(left_and_right), reader(left_and_right, flip=True)

    logits = (np.log(plain.probabilities(crops)) + np.log(plain.probabilities(mirrored))) / 2

    shares = np.exp(logits)
    expected = shares / shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(flipped.probabilities(crops), expected, rtol=1e-5)
    np.testing.assert_allclose(flipped.probabilities(crops), flipped.probabilities(mirrored), rtol=1e-5)


def test_many_crops_are_read_in_parts_in_order(reader):
    one = reader(left_and_right, batch=2)
    crops = np.random.default_rng(1).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)

    np.testing.assert_array_equal(one.probabilities(crops), [one.probabilities(crop[None])[0] for crop in crops])


# What the network is fed


def fed(reader, *faces):
    reader.read(IMAGE, faces)
    return np.concatenate(reader.session.fed)


def test_a_box_crop_is_the_box_resized(reader):
    (blob,) = fed(reader(crop="box", side=16), found(10, 20, 16))

    np.testing.assert_array_equal(blob, IMAGE[20:36, 10:26].transpose(2, 0, 1))


def test_a_template_crop_is_aligned_at_the_side_of_the_network(reader):
    face = found(20, 10, 90)

    (blob,) = fed(reader(template="arcface-112", side=56), face)

    points = np.array(TEMPLATES["arcface-112"][1]) / 2
    np.testing.assert_array_equal(blob, align(IMAGE, face.landmarks, points=points, side=56).transpose(2, 0, 1))


def test_channels_mean_and_scale_are_those_of_the_card(reader):
    part = IMAGE[20:36, 10:26].astype(float)
    mean, scale = [10, 20, 30], [0.5, 0.25, 2.0]

    (blob,) = fed(reader(crop="box", order="BGR", mean=mean, scale=scale), found(10, 20, 16))

    np.testing.assert_allclose(blob, ((part[..., ::-1] - mean) * scale).transpose(2, 0, 1), rtol=1e-6)


def test_a_network_of_one_channel_is_fed_grey(reader):
    (blob,) = fed(reader(crop="box", order="GRAY", mean=[100.0], scale=0.5), found(10, 20, 16))

    grey = IMAGE[20:36, 10:26] @ [0.299, 0.587, 0.114]
    assert blob.shape == (1, 16, 16)
    np.testing.assert_allclose(blob[0], (grey - 100) / 2, atol=0.5)


def test_more_faces_than_the_network_takes_are_fed_in_turn(reader):
    one = reader(batch=2)

    outcomes = one.read(IMAGE, [found(10 * k, 10, 40) for k in range(5)])

    assert len(outcomes) == 5 and [len(part) for part in one.session.fed] == [2, 2, 1]


@pytest.mark.parametrize("box", [Box(0, 0, 0.4, 0.4), Box(159.5, 119.5, 160, 120), Box(-20, -20, 200, 200)])
def test_a_box_of_less_than_a_pixel_or_beyond_the_picture_is_still_cut(reader, box):
    (blob,) = fed(reader(crop="box"), Detection(box, np.zeros((5, 2), np.float32), 0.9))

    assert blob.shape == (3, 16, 16) and blob.any()


def test_no_faces_have_no_expressions(reader):
    one = reader()

    assert one.read(IMAGE, []) == [] and one.session.fed == []


def test_a_real_network_is_run(tmp_path, monkeypatch):
    path = save_constant(tmp_path / "m.onnx", [np.log([[0.3, 0.1, 0.6]])])
    monkeypatch.setattr(zoo, "path", lambda name: path)

    (outcome,) = ExpressionReader(make("expression", labels=list(LABELS), side=8)).read(IMAGE, [found(9, 9, 50)])

    assert outcome.label == "neutral" and set(outcome.probabilities) < set(EXPRESSIONS)


# For which class shares


SHARED = {"": [0.2, 0.2, 0.6]}


def test_a_card_that_assumes_equal_shares_divides_by_the_learned_ones(reader):
    one = reader(np.log([0.2, 0.2, 0.6]), shares=SHARED, assume="equal")

    (outcome,) = one.read(IMAGE, [found(10, 10, 64)])

    assert outcome.probabilities == pytest.approx(dict.fromkeys(LABELS, 1 / 3))
    # A head that is named answers as it learned.
    np.testing.assert_allclose(one.probabilities(np.zeros((1, 16, 16, 3), np.uint8), head=""), [[0.2, 0.2, 0.6]])


def test_a_card_may_state_a_share_for_each_class(reader):
    one = reader(np.log([0.2, 0.2, 0.6]), shares=SHARED, assume={"anger": 2, "happiness": 1, "neutral": 1})

    (outcome,) = one.read(IMAGE, [found(10, 10, 64)])

    assert outcome.probabilities == pytest.approx({"anger": 0.5, "happiness": 0.25, "neutral": 0.25})


def test_softened_answers_are_flatter_where_a_face_is_read_and_as_calibrated_by_head(reader):
    logits = np.array([1.0, 3.0, -2.0])
    one = reader(logits, temperature=2.0, softened=1.5)

    (outcome,) = one.read(IMAGE, [found(10, 10, 64)])

    for told, temperature in (
        ([outcome.probabilities[label] for label in LABELS], 3.0),
        (one.probabilities(np.zeros((1, 16, 16, 3), np.uint8), head="")[0], 2.0),
    ):
        shares = np.exp(logits / temperature)
        np.testing.assert_allclose(told, shares / shares.sum(), rtol=1e-6)


def test_a_card_without_learned_shares_answers_for_no_others(reader, monkeypatch):
    monkeypatch.setattr(zoo, "path", lambda name: None)
    monkeypatch.setattr("mien.vision.expression.make_session", lambda *_, **__: Keep((0, 0, 0)))
    card = make("expression", "bare", labels=list(LABELS), side=16)

    ExpressionReader(card, shares="learned")
    with pytest.raises(ModelError, match="'bare' does not say the class shares") as caught:
        ExpressionReader(card, shares="equal")
    assert "\n" not in str(caught.value)


def test_a_head_without_learned_shares_answers_for_no_others(reader):
    logits = {"ferplus": np.zeros(3), "fer2013": np.zeros(2)}
    one = reader(logits, heads=HEADS, shares={"ferplus": [0.2, 0.3, 0.5]}, assume="equal")
    crops = np.zeros((1, 16, 16, 3), np.uint8)

    np.testing.assert_allclose(one.probabilities(crops, head="fer2013"), [[0.5, 0.5]])
    one.asked = "equal"
    with pytest.raises(ModelError, match="that it learned of head 'fer2013'"):
        one.probabilities(crops, head="fer2013")


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"shares": {"": [0.5, 0.5]}}, "a number from 0 for each class"),
        ({"shares": {"other": [0.2, 0.2, 0.6]}}, "for each class of 'other'"),
        ({"shares": {"": "half"}}, "lists of numbers"),
        ({"assume": "even"}, "learned, equal"),
        ({"answer": ["other"]}, "answer 'other'"),
        ({"softened": 0}, "above 0"),
    ],
)
def test_shares_that_do_not_fit_the_network_are_refused(reader, facts, said):
    with pytest.raises(ModelError, match=said):
        reader((0, 0, 0), **facts)


def test_several_heads_are_averaged_and_a_class_that_one_lacks_is_the_others(reader):
    heads = {"a": ["neutral", "happiness", "contempt"], "b": ["happiness", "neutral"]}
    one = reader({"a": np.log([0.5, 0.3, 0.2]), "b": np.log([0.25, 0.75])}, heads=heads, answer=["a", "b"])

    (outcome,) = one.read(IMAGE, [found(10, 10, 64)])

    # Head b leaves 0.2 for contempt: 0.2 happiness, 0.6 neutral.
    assert outcome.probabilities == pytest.approx({"neutral": 0.55, "happiness": 0.25, "contempt": 0.2})
    assert one.labels == ("neutral", "happiness", "contempt")


@pytest.mark.parametrize(("above", "uncertain"), [(0.72, True), (0.74, False)])
def test_an_outcome_is_uncertain_above_the_cards_entropy(reader, above, uncertain):
    # -(0.2 ln 0.2 + 0.7 ln 0.7 + 0.1 ln 0.1) / ln 3 = 0.7298
    (outcome,) = reader(np.log([0.2, 0.7, 0.1]), uncertain_above=above).read(IMAGE, [found(10, 10, 64)])

    assert outcome.uncertain is uncertain
