"""`mien watch` from the command line: clips, a camera on 127.0.0.1, what is written, what goes wrong."""

import json

import av
import numpy as np
import pytest
from click.testing import CliRunner

from mien.cli.watch import watch
from mien.errors import UsageError, VideoError
from mien.gallery import Gallery
from mien.video import sources
from squares import SquareDetector, filled_store, save, scene, store  # noqa: F401
from video.clips import Camera, write_clip


class ForgivingDetector(SquareDetector):
    """Finds squares that went through a lossy codec, too."""

    def detect(self, image):
        red = (image[..., 0] > 200) & (image[..., 1] < 60)
        return super().detect(np.where(red[..., None], np.uint8([255, 0, 250]), np.uint8([90, 90, 90])))


@pytest.fixture(autouse=True)
def _forgiving(store, monkeypatch):  # noqa: F811
    monkeypatch.setattr("mien.analyzer.Detector", lambda card, **_: ForgivingDetector())


@pytest.fixture
def people(tmp_path):
    """A gallery in which a subject has the blue of 250."""
    from mien.analyzer import Analyzer

    analyzer = Analyzer(embedder="tiny", expression=None)
    with Gallery(tmp_path / "people.mien") as gallery:
        for left in (10, 60):
            (face,) = analyzer.analyze(scene((left, 30, 50, 250)), crops=True)
            gallery.enrol("ada", face, source_hash=str(left))
    return tmp_path / "people.mien"


@pytest.fixture
def run():
    def call(*arguments):
        options = ["--embedder", "tiny", "--expression", "none"]
        result = CliRunner().invoke(watch, [*map(str, arguments), *options], standalone_mode=False)
        if result.exception:
            raise result.exception
        return result

    return call


def walking(count=30):
    return [scene((10 + i, 30, 50, 250)) for i in range(count)]


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "walk.mp4", walking(), codec="libx264rgb", pixels="rgb24")


def events(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_clip_becomes_events_a_film_and_a_report(run, people, clip, tmp_path):
    out = tmp_path / "out"
    result = run(
        clip, "--gallery", people, "--threshold", 0.9, "--jsonl", tmp_path / "e.jsonl", "--save", tmp_path / "s.mp4",
        "--report", out,
    )  # fmt: skip
    told = events(tmp_path / "e.jsonl")
    assert [one["event"] for one in told] == ["start", "enter", "identity", "exit", "end"]
    assert told[0]["schema"] == "mien/watch/1" and told[0]["operating_point"]["threshold"] == 0.9
    assert (told[2]["state"], told[2]["subject"]) == ("identified", "ada") and told[3]["subject"] == "ada"
    assert told[4]["frames"] == 30 and told[4]["dropped"] == 0 and told[4]["ended"] == "end"
    with av.open(str(tmp_path / "s.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == 30
    page = (out / "report.html").read_text()
    assert "ada" in page and "walk.mp4" in page and str(tmp_path) not in page
    assert "track 1 is ada" in result.stderr and "30 pictures" in result.stderr and result.return_value == 0


def test_without_a_gallery_people_have_numbers(run, clip, tmp_path):
    run(clip, "--jsonl", tmp_path / "e.jsonl")
    told = events(tmp_path / "e.jsonl")
    assert told[0]["operating_point"] is None
    assert [(one["state"], one["unknown"]) for one in told if one["event"] == "identity"] == [("unknown", 1)]


def test_lines_for_each_picture_and_for_stdout(run, clip):
    told = [json.loads(line) for line in run(clip, "--jsonl", "-", "--pictures").stdout.splitlines()]
    pictures = [one for one in told if one["event"] == "picture"]
    assert [one["frame"] for one in pictures] == list(range(30))
    assert pictures[20]["faces"][0]["box"] == pytest.approx([30, 30, 80, 80], abs=4)
    assert pictures[20]["faces"][0]["who"] == "unknown-1"


def test_a_folder_of_frames_and_a_part_of_it(run, tmp_path):
    for number in range(12):
        save(tmp_path / "frames" / f"{number}.png", (10 + number, 30, 50, 250))
    run(tmp_path / "frames", "--fps", 10, "--seconds", 0.8, "--jsonl", tmp_path / "e.jsonl")
    end = events(tmp_path / "e.jsonl")[-1]
    assert end["frames"] == 8 and end["ended"] == "limit"


def test_a_camera_in_the_network_is_watched_and_its_end_is_said(run, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "FIRST_PAUSE_S", 0.01)
    with Camera((walking(), "end"), (walking(8), "end"), every_s=0.02) as camera:
        result = run(camera.address, "--give-up", 0.3, "--jsonl", tmp_path / "e.jsonl")
    told = events(tmp_path / "e.jsonl")
    kinds = [one.get("what", one["event"]) for one in told]
    assert told[0]["live"] and {"enter", "stalled", "reconnected", "end"} <= set(kinds)
    assert told[-1]["ended"] == "gave up" and told[-1]["latency_ms"]["p95"] > 0
    assert result.return_value == 1 and "did not come back" in result.stderr


def test_a_film_that_breaks_off_is_said_and_the_status_is_1(run, tmp_path):
    whole = write_clip(tmp_path / "a.avi", walking(60), codec="mjpeg").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    result = run(tmp_path / "cut.avi", "--jsonl", tmp_path / "e.jsonl")
    assert result.return_value == 1 and "breaks off after" in result.stderr
    assert events(tmp_path / "e.jsonl")[-1]["ended"] == "truncated"


def test_a_disk_that_fills_is_said_the_rest_goes_on_and_the_status_is_1(run, clip, tmp_path, monkeypatch):
    from mien.video import sinks

    def full(film, watched):
        raise VideoError("Cannot write 's.mp4': No space left on device; the film up to here is kept.")

    monkeypatch.setattr(sinks.Film, "write", full)
    result = run(clip, "--jsonl", tmp_path / "e.jsonl", "--save", tmp_path / "s.mp4")
    assert result.return_value == 1 and result.stderr.count("No space left") == 1
    assert events(tmp_path / "e.jsonl")[-1]["frames"] == 30


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--fpir", 0.1], "add --gallery"),
        (["--pictures"], "name its file"),
        (["--save", "a.avi"], "such as a.mp4"),
    ],
)
def test_options_that_make_no_sense_are_refused(run, clip, options, said):
    with pytest.raises(UsageError, match=said):
        run(clip, *options)


def test_the_source_is_not_written_over(run, clip):
    before = clip.read_bytes()
    with pytest.raises(UsageError, match="write over the source"):
        run(clip, "--save", clip)
    assert clip.read_bytes() == before


def test_no_such_source_is_one_line(run, tmp_path):
    with pytest.raises(VideoError, match="does not exist"):
        run(tmp_path / "none.mp4")
