import numpy as np
import pytest

from mien.analyzer import Analyzer
from mien.types import Box
from mien.video.eyes import Eyes
from mien.vision.embedder import Embedder
from squares import POINT_2, SquareDetector, filled_store, scene, store  # noqa: F401


@pytest.fixture
def eyes(store):  # noqa: F811
    return Eyes(Analyzer(embedder="tiny", expression=None))


def test_faces_are_found_cut_and_embedded_as_the_analyzer_does(eyes):
    image = scene((40, 30, 60, 200))
    (found,) = eyes.find(image)
    crop, quality = eyes.judge(image, found)
    (face,) = Analyzer(embedder="tiny", expression=None).analyze(image, crops=True)
    assert (crop == face.crop).all() and quality == face.quality
    assert eyes.comparable(eyes.embed([crop, crop]))[1] == pytest.approx(face.embedding.vector, abs=1e-6)


def test_networks_can_be_run_once_before_a_camera_is_opened(eyes, monkeypatch):
    run, describe = [], Embedder.describe
    monkeypatch.setattr(Embedder, "describe", lambda self, crops: run.append(len(crops)) or describe(self, crops))
    eyes.warm_up()
    assert run == [1]


def test_thresholds_are_those_of_the_embedder_and_none_where_it_was_not_measured(eyes):
    assert eyes.maybe == 0.8 and eyes.surely_same is None and eyes.labels == ()


def test_a_detector_that_cannot_look_again_says_so(eyes):
    assert not hasattr(SquareDetector, "can_look_again")
    assert eyes.look_again(np.zeros((20, 20, 3), np.uint8), [Box(0, 0, 9, 9)]) is None
