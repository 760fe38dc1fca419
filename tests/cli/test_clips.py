import json

import numpy as np
import pytest
from click.testing import CliRunner

from mien.cli.expression import expression
from mien.errors import ImageError, UsageError
from mien.types import Expression
from mien.vision.sequence import Clip


class Reader:
    """Calls clips happy, and those with 'blank' in their name faceless."""

    def __init__(self, card):
        self.card = card
        self.convention = type("Convention", (), {"frames": 4})

    def read(self, images):
        if not images[0].any():
            raise ImageError("None of the 1 frames that were looked at shows a face.")
        shown = Expression("happiness", {"happiness": 0.9, "sadness": 0.1})
        return Clip(shown, (0, 1), (0.25, 0.75), 1)


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr("mien.vision.sequence.SequenceReader", Reader)
    monkeypatch.setattr("mien.zoo.named", lambda name: type("Card", (), {"id": "run-1"}))
    monkeypatch.setattr(
        "mien.video.clips.read_frames",
        lambda path, most: [np.zeros((4, 4, 3)) if "blank" in path else np.ones((4, 4, 3))],
    )
    return lambda *args: CliRunner().invoke(expression, args)


def test_a_clip_is_a_line(run):
    done = run("party.mp4", "--sequence", "runs/x")

    assert done.exception is None
    assert "party.mp4  happiness   happiness 0.90, sadness 0.10  (2 frames, 1 without a face)" in done.output


def test_clips_as_json_say_which_frames_had_how_much_to_say(run):
    done = run("a", "blank", "--sequence", "runs/x", "--json")

    found = json.loads(done.stdout)
    assert found["schema"] == "mien/expression-clips/1" and found["model"] == "run-1"
    assert found["clips"][0]["frames"] == [{"frame": 0, "weight": 0.25}, {"frame": 1, "weight": 0.75}]
    assert found["clips"][0]["frames_without_face"] == 1 and found["clips"][0]["error"] is None
    assert "shows a face" in found["clips"][1]["error"]


def test_options_for_pictures_do_not_go_with_clips(run):
    done = run("a", "--sequence", "runs/x", "--csv")

    assert isinstance(done.exception, UsageError) and "--sequence goes with --json" in str(done.exception)
