"""`mien challenge` from the command line, on films of a drawn person."""

import json

import pytest
from click.testing import CliRunner

from mien.cli.challenge import challenge
from mien.drawing import draw_face
from mien.errors import UsageError, VideoError
from video.clips import write_clip


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Somebody drawn looks into the camera, turns to their left and back, and then smiles."""
    acts = (
        [{}] * 4 + [{"yaw": yaw} for yaw in (10, 20, 30, 40, 30, 20, 10)] + [{}] * 5 + [{"expression": "happiness"}] * 4
    )
    pictures = {repr(act): draw_face(7, side=240, seed=3, **act).image for act in acts}
    return write_clip(
        tmp_path_factory.mktemp("films") / "act.mp4", [pictures[repr(act)] for act in acts], codec="libx264", fps=10
    )


def run(*arguments):
    result = CliRunner().invoke(challenge, [*map(str, arguments)], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


@pytest.mark.integration
def test_what_is_asked_and_done_passes(film):
    done = run(film, "--ask", "turn-left", "--ask", "smile", "--json")
    told = json.loads(done.stdout)

    assert done.return_value == 0, told["steps"]
    assert told["schema"] == "mien/challenge/1" and told["passed"]
    assert [step["wish"] for step in told["steps"]] == ["turn-left", "smile"]
    assert "1 of 2: please turn your head to your left." in done.stderr


@pytest.mark.integration
def test_a_film_does_not_do_what_it_was_not_made_for(film):
    done = run(film, "--ask", "turn-right")

    assert done.return_value == 1 and "turn-right  not done" in done.stdout and "Not passed" in done.stdout


def test_wrong_wishes_and_sources_are_refused(film, tmp_path):
    with pytest.raises(UsageError, match="'jump' cannot be asked"):
        run(film, "--ask", "jump")
    with pytest.raises(VideoError, match="nowhere"):
        run(tmp_path / "nowhere.mp4")
