import threading
import weakref
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from mien.errors import UsageError, VideoError
from mien.video import sources
from mien.video.frames import THUMB, Frame
from mien.video.sources import open_source
from video.clips import Camera, RtspCamera, turn_clip, walking, write_clip
from video.fakes import picture


def read(text, **options):
    said = []
    frames = list(open_source(str(text), **options).frames(lambda what, line: said.append((what, line))))
    return frames, said


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "walk.mp4", walking(30))


def test_all_pictures_of_a_file_come_in_order_with_their_times(clip):
    frames, said = read(clip)
    assert [one.number for one in frames] == list(range(30)) and said == []
    assert [one.time_s for one in frames] == pytest.approx([i / 30 for i in range(30)], abs=1e-3)
    assert frames[7].image.shape == (120, 160, 3)
    assert abs(frames[7].image.astype(int) - walking(8)[7]).mean() < 4


def test_times_are_those_of_the_file_where_pictures_come_unevenly(tmp_path):
    times = [0.0, 0.1, 0.15, 0.9, 1.0]
    frames, _ = read(write_clip(tmp_path / "uneven.mkv", walking(5), times=times))
    assert [one.time_s for one in frames] == pytest.approx(times, abs=2e-3)


def test_a_file_without_times_is_counted_and_that_is_said(tmp_path):
    frames, said = read(write_clip(tmp_path / "raw.h264", walking(10), form="h264"))
    assert len(frames) == 10 and frames[-1].time_s == pytest.approx(9 / 25, rel=0.2)
    assert len({one.time_s for one in frames}) == 10
    assert not said or said[0][0] == "no_times"


def test_a_rate_of_ones_own_counts_for_all(clip):
    assert [one.time_s for one in read(clip, fps=10)[0]][:3] == pytest.approx([0, 0.1, 0.2])


def test_a_film_that_was_cut_off_gives_what_there_is_and_says_so(tmp_path):
    whole = write_clip(tmp_path / "whole.avi", walking(60), codec="mjpeg").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    frames, said = read(tmp_path / "cut.avi")
    assert 20 < len(frames) < 40 and [what for what, _ in said] == ["truncated"] and "came before" in said[0][1]


def test_an_mp4_without_its_index_is_one_line(clip, tmp_path):
    data = clip.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(VideoError, match="its index is missing, as in a recording that was cut off"):
        open_source(str(tmp_path / "cut.mp4"))


def test_what_is_no_video_is_one_line(tmp_path):
    (tmp_path / "a.mp4").write_text("no film")
    with pytest.raises(VideoError, match=r"'.*a.mp4' cannot be read as a video: it is damaged, or no video"):
        open_source(str(tmp_path / "a.mp4"))
    with pytest.raises(VideoError, match="does not exist"):
        open_source(str(tmp_path / "b.mp4"))
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(VideoError, match="cannot be read as a video"):
        open_source(str(tmp_path / "empty.mp4"))


def test_sound_without_pictures_is_one_line(tmp_path):
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(VideoError, match="holds no pictures, only audio"):
        open_source(str(tmp_path / "sound.wav"))


def test_a_film_of_a_phone_held_upright_is_turned(tmp_path):
    path = turn_clip(write_clip(tmp_path / "phone.mp4", walking(3)))
    first = read(path)[0][0]
    assert (first.width, first.height) == (120, 160) and first.image.shape == (160, 120, 3)
    # Turned by a quarter clockwise: what was 10 px from the left is 10 px from the top.
    rows, columns = np.nonzero(first.image[..., 0] > 200)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx((10, 49, 40, 79), abs=1)
    assert read(path, turn=0)[0][0].image.shape == (120, 160, 3)


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_the_small_grey_picture_is_upright_as_the_large_one_is(clip, turn):
    one = read(clip, turn=turn)[0][0]
    whole, small = one.image[..., 1].astype(float), one.thumb().astype(float)
    assert small.shape == THUMB[::-1]
    fy, fx = whole.shape[0] / small.shape[0], whole.shape[1] / small.shape[1]
    again = whole[(np.arange(36) * fy).astype(int)][:, (np.arange(64) * fx).astype(int)]
    assert np.corrcoef(again.ravel(), small.ravel())[0, 1] > 0.6
    assert Frame(one.image, number=0, time_s=0.0).thumb().shape == small.shape


class _Decoded:
    """A decoded picture that counts how often it was converted to RGB."""

    def __init__(self, image):
        self.picture, self.converted = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p"), 0

    def to_ndarray(self, **form):
        self.converted += 1
        return self.picture.to_ndarray(**form)

    def __getattr__(self, name):
        return getattr(self.picture, name)


def test_a_picture_that_nobody_looks_at_is_not_converted():
    decoded = _Decoded(walking(1)[0])
    one, kept = Frame(decoded, number=0, time_s=0.0), weakref.ref(decoded)
    assert one.thumb().any() and decoded.converted == 0
    assert one.image is one.image and decoded.converted == 1
    image = weakref.ref(one.image)
    del decoded
    one.forget()
    assert kept() is None and image() is None


def test_pictures_may_change_their_size_in_one_stream(tmp_path):
    for name, size in (("a", (160, 120)), ("b", (192, 96))):
        shots = walking(5, width=size[0], height=size[1])
        write_clip(tmp_path / f"{name}.h264", shots, form="h264")
    both = (tmp_path / "a.h264").read_bytes() + (tmp_path / "b.h264").read_bytes()
    (tmp_path / "both.h264").write_bytes(both)
    sizes = [(one.width, one.height) for one in read(tmp_path / "both.h264")[0]]
    assert sizes == [(160, 120)] * 5 + [(192, 96)] * 5


def test_a_folder_is_read_in_the_order_of_its_numbers_and_a_bad_picture_is_passed_over(tmp_path):
    for number in (1, 2, 10, 11):
        Image.fromarray(picture((number, 40, 40, 5, 0))).save(tmp_path / f"frame{number}.png")
    (tmp_path / "frame3.png").write_bytes(b"none")
    frames, said = read(tmp_path, fps=10)
    assert [int(np.flatnonzero(one.image[60, :, 0] == 255)[0]) for one in frames] == [1, 2, 10, 11]
    assert [one.time_s for one in frames] == pytest.approx([0, 0.1, 0.3, 0.4])
    assert [what for what, _ in said] == ["unreadable"] and "frame3.png" in said[0][1]


def test_a_folder_without_pictures_is_one_line(tmp_path):
    with pytest.raises(VideoError, match="holds no pictures"):
        open_source(str(tmp_path))
    (tmp_path / "a.png").write_bytes(b"none")
    with pytest.raises(VideoError, match=r"No picture of .* can be read"):
        read(tmp_path)


@pytest.mark.skipif(not sources.sys.platform.startswith("linux"), reason="cameras have other names elsewhere")
def test_a_camera_that_is_not_there_is_one_line():
    with pytest.raises(VideoError, match=r"no camera 97 \(/dev/video97 does not exist\); there is"):
        open_source("97")


def test_addresses_are_shown_without_names_passwords_and_keys():
    source = open_source("rtsp://ada:secret@192.0.2.1:554/live?token=abc")
    assert source.name == "rtsp://192.0.2.1:554/live" and source.live
    with pytest.raises(VideoError, match="no address that can be read") as error:
        open_source("gopher://ada:secret@host/x")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("options", [{"turn": 45}, {"fps": 0.0}, {"fps": 2000.0}])
def test_numbers_out_of_range_are_refused(clip, options):
    with pytest.raises(UsageError):
        open_source(str(clip), **options)


def test_without_pyav_the_cure_is_named(clip, monkeypatch):
    monkeypatch.setitem(sources.sys.modules, "av", None)
    with pytest.raises(UsageError, match=r"pip install 'mien\[video\]'"):
        open_source(str(clip))


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(sources, "FIRST_PAUSE_S", 0.01)


def test_a_stream_that_breaks_off_is_opened_again(hurried):
    with Camera((walking(12), "end"), (walking(6), "end")) as camera:
        frames, said = read(camera.address, give_up_s=0.3)
    assert len(frames) >= 15 and [one.number for one in frames] == list(range(len(frames)))
    assert [what for what, _ in said] == ["stalled", "reconnected", "stalled", "gave up"]
    times = [one.time_s for one in frames]
    assert times == sorted(times) and times[0] == 0.0


def test_a_stream_over_rtsp_is_read_and_its_login_is_not_shown(hurried):
    with RtspCamera(walking(40)) as camera:
        source = open_source(camera.address, timeout_s=2, give_up_s=0.01)
        frames = []
        for one in source.frames(lambda *_: None):
            frames.append(one.image)
            if len(frames) == 20:
                source.stop()
    assert len(frames) == 20 and frames[0].shape == (120, 160, 3) and source.name.startswith("rtsp://127.0.0.1:")
    left = [int(np.flatnonzero(image[60, :, 0] > 150)[0]) for image in frames]
    assert left == sorted(left) and left[-1] > left[0] + 10


def test_a_stream_that_stalls_is_given_up_after_a_time_and_opened_again(hurried):
    with Camera((walking(8), "stall"), (walking(4), "end")) as camera:
        frames, said = read(camera.address, timeout_s=0.3, give_up_s=0.5)
    assert len(frames) >= 9 and "no answer in time" in said[0][1] and said[1][0] == "reconnected"


def test_a_stream_that_nobody_serves_is_one_line(hurried):
    with pytest.raises(VideoError, match=r"http://127.0.0.1:9/x gives no pictures: .*Check the address"):
        read("http://127.0.0.1:9/x", give_up_s=0.05)


@pytest.fixture
def pauses(monkeypatch):
    """Pauses between attempts take no time and are listed; the last of forty stops the stream."""
    taken = []

    class Waiting(threading.Event):
        def wait(self, timeout=None):
            taken.append(timeout)
            if len(taken) % 40 == 0:
                self.set()
            return self.is_set()

    monkeypatch.setattr("mien.video.sources.threading", SimpleNamespace(Event=Waiting))
    return taken


def test_a_stream_can_be_stopped_while_it_waits_to_try_again(pauses):
    assert read("http://127.0.0.1:9/x", give_up_s=0)[0] == [] and len(pauses) == 40


def test_pauses_grow_and_have_a_limit(pauses):
    for _ in range(20):
        read("http://127.0.0.1:9/x", give_up_s=0)
    longest = [max(pauses[n - 1 :: 40]) for n in (1, 2, 5, 40)]
    assert longest == sorted(longest) and longest[0] <= 0.5 and longest[-1] <= 30.0
    assert min(pauses[2::40]) > 1.0
