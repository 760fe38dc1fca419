import cv2
import numpy as np
import pytest

from mien.alignment import TEMPLATES, align, similarity_transform

SIDE, POINTS = 112, np.array(TEMPLATES["arcface-112"][1])


def umeyama(source, target):
    """Follow the paper, equations (38) to (43), in any number of dimensions."""
    mean_s, mean_t = source.mean(axis=0), target.mean(axis=0)
    covariance = (target - mean_t).T @ (source - mean_s) / len(source)
    u, d, vt = np.linalg.svd(covariance)
    flip = np.ones(len(d))
    if np.linalg.det(u) * np.linalg.det(vt) < 0:
        flip[-1] = -1
    rotation = u @ np.diag(flip) @ vt
    scale = (d * flip).sum() / ((source - mean_s) ** 2).sum() * len(source)
    return np.column_stack([scale * rotation, mean_t - scale * rotation @ mean_s])


def moved(points, *, scale, degrees, shift):
    """Turn, scale and shift points, written out."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return scale * np.asarray(points) @ turn.T + shift


# The transform


@pytest.mark.parametrize("trial", range(20))
def test_the_fit_is_umeyamas(trial):
    rng = np.random.default_rng(trial)
    source = rng.normal(size=(5, 2)) * rng.uniform(1, 300) + rng.normal(size=2) * 500
    target = moved(source, scale=rng.uniform(0.05, 20), degrees=rng.uniform(-180, 180), shift=rng.normal(size=2) * 99)
    target += rng.normal(size=(5, 2)) * target.std() * rng.choice([0.0, 0.1, 1.0])

    np.testing.assert_allclose(similarity_transform(source, target), umeyama(source, target), rtol=1e-8, atol=1e-8)


def test_a_mirrored_face_is_turned_and_never_mirrored_back(rng):
    source = rng.normal(size=(5, 2))

    matrix = similarity_transform(source, source * [-1, 1])

    assert np.linalg.det(matrix[:, :2]) > 0
    np.testing.assert_allclose(matrix, umeyama(source, source * [-1, 1]), atol=1e-12)


def test_an_exact_similarity_is_found_exactly():
    source = moved(POINTS, scale=3.7, degrees=-25, shift=(410, 33))

    matrix = similarity_transform(source, POINTS)

    np.testing.assert_allclose(source @ matrix[:, :2].T + matrix[:, 2], POINTS, atol=1e-9)
    assert np.hypot(*matrix[:, 0]) == pytest.approx(1 / 3.7)


def test_a_weight_of_three_is_a_point_given_three_times(rng):
    source, target = rng.normal(size=(2, 5, 2))
    weights = np.array([3, 1, 2, 1, 0])

    weighted = similarity_transform(source, target, weights=weights)

    repeated = np.repeat(source, weights, axis=0), np.repeat(target, weights, axis=0)
    np.testing.assert_allclose(weighted, similarity_transform(*repeated), atol=1e-12)
    np.testing.assert_allclose(weighted, similarity_transform(source, target, weights=weights / 7), atol=1e-12)


def test_landmarks_on_one_point_keep_the_picture_upright_at_unit_scale():
    matrix = similarity_transform(np.full((5, 2), 40.0), POINTS)

    np.testing.assert_allclose(matrix[:, :2], np.eye(2))
    np.testing.assert_allclose(matrix @ [40, 40, 1], POINTS.mean(axis=0))


# The crop


def picture_with_spots(landmarks, *, spot, margin):
    """Draw one soft spot a landmark, three colours in turn, so that spots that touch are still told apart."""
    height, width = (int(landmarks[:, axis].max() + margin) for axis in (1, 0))
    y, x = np.mgrid[:height, :width]
    planes = [np.zeros((height, width)) for _ in range(3)]
    for index, (px, py) in enumerate(landmarks):
        planes[index % 3] += np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * spot**2))
    return (np.stack(planes, axis=-1).clip(0, 1) * 255).round().astype(np.uint8)


def spots_in(crop, near, radius):
    """Return the centre of mass around each expected place."""
    y, x = np.mgrid[: crop.shape[0], : crop.shape[1]]
    found = []
    for index, (px, py) in enumerate(near):
        mass = crop[..., index % 3].astype(float) * (np.hypot(x - px, y - py) < radius)
        found.append([(mass * x).sum() / mass.sum(), (mass * y).sum() / mass.sum()])
    return np.array(found)


@pytest.mark.parametrize("degrees", [0, 30, -100])
@pytest.mark.parametrize("size", [0.12, 0.5, 1.0, 1.9, 2.1, 3.4, 6.0, 11.7], ids=lambda size: f"face {size} x crop")
def test_landmarks_come_to_stand_where_the_template_has_them(size, degrees):
    margin = max(30 * size, 6)  # the crop reaches beyond the picture
    landmarks = moved(POINTS, scale=size, degrees=degrees, shift=(0, 0))
    landmarks += margin - landmarks.min(axis=0) + [0.3, 0.7]
    # Three crop px wide, but never too small for the picture's own pixels.
    image = picture_with_spots(landmarks, spot=max(3 * size, 0.9), margin=margin)

    crop = align(image, landmarks, points=POINTS, side=SIDE)

    radius = 8.0 if size >= 0.3 else 11.0
    assert np.abs(spots_in(crop, POINTS, radius) - POINTS).max() < 0.1


def test_weights_decide_who_gives_way():
    landmarks = POINTS.copy()
    landmarks[3:] += [0, 12]  # an open mouth
    image = picture_with_spots(landmarks, spot=3, margin=30)

    crop = align(image, landmarks, points=POINTS, side=SIDE, weights=np.array([1, 1, 1, 0, 0]))

    np.testing.assert_allclose(spots_in(crop, landmarks, 8)[:3], POINTS[:3], atol=0.1)


@pytest.mark.parametrize("shrink", [2.2, 3.4, 5.5, 9.9])
def test_a_checkerboard_much_larger_than_the_crop_turns_grey(shrink):
    side = int(SIDE * shrink) + 60
    board = (np.indices((side, side)).sum(axis=0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    landmarks = moved(POINTS, scale=shrink, degrees=0, shift=(20.3, 20.3))

    crop = align(board, landmarks, points=POINTS, side=SIDE)

    plain = cv2.warpAffine(board, similarity_transform(landmarks, POINTS), (SIDE, SIDE))
    assert crop.std() < 4 and abs(float(crop.mean()) - 127.5) < 2
    assert plain.std() > 25  # this is what bilinear sampling alone makes of it


def test_what_lies_outside_the_picture_is_black():
    image = np.full((60, 40, 3), 200, np.uint8)
    landmarks = moved(POINTS, scale=1.0, degrees=0, shift=(-56, 0))  # the left half of the face is cut off

    crop = align(image, landmarks, points=POINTS, side=SIDE)

    assert (crop[:59, 57:95] == 200).all()
    assert not crop[:, :55].any() and not crop[62:].any()


@pytest.mark.parametrize("scale", [1e-3, 0.1, 30.0, 1e5])
@pytest.mark.parametrize("shift", [(0, 0), (-1e4, 50), (3e4, -3e4)], ids=["inside", "left of it", "beyond the corner"])
def test_absurd_landmarks_still_give_a_crop_of_the_right_shape(scale, shift):
    image = np.full((30, 50, 3), 255, np.uint8)

    crop = align(image, moved(POINTS, scale=scale, degrees=10, shift=shift), points=POINTS, side=SIDE)

    assert crop.shape == (SIDE, SIDE, 3) and crop.dtype == np.uint8


def test_every_template_has_its_points_inside_left_of_right_and_eyes_above_the_mouth():
    for side, points in TEMPLATES.values():
        left_eye, right_eye, nose, left_mouth, right_mouth = points
        assert all(0 < value < side for point in points for value in point)
        assert left_eye[0] < nose[0] < right_eye[0] and left_mouth[0] < nose[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_the_points_of_a_template_grow_with_the_side():
    template = TEMPLATES["fer-48"]

    assert np.array_equal(template.points_at(48), np.array(template.points))
    np.testing.assert_allclose(template.points_at(96), 2 * np.array(template.points))
