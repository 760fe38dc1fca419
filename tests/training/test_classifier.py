from dataclasses import replace

import cv2
import numpy as np
import pytest

from mien import zoo
from mien.errors import DataError, ModelError, UsageError
from mien.training.classifier import ClassifierConfig, train
from mien.types import Embedding
from mien.vision.subjects import SubjectReader
from training.people import BlocksAnalyzer, base_card, write_people


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("people"), 12, 5, disturbance=8)


@pytest.fixture
def analyzer(tmp_path):
    return BlocksAnalyzer(base_card(tmp_path / "base.onnx"))


@pytest.fixture
def config(data, tmp_path):
    return ClassifierConfig(data=data, out=tmp_path / "run")


def embeddings(analyzer, folder):
    pictures = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in sorted(folder.rglob("*.png"))]
    return [analyzer.analyze(picture)[0].embedding for picture in pictures]


@pytest.mark.parametrize("head", ["cosine", "logistic"])
def test_known_subjects_are_named_and_strangers_are_not(config, analyzer, tmp_path, head):
    report = train(replace(config, head=head), analyzer=analyzer)

    assert (report.subjects, report.faces, report.held_out) == (12, 60, 60)
    assert report.accuracy == 1 and report.calibration_error < 0.1
    reader = SubjectReader(zoo.named(config.out))
    told = reader.read(embeddings(analyzer, config.data))
    names = np.repeat(reader.labels, 5).tolist()
    assert [one.subject for one in told] == names
    assert all(abs(sum(one.probabilities.values()) - 1) < 1e-5 for one in told)
    assert np.mean([one.unknown for one in told]) <= 0.1
    strangers = write_people(tmp_path / "strangers", 20, 1, first=500, disturbance=8)
    assert np.mean([one.unknown for one in reader.read(embeddings(analyzer, strangers))]) > 0.7


def test_every_face_is_held_out_once_and_never_learned_from_then(config, analyzer, tmp_path):
    # Labels without meaning: who can name a face that was held out better than by chance has seen it.
    names = np.random.default_rng(0).permutation(np.repeat(np.arange(6), 5))
    folder = tmp_path / "random"
    for number, name in enumerate(names):
        (folder / str(name)).mkdir(parents=True, exist_ok=True)
        (write_people(tmp_path / f"p{number}", 1, 1, first=number) / f"subject_{number:03d}" / "0.png").rename(
            folder / str(name) / f"{number}.png"
        )

    assert train(replace(config, data=folder), analyzer=analyzer).accuracy < 0.5


def test_a_subject_with_one_face_is_learned_but_not_measured(config, analyzer, tmp_path):
    folder = write_people(tmp_path / "mixed", 4, 3, disturbance=8)
    write_people(folder, 1, 1, first=900, disturbance=8)

    report = train(replace(config, data=folder), analyzer=analyzer)

    assert (report.subjects, report.faces, report.held_out) == (5, 13, 12)
    assert "subject_900" in zoo.named(config.out).convention["labels"]


def test_with_two_subjects_nobody_is_unknown_and_the_report_says_so(config, analyzer, tmp_path):
    report = train(replace(config, data=write_people(tmp_path / "two", 2, 4, disturbance=8)), analyzer=analyzer)

    assert report.unknown_below is None and "too few subjects" in report.sentence()
    stranger = embeddings(analyzer, write_people(tmp_path / "other", 1, 1, first=700))
    assert not SubjectReader(zoo.named(config.out)).read(stranger)[0].unknown


@pytest.mark.parametrize(("subjects", "pictures"), [(1, 4), (5, 1)], ids=["one subject", "one face each"])
def test_too_little_data_is_refused(config, analyzer, tmp_path, subjects, pictures):
    few = write_people(tmp_path / "few", subjects, pictures)

    with pytest.raises(DataError, match=f"got {subjects} subjects and {subjects * pictures} faces"):
        train(replace(config, data=few), analyzer=analyzer)


def test_pictures_without_a_face_are_counted(config, analyzer, tmp_path):
    folder = write_people(tmp_path / "some", 4, 3)
    cv2.imwrite(str(folder / "subject_000" / "black.png"), np.zeros((8, 8, 3), np.uint8))
    (folder / "subject_001" / "broken.png").write_bytes(b"no picture")

    assert train(replace(config, data=folder), analyzer=analyzer).lost == 2


def test_no_face_at_all_is_one_line(config, analyzer, tmp_path):
    for name in "ab":
        (tmp_path / "black" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "black" / name / "1.png"), np.zeros((8, 8, 3), np.uint8))

    with pytest.raises(DataError, match="No face was found in any of 2 pictures"):
        train(replace(config, data=tmp_path / "black"), analyzer=analyzer)


def test_the_threshold_keeps_to_the_share_of_strangers_asked_for(config, analyzer):
    strict = train(replace(config, strangers_named=0.02, out=config.out / "strict"), analyzer=analyzer)
    loose = train(replace(config, strangers_named=0.5, out=config.out / "loose"), analyzer=analyzer)

    assert strict.unknown_below > loose.unknown_below
    assert strict.strangers_named < 0.15 and 0.3 < loose.strangers_named < 0.7


@pytest.mark.parametrize("setting", [{"folds": 1}, {"strangers_named": 1.0}, {"l2": 0.0}])
def test_settings_out_of_range_are_refused(config, setting):
    with pytest.raises(UsageError, match=next(iter(setting))):
        replace(config, **setting)


def test_embeddings_of_another_model_are_refused(config, analyzer):
    train(config, analyzer=analyzer)
    other = Embedding("other-1", np.eye(64, dtype=np.float32)[0])

    with pytest.raises(ModelError, match=r"was trained on embeddings of 'blocks-1-.*, these are of 'other-1'"):
        SubjectReader(zoo.named(config.out)).read([other])


def test_no_face_gives_no_answer(config, analyzer):
    train(config, analyzer=analyzer)

    assert SubjectReader(zoo.named(config.out)).read([]) == []


def test_a_model_of_another_role_is_refused(analyzer):
    with pytest.raises(ModelError, match="'blocks' is of role embedder, expected a run folder"):
        SubjectReader(analyzer.card)
