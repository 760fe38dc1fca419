"""A gallery normalised by other people than its embedder comes with."""

from dataclasses import replace

import numpy as np
import pytest

from mien.errors import EvaluationError, GalleryError, UsageError
from mien.gallery import Gallery
from mien.gallery.cohorts import card_of, people_in, people_of, use_cohort, use_shipped
from mien.gallery.crypto import write_key
from mien.types import Embedding, as_unit
from mien.vision.cohort import Cohort, make_cohort

from .fake_analyzer import DIMENSION, FakeAnalyzer, card, write_picture


@pytest.fixture
def shipped():
    """The fake embedder as it comes, with a cohort."""
    cohort = Cohort(as_unit(np.random.default_rng(1).standard_normal((30, DIMENSION))), neighbours=5, floor=0.4)
    facts = {"cohort": "made-up", "cohort_sha256": cohort.digest, "neighbours": 5, "floor": 0.4}
    analyzer = FakeAnalyzer(replace(card(), convention={**card().convention, **facts}))
    analyzer.cohort = cohort
    return analyzer


@pytest.fixture
def strangers(tmp_path):
    """A hundred and ten people, a picture each, of whom nobody is enrolled."""
    for person in range(120, 230):
        write_picture(tmp_path / "strangers" / f"{person}.png", person)
    return tmp_path / "strangers"


def enrol(opened, tmp_path, analyzer, persons=(1, 2, 3)):
    for person in persons:
        for seed in (1, 2):
            path = write_picture(tmp_path / "in" / f"{person}-{seed}.png", person, seed=seed)
            (picture,) = analyzer.pictures([path], crops=True, digests=True)
            opened.enrol(f"person {person}", picture.faces[0], source_hash=picture.digest)


@pytest.fixture
def gallery(path, tmp_path, shipped):
    with Gallery(path) as opened:
        enrol(opened, tmp_path, shipped)
        yield opened


def probe(analyzer, person, seed=9):
    return Embedding(analyzer.card.id, analyzer.vector(person + 1, [person + 1, seed]))


def test_a_gallery_normalised_by_its_own_people_still_finds_everybody(gallery, shipped, strangers):
    before = gallery.search(probe(shipped, 2), 1)[0]

    (stored,) = use_cohort(gallery, shipped.card, people_in(strangers, shipped), fmr=[0.5])

    own = shipped.for_gallery(gallery)
    after = gallery.search(probe(own, 2), 1)[0]
    assert after.subject == before.subject == "person 2" and after.score != pytest.approx(before.score, abs=1e-4)
    expected = probe(own, 2).vector @ np.stack([probe(own, 2, seed).vector for seed in (1, 2)]).T
    assert after.score == pytest.approx(expected.max(), abs=2e-3)
    assert stored.model == own.card.id == gallery.model and gallery.points() == [stored]


def test_it_takes_its_cohort_along(gallery, shipped, strangers, path):
    assert gallery.stats().cohort is None
    cohort = make_cohort(people_in(strangers, shipped).vectors)

    use_cohort(gallery, shipped.card, people_in(strangers, shipped), fmr=[0.5])

    with Gallery(path, read_only=True) as again:
        assert again.cohort.digest == cohort.digest and again.stats().cohort == len(cohort.vectors)
        assert card_of(again, [card("other"), shipped.card]).id == again.model
        assert card_of(again, [card("other")]) is None


def test_whoever_does_not_use_its_cohort_is_refused_with_the_cure(gallery, shipped, strangers):
    use_cohort(gallery, shipped.card, people_in(strangers, shipped), fmr=[0.5])

    with pytest.raises(GalleryError, match=r"has a cohort of its own.*for_gallery"):
        gallery.search(probe(shipped, 2))
    gallery.expect_model(shipped.for_gallery(gallery).card.id)


def test_nothing_changes_where_the_new_threshold_cannot_be_measured(gallery, shipped, strangers):
    before, model = gallery.vectors("person 1"), gallery.model

    with pytest.raises(EvaluationError, match="needs at least 1000 impostor scores"):
        use_cohort(gallery, shipped.card, people_in(strangers, shipped), fmr=[0.5, 1e-3])

    assert gallery.model == model and gallery.cohort is None and gallery.points() == []
    np.testing.assert_array_equal(gallery.vectors("person 1"), before)


def test_there_is_a_way_back(gallery, shipped, strangers):
    before = gallery.vectors("person 1")
    use_cohort(gallery, shipped.card, people_in(strangers, shipped), fmr=[0.5])

    use_shipped(gallery, shipped.card, shipped.cohort, fmr=[])

    assert gallery.model == shipped.card.id and gallery.cohort is None and gallery.points() == []
    np.testing.assert_allclose(gallery.vectors("person 1"), before, atol=2e-3)


@pytest.mark.on("sqlite")
def test_the_enrolled_people_may_be_the_cohort(path, tmp_path, shipped):
    with Gallery(path) as opened:
        enrol(opened, tmp_path, shipped, range(1, 104))
        people = people_of(opened, shipped.card)
        assert people.vectors.shape == (103, DIMENSION)

        use_cohort(opened, shipped.card, people, fmr=[0.01])

        (found,) = opened.search(probe(shipped.for_gallery(opened), 50), 1)
        assert found.subject == "person 50"


def test_an_embedder_without_a_cohort_gets_one(path, tmp_path, strangers):
    plain = FakeAnalyzer()
    with Gallery(path) as opened:
        enrol(opened, tmp_path, plain)
        use_cohort(opened, plain.card, people_in(strangers, plain), fmr=[0.5])
        assert opened.stats().dimension == DIMENSION + 1
        use_shipped(opened, plain.card, None, fmr=[])
        assert opened.stats().dimension == DIMENSION and opened.search(probe(plain, 3), 1)[0].subject == "person 3"


def test_in_an_encrypted_gallery_the_cohort_is_sealed(path, tmp_path, shipped, strangers):
    write_key(tmp_path / "key")
    with Gallery(path, key_file=tmp_path / "key") as opened:
        enrol(opened, tmp_path, shipped)
        use_cohort(opened, shipped.card, people_in(strangers, shipped), fmr=[0.5])
        assert opened.cohort is not None and b"neighbours" not in opened.rows.meta("cohort")


def test_an_export_takes_the_cohort_along(gallery, shipped, strangers, tmp_path):
    use_cohort(gallery, shipped.card, people_in(strangers, shipped), fmr=[0.5])
    gallery.export(tmp_path / "out")

    with Gallery(tmp_path / "other.mien") as other:
        other.import_(tmp_path / "out")
        assert other.cohort.digest == gallery.cohort.digest
        assert other.search(probe(shipped.for_gallery(other), 1), 1)[0].subject == "person 1"


def test_a_damaged_cohort_is_said_to_be_damaged(gallery, shipped, strangers):
    use_cohort(gallery, shipped.card, people_in(strangers, shipped), fmr=[0.5])
    stored = gallery.rows.meta("cohort")
    gallery.rows.set_meta("cohort", stored.replace(b'"floor": 0', b'"floor": 1'))

    with pytest.raises(GalleryError, match=r"cohort of .* is damaged"):
        _ = gallery.cohort
    assert any("cohort" in problem for problem in gallery.check().problems)


def test_migrating_to_another_embedder_leaves_the_cohort_behind(gallery, shipped, strangers):
    use_cohort(gallery, shipped.card, people_in(strangers, shipped), fmr=[0.5])
    other = FakeAnalyzer(card("other"))

    gallery.migrate(other.card.id, other.embed_crops)

    assert gallery.cohort is None and gallery.search(probe(other, 3), 1)[0].subject == "person 3"


@pytest.mark.parametrize(
    ("people", "message"),
    [(99, "at least 100 different people, got 99"), (None, "a folder of pictures; '.*nowhere' is none")],
)
def test_too_few_people_are_refused_before_any_work(shipped, tmp_path, people, message):
    folder = tmp_path / "nowhere" if people is None else tmp_path / "few"
    for person in range(people or 0):
        write_picture(folder / f"{person}.png", person + 1)
    with pytest.raises(UsageError, match=message):
        people_in(folder, shipped)


def test_people_with_a_folder_each_count_once_and_what_shows_no_face_is_named(shipped, tmp_path):
    for person in range(101):
        for seed in (1, 2):
            write_picture(tmp_path / "many" / f"p{person}" / f"{seed}.png", person + 1, seed=seed)
    write_picture(tmp_path / "many" / "p7" / "empty.png")

    people = people_in(tmp_path / "many", shipped)

    assert people.vectors.shape == (101, DIMENSION)
    assert [note for note in people.notes if "empty.png' shows no face" in note]


def test_the_gallerys_embedder_has_to_be_the_one_that_is_named(gallery, strangers):
    other = FakeAnalyzer(card("other"))
    with pytest.raises(GalleryError, match=r"templates are of fake-1-.*not of other-1-.*--embedder"):
        use_cohort(gallery, other.card, people_in(strangers, other), fmr=[0.5])


def test_an_empty_gallery_has_nothing_to_compare(path, shipped, strangers):
    with Gallery(path) as empty, pytest.raises(GalleryError, match="Enrol first"):
        use_cohort(empty, shipped.card, people_in(strangers, shipped), fmr=[0.5])
