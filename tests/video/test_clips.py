import cv2
import numpy as np
import pytest

from mien.errors import VideoError
from mien.video.clips import read_frames
from video.clips import write_clip


@pytest.fixture
def folder(tmp_path):
    """Eleven frames, each as bright as its number says."""
    for number in range(11):
        cv2.imwrite(str(tmp_path / f"f{number}.png"), np.full((8, 8, 3), 20 * number, np.uint8))
    return tmp_path


@pytest.mark.parametrize(("most", "numbers"), [(20, range(11)), (3, (0, 5, 10)), (2, (0, 10)), (1, (0,))])
def test_a_list_of_pictures_is_thinned_evenly(folder, most, numbers):
    frames = read_frames([folder / f"f{number}.png" for number in range(11)], most=most)

    assert [int(frame[0, 0, 0]) // 20 for frame in frames] == list(numbers)


def test_the_frames_of_a_folder_come_in_order(folder):
    frames = read_frames(folder, most=4)

    shown = [int(frame[0, 0, 0]) // 20 for frame in frames]
    assert len(shown) == 4 and shown == sorted(set(shown)) and shown[0] == 0 and shown[-1] >= 8


def test_a_clip_that_is_not_there_is_named(tmp_path):
    with pytest.raises(VideoError, match=r"'.*gone' does not exist"):
        read_frames(tmp_path / "gone", most=4)


def test_a_long_video_is_thinned_while_it_is_read(tmp_path):
    film = write_clip(tmp_path / "film.mp4", (np.full((16, 16, 3), 2 * number, np.uint8) for number in range(100)))

    shown = [float(frame.mean()) / 2 for frame in read_frames([film], most=5)]

    assert len(shown) == 5 and shown == sorted(shown) and shown[0] < 2 and shown[-1] > 85
    assert max(np.diff(shown)) < 2.2 * min(np.diff(shown))
