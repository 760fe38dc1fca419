"""Named conventions: what a family of networks is fed and what it answers.

A network is fed ``(pixel - mean) * scale``, pixels 0 to 255, float32 NCHW, channels in ``order``; the scale is one
number or one a channel. `mien models add` copies the convention onto the new card, so that a card says all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mien.errors import ModelError
from mien.types import EXPRESSIONS, Facts

__all__ = ["CONVENTIONS", "Convention", "convention"]

_AFFECTNET = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
_AFFECTNET_7 = tuple(label for label in _AFFECTNET if label != "contempt")
_FER2013 = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
_OPENCV = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
_RAW: Facts = {"mean": [0.0, 0.0, 0.0], "scale": 1.0}
_GREY: Facts = {"mean": [0.0], "scale": 1.0}
_HALF: Facts = {"mean": [127.5, 127.5, 127.5], "scale": 1 / 127.5}
_128: Facts = {"mean": [127.5, 127.5, 127.5], "scale": 1 / 128}
_DLIB: Facts = {"mean": [122.782, 117.001, 104.298], "scale": 1 / 256}
_UNIT: Facts = {"mean": [0.0], "scale": 1 / 255}
_CAFFE: Facts = {"mean": [104.0, 117.0, 123.0], "scale": 1.0}
_IMAGENET: Facts = {"mean": [123.675, 116.28, 103.53], "scale": [1 / 58.395, 1 / 57.12, 1 / 57.375]}


@dataclass(frozen=True, slots=True)
class Convention:
    """One convention.

    Attributes:
        name: What ``--convention`` takes.
        role: Of the models that follow it.
        summary: Which networks those are.
        facts: What goes onto the card.
    """

    name: str
    role: str
    summary: str
    facts: Facts

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return 1 if self.facts["order"] == "GRAY" else 3


def _embedder(
    name: str, template: str, side: int, feed: Facts, summary: str, order: str = "RGB", **more: object
) -> Convention:
    facts = {"kind": name, "template": template, "side": side, "order": order, "layout": "NCHW"}
    return Convention(name, "embedder", summary, {**facts, **feed, **more})


def _detector(name: str, order: str, feed: Facts, summary: str) -> Convention:
    return Convention(name, "detector", summary, {"kind": name, "order": order, "layout": "NCHW", **feed})


def _expression(
    name: str,
    side: int,
    feed: Facts,
    labels: tuple[str, ...],
    summary: str,
    order: str = "RGB",
    *,
    template: str | None = None,
) -> Convention:
    # Most networks of this family saw the detector's box, not an aligned face.
    cut = {"crop": "box"} if template is None else {"template": template}
    facts = {"kind": name, **cut, "side": side, "order": order, "layout": "NCHW", "labels": list(labels)}
    return Convention(name, "expression", summary, {**facts, **feed})


_ALL = (
    _embedder("arcface-112", "arcface-112", 112, _HALF, "ArcFace, EdgeFace and most InsightFace exports"),
    _embedder("arcface-112-bgr", "arcface-112", 112, _HALF, "AdaFace: the same with blue first", "BGR"),
    _embedder("arcface-112-raw", "arcface-112", 112, _RAW, "SFace, and old ArcFace exports that scale in the graph"),
    _embedder(
        "sface-112",
        "arcface-112",
        112,
        _RAW,
        "SFace as mien aligns it, and what `mien train embedder` makes of it",
        landmark_weights=[1.0, 1.0, 1.0, 0.5, 0.5],
    ),
    _embedder("dlib-150", "dlib-150", 150, _DLIB, "dlib ResNet-29 without its input layer"),
    _embedder("dlib-150-raw", "dlib-150", 150, _RAW, "dlib ResNet-29 that scales in the graph"),
    _embedder(
        "dlib-150-corrected",
        "dlib-150",
        150,
        _RAW,
        "what `mien train embedder` makes of dlib ResNet-29",
        landmark_weights=[1.0, 1.0, 1.0, 0.5, 0.5],
    ),
    _embedder("facenet-160", "facenet-160", 160, _128, "FaceNet, Inception-ResNet v1"),
    _embedder("vae-encoder-64", "face-64", 64, _RAW, "encoder.onnx of `mien train vae`, 64 px in colour"),
    _embedder("vae-encoder-48-grey", "fer-48", 48, _GREY, "encoder.onnx of `mien train vae`, 48 px in grey", "GRAY"),
    _detector("centerface", "RGB", _RAW, "CenterFace: heat, log size, offset, landmarks at stride 4"),
    _detector("scrfd", "RGB", _128, "SCRFD with landmarks: nine outputs, strides 8, 16, 32, two anchors"),
    _detector("yunet", "BGR", _RAW, "YuNet of 2023: cls, obj, bbox, kps for strides 8, 16, 32"),
    _detector(
        "retinaface", "BGR", _CAFFE, "RetinaFace (Pytorch_Retinaface): boxes, scores, landmarks relative to priors"
    ),
    _expression("hsemotion-224", 224, _IMAGENET, _AFFECTNET, "HSEmotion / EmotiEffLib B0, eight classes"),
    _expression("hsemotion-260", 260, _IMAGENET, _AFFECTNET, "HSEmotion / EmotiEffLib B2, eight classes"),
    _expression("hsemotion-112", 112, _HALF, _AFFECTNET, "HSEmotion MobileFaceNet, eight classes"),
    _expression("hsemotion-224-7", 224, _IMAGENET, _AFFECTNET_7, "HSEmotion / EmotiEffLib B0, seven classes"),
    _expression("hsemotion-260-7", 260, _IMAGENET, _AFFECTNET_7, "HSEmotion / EmotiEffLib B2, seven classes"),
    _expression("opencv-fer-112", 112, _HALF, _OPENCV, "MobileFaceNet of the OpenCV Zoo, 2022", template="arcface-112"),
    _expression("deepface-48", 48, _UNIT, _FER2013, "the expression network of deepface", "GRAY"),
    _expression("ferplus-64", 64, _GREY, EXPRESSIONS, "FER+ of the ONNX model zoo", "GRAY"),
)
CONVENTIONS: Mapping[str, Convention] = {item.name: item for item in _ALL}


def convention(name: str, role: str) -> Convention:
    """Return a convention by name.

    Raises:
        ModelError: There is none of that name for this role.
    """
    fitting = {key: item for key, item in CONVENTIONS.items() if item.role == role}
    if name not in fitting:
        other = f" {name!r} is for the role {CONVENTIONS[name].role}." if name in CONVENTIONS else ""
        raise ModelError(f"A convention for {role} is one of {', '.join(fitting)}; got {name!r}.{other}")
    return fitting[name]
