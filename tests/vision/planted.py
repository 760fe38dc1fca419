"""Cards made by hand, networks that answer constants, and one that finds red squares with sub-pixel accuracy."""

from types import SimpleNamespace

import cv2
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from mien.zoo.catalogue import make_card

SHARES = np.array([[0.3, 0.35], [0.7, 0.35], [0.5, 0.55], [0.35, 0.75], [0.65, 0.75]])
"""Where a red square has its landmarks, as parts of its width and height."""


def make(role, name="planted", **convention):
    """Return a card with this convention."""
    words = dict.fromkeys(("version", "summary", "licence", "training_data"), "1")
    source = {"kind": "file", "sha256": "0" * 64}
    return make_card(name, {"role": role, "source": source, "convention": convention, **words})


def save_constant(path, outputs):
    """Write a network that answers these arrays to any picture."""
    nodes = [
        helper.make_node("Constant", [], [f"y{i}"], value=numpy_helper.from_array(np.asarray(value, np.float32)))
        for i, value in enumerate(outputs)
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "c", "h", "w"])],
        [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, np.shape(v)) for i, v in enumerate(outputs)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def draw(width, height, *squares, grey=90):
    """Draw red squares (left, top, side) or (left, top, side, score) on grey; blue is the score."""
    image = np.full((height, width, 3), grey, np.uint8)
    for left, top, side, *score in squares:
        top_left, bottom_right = (max(left, 0), max(top, 0)), (left + side, top + side)
        blue = round(255 * (score[0] if score else 0.9))
        image[top_left[1] : bottom_right[1], top_left[0] : bottom_right[0]] = (255, 0, blue)
    return image


def landmarks_of(left, top, side):
    """Return the landmarks of a square in pixel centres."""
    return SHARES * side + [left - 0.5, top - 0.5]


class RedSquares:
    """Stands in for an ONNX Runtime session of CenterFace: a red square is a face.

    It answers in pixel centres, so that a square that covers pixels 10 to 19 has its box from 9.5 to 19.5. It is less
    sure of what the border cuts off, and sees no face in what runs from border to border or is far from square.
    """

    def __init__(self, *, least=6, most=1e9):
        self.least, self.most = least, most  # px at the input
        self.shown = []

    def get_inputs(self):
        return [SimpleNamespace(name="x")]

    def run(self, _, feed):
        (blob,) = feed.values()
        assert blob.dtype == np.float32 and blob.shape[1] == 3 and not any(extent % 32 for extent in blob.shape[2:])
        self.shown.append(blob.shape)
        batch, _, height, width = blob.shape
        outputs = [np.zeros((batch, c, height // 4, width // 4), np.float32) for c in (1, 2, 2, 10)]
        for item, (red, green, blue) in enumerate(blob):
            for left, top, w, h, score in self._squares(np.clip((red - green) / 255, 0, 1), blue):
                cy, cx = top + h / 2, left + w / 2
                y, x = int(cy / 4), int(cx / 4)
                heat, log_size, offset, marks = (output[item, :, y, x] for output in outputs)
                heat[:] = score
                log_size[:] = np.log(h / 4), np.log(w / 4)
                offset[:] = cy / 4 - y - 0.5, cx / 4 - x - 0.5
                marks[:] = SHARES[:, ::-1].ravel()
        return outputs

    def _squares(self, cover, blue):
        height, width = cover.shape
        count, labels, stats, _ = cv2.connectedComponentsWithStats((cover > 0.02).astype(np.uint8))
        for index in range(1, count):
            x, y, w, h = stats[index, :4].tolist()
            borders = (x == 0, y == 0, x + w == width, y + h == height)
            if (borders[0] and borders[2]) or (borders[1] and borders[3]):
                continue
            part = np.where(labels == index, cover, 0)[y : y + h, x : x + w]
            # Soft edges: the extent is the sum of coverage through the middle, its centre the centre of mass.
            w, h = float(part.sum(axis=1).max()), float(part.sum(axis=0).max())
            cx = x + float((part.sum(axis=0) @ np.arange(part.shape[1])) / part.sum())
            cy = y + float((part.sum(axis=1) @ np.arange(part.shape[0])) / part.sum())
            if self.least <= np.sqrt(w * h) <= self.most and 0.4 < w / h < 2.5:
                score = float(np.median(blue[labels == index])) / 255 * (0.8 if any(borders) else 1)
                yield cx - w / 2, cy - h / 2, w, h, score
