import numpy as np
import pytest

from mien.types import Box
from mien.video.composing import Actor, Composed, Film, Still, crossing, drawn_actor, mixed, standing


def block(colour, side=40):
    image = np.full((2 * side, 2 * side, 3), 20, np.uint8)
    image[side // 2 : -side // 2, side // 2 : -side // 2] = colour
    return Still(image, Box(side / 2, side / 2, 1.5 * side, 1.5 * side))


RED, BLUE = (255, 0, 0), (0, 0, 255)


def film(*paths, **options):
    actors = [Actor(i, [block(colour)], path) for i, (colour, path) in enumerate(paths)]
    return Composed(Film(actors, **{"noise": 0.0, "seconds": 2.0, **options}))


def red_box(image):
    mask = (image[..., 0] > 180) & (image[..., 2] < 80)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


@pytest.mark.parametrize("side", [0.06, 0.2, 0.4])
def test_a_face_is_where_the_truth_says(side):
    composed = film((RED, crossing(0.3, 0.7, 2.0, side=side)))
    for number in (0, 20, 50):
        (truth,) = composed.truth(number)
        assert red_box(composed.picture(number)) == pytest.approx(truth.box.as_tuple(), abs=2 + 0.01 * truth.box.side)
        assert truth.box.side == pytest.approx(side * 480) and truth.visible == 1.0


def test_who_stands_behind_somebody_is_hidden_by_as_much():
    composed = film((RED, standing(0.5, sway=0)), (BLUE, standing(0.5, sway=0)))
    behind, front = composed.truth(0)
    assert behind.visible < 0.05 and front.visible == 1.0
    assert not ((composed.picture(0)[..., 0] > 180) & (composed.picture(0)[..., 2] < 80)).any()


def test_a_pillar_hides_everybody_and_the_edge_cuts():
    composed = film((RED, standing(0.5, sway=0)), (BLUE, standing(0.0, sway=0)), pillar=(0.4, 0.6))
    assert [round(one.visible, 1) for one in composed.truth(0)] == [0.0, 0.5]


def test_who_is_not_there_has_no_truth():
    composed = film((RED, crossing(0.2, 0.8, 0.5, from_s=1.0)))
    assert [len(composed.truth(number)) for number in (0, 29, 31, 44, 46)] == [0, 0, 1, 1, 0]


def test_stills_follow_each_other_and_say_what_they_show():
    composed = Composed(Film([drawn_actor(18, standing(0.5), expressions=("neutral", "happiness"))], seconds=3))
    assert [composed.truth(number)[0].expression for number in (0, 44, 46, 89)] == ["neutral"] * 2 + ["happiness"] * 2
    assert composed.truth(0)[0].identity == 18


def test_a_film_is_the_same_each_time_and_another_seed_another_film():
    people = [(i, [block(colour)]) for i, colour in enumerate((RED, BLUE))]
    one, again, other = (Composed(mixed(people, seed=seed)) for seed in (1, 1, 2))
    assert (one.picture(40) == again.picture(40)).all() and one.truth(40) == again.truth(40)
    assert one.truth(40) != other.truth(40)


def test_a_film_is_a_source_of_pictures():
    composed = film((RED, standing(0.5)), seconds=0.2)
    frames = list(composed.frames(lambda *_: None))
    assert [one.number for one in frames] == list(range(6)) and frames[3].time_s == pytest.approx(0.1)
    composed.stop()
    assert list(composed.frames(lambda *_: None)) == []


def test_light_and_blur_come_and_go():
    plain, odd = film((RED, standing(0.5, sway=0))), film((RED, standing(0.5, sway=0)), light=0.3, blur=3.0)
    dark = [odd.picture(number).mean() / plain.picture(number).mean() for number in (0, 35)]
    assert dark[0] == pytest.approx(1, abs=0.02) and dark[1] > 1.1
    sharp = [np.abs(np.diff(one.picture(23).astype(int), axis=1)).max() for one in (plain, odd)]
    assert sharp[1] < sharp[0] / 2
