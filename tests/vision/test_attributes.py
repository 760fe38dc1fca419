"""Geometry on meshes, and the readers around networks that answer what the test says."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from mien import zoo
from mien.types import Box
from mien.vision import attributes
from mien.vision.attributes import (
    CONTOURS,
    AttributeReader,
    MeshReader,
    eye_openness,
    mean_mesh,
    mesh_edges,
    mouth_openness,
    pose_of,
)
from mien.vision.detector import Detection
from vision.planted import landmarks_of, make


def rotated(yaw=0.0, pitch=0.0, roll=0.0):
    """Return the mean mesh, its nose turned to the viewer's right by yaw, up by pitch, then leant clockwise by roll."""
    y, p, r = np.radians([-yaw, -pitch, roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return mean_mesh().points @ (about_z @ about_y @ about_x).T


@pytest.mark.parametrize(
    "pose", [(0, 0, 0), (35, 0, 0), (0, -20, 0), (0, 0, 30), (-50, 15, 100), (10, 25, -170)], ids=str
)
def test_the_pose_of_a_turned_mesh_is_how_it_was_turned(pose):
    got = pose_of(rotated(*pose) * 40 + [300, 200, -7])

    assert (got.yaw, got.pitch, got.roll) == pytest.approx(pose, abs=1e-6)


def test_the_nose_goes_to_the_viewers_right_with_yaw_and_up_with_pitch():
    nose, straight = 1, rotated()[1]

    assert rotated(yaw=20)[nose, 0] > straight[0] + 0.1 and rotated(pitch=20)[nose, 1] < straight[1] - 0.1


def test_a_mirrored_mesh_has_yaw_and_roll_of_the_other_sign():
    mesh = rotated(20, 10, 5)
    got = pose_of((mesh * [-1, 1, 1])[mean_mesh().mirror])

    assert (got.yaw, got.pitch, got.roll) == pytest.approx((-20, 10, -5), abs=0.05)


def test_the_mean_mesh_is_symmetric_and_every_point_has_a_mirror_image():
    mean = mean_mesh()

    assert (mean.mirror[mean.mirror] == np.arange(468)).all()
    np.testing.assert_allclose((mean.points * [-1, 1, 1])[mean.mirror], mean.points, atol=2e-4)


def contour(gap, width=40.0):
    """Return what the network of eyes answers for an eye whose lids are so many widths apart."""
    points = np.zeros((71, 3))
    points[:9, 0] = np.linspace(10, 10 + width, 9)
    points[9:16] = points[1:8] - [0, gap * width, 0]
    return points


def test_openness_is_the_gap_in_widths_whatever_the_size():
    assert eye_openness(contour(0.25)) == eye_openness(contour(0.25, width=7)) == pytest.approx(0.25)
    assert eye_openness(contour(0.0)) == 0


def test_a_mouth_opens_with_its_lower_lip_whatever_the_pose():
    closed, opened = mean_mesh().points, mean_mesh().points.copy()
    opened[[14, 87, 317], 1] += 0.3

    assert mouth_openness(closed) < 0.1 < mouth_openness(opened)
    assert mouth_openness(closed) == pytest.approx(mouth_openness(rotated(30, 10, 50) * 9))


def test_every_line_of_a_drawn_mesh_joins_two_of_its_points():
    numbers = {number for line in CONTOURS for number in line} | {number for edge in mesh_edges() for number in edge}

    assert numbers <= set(range(468)) and len({tuple(sorted(edge)) for edge in mesh_edges()}) == len(mesh_edges())


# Readers ------------------------------------------------------------------------------------------------------------


class Says:
    """Stands in for a session: keeps the shapes that it is fed and answers rows, the same to every face."""

    def __init__(self, *rows):
        self.rows, self.fed = [np.asarray(row, np.float32) for row in rows], []

    def get_inputs(self):
        return [SimpleNamespace(name="x")]

    def run(self, _, feed):
        self.fed.append(feed["x"].shape)
        return self.answers(feed["x"])

    def answers(self, x):
        return [np.tile(row, (len(x), 1)) for row in self.rows]


def in_the_square(mesh, side=192):
    """Put a mesh into the middle of what the network is shown, two thirds of it large, as it is once it was found."""
    flat = mesh[:, :2]
    scale = side / 1.5 / (flat.max(axis=0) - flat.min(axis=0)).max()
    placed = (mesh - [*(flat.max(axis=0) + flat.min(axis=0)) / 2, 0]) * scale + [side / 2, side / 2, 0]
    return placed.ravel()


@pytest.fixture
def sessions(monkeypatch):
    """Networks that answer the mean mesh, an age of 10 or 30 and, by 9 to 1, a male face."""
    shares = np.zeros(81)
    shares[[10, 30]] = 0.25, 0.75
    made = {
        "mesh": Says(in_the_square(mean_mesh().points), [4.0]),
        "eyes": Says(contour(0.2).ravel(), np.zeros(15)),
        "age": Says(shares),
        "gender": Says([0.1, 0.9]),
    }
    cards = {
        "mesh": make("mesh", "mesh", kind="mesh", side=192),
        "eyes": make("eyes", "eyes", kind="eyes", side=64),
        "age": make("age", "age", kind="age", side=64, template="dlib-140", classes=81),
        "gender": make("gender", "gender", kind="gender", side=32, template="dlib-140", labels=["female", "male"]),
    }
    monkeypatch.setattr(attributes, "MODELS", {role: role for role in cards})
    monkeypatch.setattr(zoo, "card", lambda name: cards[name])
    monkeypatch.setattr(zoo, "path", lambda card: card.role)
    monkeypatch.setattr(attributes, "make_session", lambda role, options: made[role])
    return SimpleNamespace(made=made, cards=cards)


IMAGE = np.full((200, 300, 3), 90, np.uint8)


def face(left, top, side):
    points = landmarks_of(left, top, side).astype(np.float32)
    return Detection(Box(left, top, left + side, top + side), points, 0.9)


def test_points_come_back_in_px_of_the_picture_from_where_the_face_is(sessions):
    (one, two), scores = MeshReader().read(IMAGE, [face(100, 40, 60), face(10, 100, 30)])

    # What the network shows in the middle at two thirds fills the box that was given.
    for mesh, (left, top, side) in ((one, (100, 40, 60)), (two, (10, 100, 30))):
        low, high = mesh[:, :2].min(axis=0) + 0.5, mesh[:, :2].max(axis=0) + 0.5
        np.testing.assert_allclose((low + high) / 2, [left + side / 2 + 0.5, top + side / 2 + 0.5], atol=0.6)
        assert (high - low).max() == pytest.approx(side, rel=0.01)
    assert scores == pytest.approx([1 / (1 + np.exp(-4.0))] * 2)
    assert [shape[0] for shape in sessions.made["mesh"].fed] == [2, 2], "two looks, all faces in each"


def test_a_face_that_leans_is_shown_upright_and_its_roll_is_told(sessions):
    upright = face(100, 40, 60)
    turn = np.radians(30)
    about = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = upright.landmarks.mean(axis=0)
    leaning = Detection(upright.box, ((upright.landmarks - middle) @ about.T + middle).astype(np.float32), 0.9)

    (mesh,), _ = MeshReader().read(IMAGE, [leaning])

    assert pose_of(mesh).roll == pytest.approx(30, abs=0.5)


def test_guesses_are_means_with_the_error_of_their_age_band(sessions):
    bands = {"error_by_estimated_age": [[0, 18, 3.5], [18, 40, 6.25], [40, 200, 9.0]]}
    for role in ("age", "gender"):
        sessions.cards[role] = replace(sessions.cards[role], metrics=bands)

    (seen,) = AttributeReader(models=attributes.MODELS).read(IMAGE, [face(100, 40, 60)])

    assert (seen.age.years, seen.age.error) == (25.0, 6.25)
    assert (seen.gender.label, seen.gender.error) == ("male", 6.25)
    assert seen.gender.probability == pytest.approx(0.9)
    assert (seen.pose.yaw, seen.pose.pitch) == pytest.approx((0, 0), abs=1e-3)
    assert seen.left_eye.open and seen.right_eye.open and not seen.mouth.open
    assert sessions.made["eyes"].fed == [(2, 3, 64, 64)], "both eyes at once"


def test_an_eye_is_shut_where_its_network_says_so_whatever_the_mesh_shows(sessions):
    sessions.made["eyes"].rows[0] = contour(0.03).ravel().astype(np.float32)

    (seen,) = AttributeReader(models=attributes.MODELS).read(IMAGE, [face(100, 40, 60)])

    assert not seen.left_eye.open and seen.right_eye.openness == pytest.approx(0.03, abs=1e-6)


def test_the_right_eye_is_shown_mirrored_as_if_it_were_a_left_one(sessions, monkeypatch):
    shown = []
    monkeypatch.setattr(Says, "run", lambda self, _, feed: shown.append(feed["x"]) or self.answers(feed["x"]))
    symmetric = np.tile(np.abs(np.arange(300) - 149.5)[None, :, None].astype(np.uint8), (200, 1, 3))

    AttributeReader(models=attributes.MODELS).read(symmetric, [face(120, 40, 60)])

    eyes = next(fed for fed in shown if fed.shape == (2, 3, 64, 64))
    np.testing.assert_allclose(eyes[0], eyes[1], atol=6)


def test_without_measured_errors_none_is_claimed(sessions):
    (seen,) = AttributeReader(models=attributes.MODELS).read(IMAGE, [face(100, 40, 60)])

    assert seen.age.error is None and seen.gender.error is None


def test_a_picture_without_a_face_has_no_attributes_and_runs_nothing(sessions):
    assert AttributeReader(models=attributes.MODELS).read(IMAGE, []) == []
    assert not any(session.fed for session in sessions.made.values())
