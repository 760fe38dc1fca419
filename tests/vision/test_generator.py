"""Generators around tiny linear networks: see `generators`."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

import mien
from mien.drawing import draw_face
from mien.errors import ImageError, ModelError, UsageError
from mien.types import Embedding, as_unit
from mien.vision.detector import Detection
from mien.vision.generator import Generator, Request
from squares import filled_store, store  # noqa: F401
from vision.generators import CONTRAST, LABELS, LATENTS, SIDE, basis, save_generator
from zoo.nets import embedder

MEANS = np.eye(LATENTS)[:4] * [[2.0], [2.0], [-2.0], [3.0]]
COMPONENTS = ((0, 0.5), (1, 0.2), (1, 0.1), (2, 0.2))


@pytest.fixture
def vae(tmp_path):
    """With labels and a prior of four parts, two of them for happiness."""
    return save_generator(tmp_path / "vae", kind="vae", labels=LABELS, components=COMPONENTS, means=MEANS, encoder=True)


@pytest.fixture
def gan(tmp_path):
    return save_generator(tmp_path / "gan", labels=LABELS, attributes=("beard", "hat"))


@pytest.fixture
def found(monkeypatch):
    """Every picture of `portrait` holds the face that was drawn into it; it shows happiness."""
    drawn = draw_face(3, side=180)
    face = Detection(drawn.box, drawn.landmarks.astype(np.float32), 0.9)
    detector = SimpleNamespace(detect=lambda image: [face] if image.shape == drawn.image.shape else [])
    monkeypatch.setattr("mien.vision.generator.patient_detector", lambda: detector)
    outcome = SimpleNamespace(probabilities={"happiness": 0.7, "neutral": 0.1, "contempt": 0.2})
    reader = SimpleNamespace(read=lambda *_: [outcome])
    monkeypatch.setattr("mien.vision.generator.ExpressionReader", lambda card, *, threads: reader)
    return drawn.image


@pytest.fixture
def judged(store, monkeypatch):  # noqa: F811
    """The default embedder is tiny."""
    monkeypatch.setattr("mien.zoo.default", lambda role: "tiny")


def seen(images):
    """Read latents, then label and attributes, off pictures, as far as whole grey values tell."""
    flat = images.transpose(0, 3, 1, 2).reshape(len(images), -1) - 128.0
    return flat @ basis().T / CONTRAST


# What comes out


def test_pictures_are_rgb_of_the_side_that_the_card_says(vae):
    images = mien.Generator(vae).generate(5)

    assert images.shape == (5, SIDE, SIDE, 3) and images.dtype == np.uint8


def test_a_grey_model_gives_pictures_of_three_equal_channels(tmp_path):
    images = Generator(save_generator(tmp_path / "grey", channels=1)).generate(2)

    assert images.shape == (2, SIDE, SIDE, 3)
    assert (images == images[..., :1]).all() and images.std() > 1


def test_a_picture_depends_on_the_seed_and_its_number_only(vae):
    generator = Generator(vae)
    many = generator.generate(30, seed=4)

    assert np.array_equal(generator.generate(3, seed=4), many[:3])
    rest = list(generator.batches(30, Request(seed=4), start=11))
    assert rest[0].first == 11
    assert np.array_equal(np.concatenate([batch.images for batch in rest]), many[11:])
    assert not np.array_equal(generator.generate(3, seed=5), many[:3])


def test_every_picture_is_another_one(gan):
    images = Generator(gan).generate(40)

    assert len({image.tobytes() for image in images}) == 40


def test_an_expression_asked_for_is_fed_and_named(gan):
    generator = Generator(gan)

    (batch,) = generator.batches(4, Request(expression="surprise"))
    assert batch.labels == ("surprise",) * 4
    assert seen(batch.images)[:, LATENTS] == pytest.approx(2, abs=0.05)
    (batch,) = generator.batches(4, Request(expression=("neutral", "happiness")))
    assert batch.labels == ("neutral", "happiness", "neutral", "happiness")


def test_all_expressions_come_where_none_is_asked_for(gan):
    labels = [label for batch in Generator(gan).batches(60) for label in batch.labels]

    assert all(labels.count(label) > 10 for label in LABELS)


def test_asking_for_an_expression_leaves_a_gans_noise_as_it_was(gan):
    generator = Generator(gan)
    drawn, asked = generator.generate(8), generator.generate(8, expression="neutral")

    assert seen(drawn)[:, :LATENTS] == pytest.approx(seen(asked)[:, :LATENTS], abs=0.05)


def test_expressions_can_share_their_noise(gan):
    request = Request(expression=LABELS, share_noise=True)
    images = np.concatenate([batch.images for batch in Generator(gan).batches(6, request)])
    latents = seen(images)[:, :LATENTS]

    assert latents[1] == pytest.approx(latents[0], abs=0.05) and latents[2] == pytest.approx(latents[0], abs=0.05)
    assert np.abs(latents[3] - latents[0]).max() > 0.3


def test_attributes_named_are_on_and_the_others_off(gan):
    values = seen(Generator(gan).generate(3, attributes=["hat"]))

    assert values[:, LATENTS + 1] == pytest.approx(0, abs=0.05)
    assert values[:, LATENTS + 2] == pytest.approx(1, abs=0.05)


# Priors


def test_the_fitted_prior_draws_parts_by_their_share_and_labels_with_them(vae):
    batches = list(Generator(vae).batches(400))
    labels = [label for batch in batches for label in batch.labels]
    latents = seen(np.concatenate([batch.images for batch in batches]))[:, :LATENTS]

    assert labels.count("neutral") / 400 == pytest.approx(0.5, abs=0.08)
    nearest = np.argmin(np.linalg.norm(latents[:, None] - MEANS, axis=2), axis=1)
    assert [LABELS[COMPONENTS[k][0]] for k in nearest] == labels
    happy = nearest[np.array(labels) == "happiness"]
    assert (happy == 1).mean() == pytest.approx(2 / 3, abs=0.12)


def test_an_expression_draws_from_its_own_parts(vae):
    latents = seen(Generator(vae).generate(20, expression="surprise"))[:, :LATENTS]

    assert latents.mean(axis=0) == pytest.approx(MEANS[3], abs=0.15)


def test_the_normal_prior_and_truncation(vae):
    generator = Generator(vae)
    normal = seen(generator.generate(64, prior="normal"))[:, :LATENTS]
    typical = seen(generator.generate(8, expression="neutral", truncation=0))[:, :LATENTS]

    assert normal.std() == pytest.approx(1, abs=0.15) and np.abs(normal.mean(axis=0)).max() < 0.6
    assert typical == pytest.approx(np.tile(MEANS[0], (8, 1)), abs=0.05)


def test_parts_without_a_label_serve_every_expression(tmp_path):
    folder = save_generator(
        tmp_path / "v", kind="vae", labels=LABELS, components=((-1, 0.5), (-1, 0.5)), means=MEANS[:2]
    )
    generator = Generator(folder)

    (batch,) = generator.batches(8, Request(expression="happiness"))
    assert set(batch.labels) == {"happiness"}
    assert len({label for batch in generator.batches(40) for label in batch.labels}) == 3


# Latents


def test_encoding_undoes_decoding(vae, rng):
    generator = Generator(vae)
    latents = rng.normal(size=(5, LATENTS))

    again = generator.encode(generator.decode(latents, expression="neutral"))

    assert again == pytest.approx(latents, abs=0.05)
    assert generator.encode(np.empty((0, SIDE, SIDE, 3), np.uint8)).shape == (0, LATENTS)


def test_a_face_is_found_and_cut_before_it_is_encoded(vae, found):
    generator = Generator(vae)
    cut = generator.cut(found)

    assert cut.crop.shape == (SIDE, SIDE, 3)
    assert generator.encode([found]) == pytest.approx(generator.encode(cut.crop[None]))
    with pytest.raises(ImageError, match="No face was found in the picture"):
        generator.cut(found[:100])


def test_an_encoder_of_a_smaller_side_sees_the_faces_shrunk(tmp_path, rng):
    small = Generator(save_generator(tmp_path / "small", kind="vae", encoder=True))
    large = Generator(
        save_generator(tmp_path / "large", kind="vae", encoder=True, side=2 * SIDE, encoder_side=SIDE), threads=1
    )
    faces = small.generate(5, seed=2)
    doubled = faces.repeat(2, axis=1).repeat(2, axis=2)

    assert large.encode(doubled) == pytest.approx(small.encode(faces), abs=1e-4)
    assert large.posteriors(doubled)[0] == pytest.approx(small.encode(faces), abs=1e-4)
    with pytest.raises(ModelError, match="takes faces of 32 px, expected at most the 16 px"):
        Generator(save_generator(tmp_path / "odd", kind="vae", encoder=True, encoder_side=2 * SIDE)).encode(faces)


def test_a_way_between_latents_of_a_vae_is_straight(vae):
    a, b = np.zeros(LATENTS), np.eye(LATENTS)[0]
    images = Generator(vae).between(a, b, 5, expression="neutral")

    assert seen(images)[:, 0] == pytest.approx(np.linspace(0, 1, 5), abs=0.05)


def test_a_way_between_a_gans_noises_stays_on_the_sphere(gan):
    a, b = 2 * np.eye(LATENTS)[:2]
    latents = seen(Generator(gan).between(a, b, 3, expression="neutral"))[:, :LATENTS]

    assert np.linalg.norm(latents, axis=1) == pytest.approx([2, 2, 2], abs=0.05)
    assert latents[1, :2] == pytest.approx([2**0.5] * 2, abs=0.05)


@pytest.fixture
def started(tmp_path):
    """A GAN that began as a VAE's decoder: it draws from the prior and tells no latents."""
    return save_generator(tmp_path / "started", labels=LABELS, components=((0, 0.5), (1, 0.5)), means=MEANS[:2])


@pytest.mark.parametrize("kind", ["vae", "gan", "started"])
def test_a_way_between_seeds_begins_and_ends_at_their_pictures(kind, request):
    generator = Generator(request.getfixturevalue(kind))
    images = generator.between(3, 4, 4, expression="happiness")

    assert np.abs(images[0] - generator.generate(1, seed=3, expression="happiness")[0].astype(int)).max() <= 1
    assert np.abs(images[-1] - generator.generate(1, seed=4, expression="happiness")[0].astype(int)).max() <= 1
    assert len(generator.between(3, 4, 4)) == 4


# Faces like a given one


def test_a_vae_makes_faces_around_the_latents_of_the_one_to_be_like(vae, found):
    generator = Generator(vae)
    centre = generator.encode([found])[0]
    (batch,) = generator.batches(8, Request(like=found))
    wide = seen(generator.generate(64, like=found))[:, :LATENTS]

    assert batch.labels == ("happiness",) * 8
    assert wide.mean(axis=0) == pytest.approx(centre, abs=0.25) and 0.1 < wide.std(axis=0).mean() < 0.5


@pytest.mark.parametrize("told", [True, False], ids=["told the label", "not told"])
def test_faces_like_a_given_one_show_the_expressions_that_they_are_labelled_with(tmp_path, found, told):
    generator = Generator(
        save_generator(
            tmp_path / "v", kind="vae", labels=LABELS, components=COMPONENTS, means=MEANS, encoder=True, told=told
        )
    )
    centre = generator.encode([found])[0]
    happy = np.average(MEANS[1:3], axis=0, weights=[0.2, 0.1])
    (batch,) = generator.batches(8, Request(expression=("surprise", "happiness"), like=found, truncation=0.01))
    latents = seen(batch.images)[:, :LATENTS]

    assert batch.labels == ("surprise", "happiness") * 4
    assert latents[::2].mean(axis=0) == pytest.approx(centre + MEANS[3] - happy, abs=0.1)
    assert latents[1::2].mean(axis=0) == pytest.approx(centre, abs=0.1)


def test_an_expression_that_a_face_like_a_given_one_cannot_show_is_refused(tmp_path, found, judged):
    folder = save_generator(
        tmp_path / "v", kind="vae", labels=LABELS, components=((1, 0.5), (1, 0.5)), encoder=True, told=False
    )
    generator = Generator(folder)

    assert len(generator.generate(2, like=found)) == 2  # It shows happiness, as the picture does.
    with pytest.raises(UsageError, match="cannot make the given face, which shows happiness, show surprise"):
        generator.generate(1, like=found, expression="surprise")
    with pytest.raises(UsageError, match="cannot make the given face"):
        generator.edit(found, expression="surprise")


def test_a_gan_with_an_identity_input_is_fed_the_embedding(tmp_path, found, store, rng):  # noqa: F811
    generator = Generator(save_generator(tmp_path / "who", identity="tiny"))
    one, other = as_unit(rng.normal(size=(2, 64)))

    assert not np.array_equal(generator.generate(1, identity=one), generator.generate(1, identity=other))
    known = Embedding(mien.Analyzer(embedder="tiny").card.id, one)
    assert np.array_equal(generator.generate(1, identity=known), generator.generate(1, identity=3 * one))
    assert generator.generate(2, like=found).shape == (2, SIDE, SIDE, 3)
    with pytest.raises(UsageError, match="got one of 'another'"):
        generator.generate(1, identity=Embedding("another", one))
    with pytest.raises(UsageError, match=r"one embedding of shape \(64,\)"):
        generator.generate(1, identity=one[:3])
    with pytest.raises(UsageError, match="Name it with --like"):
        generator.generate(1)


# Editing


def test_an_edit_moves_from_mean_to_mean_and_keeps_what_the_vae_cannot_draw(vae, found, judged):
    generator = Generator(vae)
    edit = generator.edit(found, expression="surprise", strength=0.5)
    happy = np.average(MEANS[1:3], axis=0, weights=[0.2, 0.1])
    moved = (edit.after.astype(float) - edit.before).transpose(2, 0, 1).ravel() @ basis().T / CONTRAST

    assert edit.shown == "happiness" and edit.wanted == "surprise"
    assert np.corrcoef(moved[:LATENTS], MEANS[3] - happy)[0, 1] > 0.8
    assert edit.after.mean() == pytest.approx(edit.before.mean(), abs=1)
    assert -1 <= edit.identity <= 1 and edit.embedder.startswith("tiny-")
    assert edit.picture.shape == found.shape and not np.array_equal(edit.picture, found)


def test_latents_move_by_what_tells_expressions_apart_and_only_to_those_that_are_known(vae):
    generator = Generator(vae)
    latents = np.zeros((2, generator.latents), np.float32)
    shown, wanted = "happiness", "surprise"

    moved = generator.moved(latents, shown=shown, wanted=wanted)

    assert moved.shape == latents.shape and np.abs(moved).max() > 0 and np.allclose(moved[0], moved[1])
    assert np.array_equal(generator.moved(latents, shown=shown, wanted=shown), latents)
    with pytest.raises(UsageError, match="mood"):
        generator.moved(latents, shown=shown, wanted="mood")


SHIFTS = np.eye(LATENTS)[3:6] * [[0.0], [1.5], [-1.0]]


@pytest.fixture
def mapped(tmp_path):
    """It knows no labels, and a mapper moves latents to three expressions."""
    return save_generator(
        tmp_path / "mapped", kind="vae", components=((-1, 1.0),), encoder=True, edits=LABELS, shifts=SHIFTS
    )


def test_a_mapper_says_where_an_edit_goes_and_the_model_need_not_know_labels(mapped, found, judged):
    generator = Generator(mapped)
    assert generator.labels == () and generator.edits == LABELS

    edit = generator.edit(found, expression="surprise", strength=0.5)

    moved = (edit.after.astype(float) - edit.before).transpose(2, 0, 1).ravel() @ basis().T / CONTRAST
    assert edit.shown == "happiness" and edit.wanted == "surprise"
    assert np.corrcoef(moved[:LATENTS], SHIFTS[2])[0, 1] > 0.8
    latents = np.zeros((10, LATENTS), np.float32)
    assert np.allclose(generator.moved(latents, shown="neutral", wanted="happiness"), SHIFTS[1], atol=1e-6)
    assert generator.generate(3).shape == (3, SIDE, SIDE, 3)
    assert generator.clip("surprise", 3).shape == (3, SIDE, SIDE, 3)
    with pytest.raises(UsageError, match="makes neutral, happiness, surprise; got 'joy'"):
        generator.edit(found, expression="joy")


def test_an_edit_by_a_mapper_changes_colours_a_quarter_as_much_as_lightness(mapped, found, judged, monkeypatch):
    for limit, levels in (("HARDLY", 1000), ("MUCH", 2000)):  # no details make room
        monkeypatch.setattr(f"mien.vision.laying.{limit}", levels)
    generator = Generator(mapped)
    here = generator.encode([generator.cut(found)])
    there = generator.moved(here, shown="happiness", wanted="surprise")

    edit = generator.edit(found, expression="surprise", strength=1)

    def parts(change):
        lightness = (change * [0.299, 0.587, 0.114]).sum(axis=-1, keepdims=True)
        return lightness, change - lightness

    whole = generator._decoded(there)[0] - generator._decoded(here)[0]
    light, colour = parts(whole - whole.mean())
    got = parts(edit.after.astype(float) - edit.before)
    inside = ((edit.after > 0) & (edit.after < 255)).all(axis=2)
    assert np.abs(colour[inside]).max() > 10
    assert np.abs(got[0] - light)[inside].max() < 1 and np.abs(got[1] - colour / 4)[inside].max() < 1.5


def test_what_is_finer_than_a_face_of_the_model_stays_in_the_photograph(mapped, found, judged, monkeypatch):
    monkeypatch.setattr("mien.vision.laying.HARDLY", -1.0)
    monkeypatch.setattr("mien.vision.laying.MUCH", 0.0)  # all details of the aligned face make room
    grain = np.random.default_rng(0).normal(0, 8, found.shape)
    picture = np.clip(found * 0.5 + 60 + grain, 0, 255).astype(np.uint8)
    edit = Generator(mapped).edit(picture, expression="surprise", strength=1)

    def fine(image):
        return (image - cv2.blur(image.astype(np.float32), (3, 3)))[70:120, 60:120]

    assert (edit.picture != picture).any(axis=2)[70:120, 60:120].mean() > 0.5
    assert fine(edit.picture).std() > 0.9 * fine(picture).std()


def test_who_cannot_change_expressions_is_told_who_can(tmp_path, found):
    plain = save_generator(tmp_path / "plain", kind="vae", encoder=True)
    with pytest.raises(UsageError, match=r"cannot be told the expression\. .*face-vae-96.* can\."):
        Generator(plain).edit(found, expression="happiness")


def test_who_only_edits_says_so_where_it_should_draw(mapped):
    with pytest.raises(UsageError, match=r"It changes that of a given face: mien edit, or --clip\."):
        Generator(mapped).generate(1, expression="happiness")


def test_an_edit_by_a_mapper_ends_where_the_reader_sees_it(mapped, found, judged, monkeypatch):
    asked = []

    def read(image, faces):
        asked.append(image)
        surprise = 0.2 if len(asked) < 3 else 0.6  # the first look is at the photograph
        return [SimpleNamespace(probabilities={"happiness": 0.9 - surprise, "neutral": 0.1, "surprise": surprise})]

    generator = Generator(mapped)
    monkeypatch.setattr(generator, "_reader", SimpleNamespace(read=read))

    edit = generator.edit(found, expression="surprise")

    assert edit.strength == 1.25 and len(asked) == 3
    asked.clear()
    assert generator.edit(found, expression="surprise", strength=0.75).strength == 0.75 and len(asked) == 1


def test_a_mapper_moves_to_what_the_decoder_knows_where_it_knows_labels(tmp_path, found, judged):
    run = save_generator(
        tmp_path / "both", kind="vae", labels=LABELS, components=COMPONENTS, means=MEANS, encoder=True, edits=LABELS,
        shifts=SHIFTS,
    )  # fmt: skip
    generator = Generator(run)
    latents = np.zeros((2, LATENTS), np.float32)

    moved = generator.moved(latents, shown="happiness", wanted="surprise")

    assert np.allclose(moved, SHIFTS[2], atol=1e-6)  # not from mean to mean
    assert np.array_equal(generator.moved(latents, shown="surprise", wanted="surprise"), latents)
    card = json.loads((run / "card.json").read_text())
    card["convention"]["edits"] = ["surprise", "neutral", "happiness"]
    (run / "card.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match="edits to surprise, neutral, happiness; expected the same"):
        Generator(run)


def test_a_card_that_speaks_of_a_mapper_which_the_network_lacks_is_refused(vae):
    card = json.loads((vae / "card.json").read_text())
    card["convention"]["edits"] = list(LABELS)
    (vae / "card.json").write_text(json.dumps(card))

    with pytest.raises(ModelError, match="Is the card of another file"):
        Generator(vae).generate(1)


def test_a_clip_goes_to_the_expression_and_comes_back(vae, found, judged):
    generator = Generator(vae)

    clip = generator.clip("surprise", 5, like=found)

    assert clip.shape == (5, generator.side, generator.side, 3)
    assert np.array_equal(clip[0], clip[4]) and np.array_equal(clip[1], clip[3])
    apart = [np.abs(frame.astype(float) - clip[0]).mean() for frame in clip]
    assert 0 < apart[1] < apart[2]
    with pytest.raises(UsageError, match="at least 3 frames, got 2"):
        generator.clip("surprise", 2)


def test_an_edit_of_no_strength_or_to_what_is_shown_changes_nothing(vae, found, judged):
    generator = Generator(vae)

    for edit in (
        generator.edit(found, expression="surprise", strength=0),
        generator.edit(found, expression="happiness"),
    ):
        assert np.array_equal(edit.after, edit.before) and np.array_equal(edit.picture, found)
        assert edit.identity == pytest.approx(1, abs=1e-5)


def test_a_pasted_edit_fades_before_the_border_of_the_face(vae, found, judged):
    generator = Generator(vae)
    edit = generator.edit(found, expression="surprise")
    changed = np.argwhere((edit.picture != found).any(axis=2))

    assert len(changed) and not (edit.picture != found)[[0, -1]].any()


# What a model cannot do


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"expression": "joy"}, "makes neutral, happiness, surprise; got 'joy'"),
        ({"expression": ()}, "No expression was named"),
        ({"attributes": ["hat"]}, "has no attribute 'hat'. It knows none."),
        ({"truncation": -1}, "truncation should be 0 to 2, got -1"),
        ({"seed": -1}, "seed should be a whole number from 0, got -1"),
        ({"prior": "flat"}, "prior is one of flow, mixture, normal, fitted; got 'flat'"),
        ({"identity": np.ones(3)}, "cannot be told the identity"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(vae, options, words):
    with pytest.raises(UsageError, match=words):
        Generator(vae).generate(1, **options)


def test_a_gan_says_what_it_lacks(gan, tmp_path, found):
    generator, bare = Generator(gan), Generator(save_generator(tmp_path / "bare"))

    with pytest.raises(UsageError, match="has no fitted prior"):
        generator.generate(1, prior="fitted")
    with pytest.raises(UsageError, match="cannot be told the face to be like"):
        generator.generate(1, like=found)
    with pytest.raises(ModelError, match="has no encoder"):
        generator.edit(found, expression="surprise")
    with pytest.raises(UsageError, match="cannot be told the expression"):
        bare.generate(1, expression="surprise")
    with pytest.raises(UsageError, match="1 or more, got 0"):
        bare.generate(0)
    with pytest.raises(UsageError, match=r"latents of shape \(n, 6\)"):
        bare.decode(np.zeros((2, 5)))
    with pytest.raises(UsageError, match="at least 2 steps"):
        bare.between(0, 1, 1)


def test_an_expression_that_the_prior_does_not_know_is_refused(tmp_path):
    folder = save_generator(tmp_path / "v", kind="vae", labels=LABELS, components=((0, 1.0),))

    with pytest.raises(UsageError, match=r"knows no surprise\. Take the prior normal"):
        Generator(folder).generate(1, expression="surprise")
    assert len(Generator(folder).generate(1, expression="surprise", prior="normal")) == 1


def test_a_model_of_another_role_or_with_a_card_of_another_file_is_refused(vae, gan, store):  # noqa: F811
    with pytest.raises(ModelError, match="is of role embedder, expected a generator"):
        Generator(vae / "encoder.onnx")
    with pytest.raises(ModelError, match="is of role embedder, expected a generator"):
        Generator("tiny")
    (gan / "card.json").write_text((vae / "card.json").read_text())
    with pytest.raises(ModelError, match="Is the card of another file"):
        Generator(gan).generate(1)
    facts = json.loads((vae / "card.json").read_text())
    del facts["convention"]["latents"]
    (vae / "card.json").write_text(json.dumps(facts))
    with pytest.raises(ModelError, match="does not say 'latents'"):
        Generator(vae)


def test_a_network_that_fails_is_one_line(gan, vae):
    generator = Generator(gan)
    generator.latents = LATENTS + 1  # as a card of another file says

    with pytest.raises(ModelError, match=r"The network of generator 'gan' cannot be run"):
        generator.generate(1)


# Features of an encoder are embeddings


def test_an_encoder_is_an_embedder(vae, found):
    from mien import Analyzer, zoo
    from mien.vision.embedder import Embedder

    features = Embedder(zoo.named(vae / "encoder.onnx"))
    crops = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)

    assert features.embed(crops) == pytest.approx(as_unit(Generator(vae).encode(crops)), abs=1e-5)
    assert Analyzer(embedder=str(vae / "encoder.onnx")).card.role == "embedder"


@pytest.mark.parametrize(("name", "side", "channels"), [("vae-encoder-64", 64, 3), ("vae-encoder-48-grey", 48, 1)])
def test_an_encoder_can_be_added_as_an_embedder(name, side, channels, tmp_path, monkeypatch):
    from mien.vision.embedder import Embedder
    from mien.zoo.adding import add

    monkeypatch.setenv("MIEN_HOME", str(tmp_path / "home"))
    file = embedder(side, channels=channels).save(tmp_path / "encoder.onnx")
    card = add(file, name="mine", role="embedder", convention_name=name)

    assert Embedder(card).embed(np.zeros((1, side, side, 3), np.uint8)).shape == (1, 64)
