"""What networks see in faces: one vector a face, in which sets of faces are compared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mien import zoo
from mien.alignment import TEMPLATES
from mien.errors import EvaluationError
from mien.vision.conventions import EmbedderConvention, ExpressionConvention
from mien.vision.embedder import Embedder
from mien.vision.feed import Feed
from mien.vision.finding import cut_face
from mien.zoo.session import make_session, runtime_errors, session_options

if TYPE_CHECKING:
    from mien.zoo import Card

__all__ = ["INCEPTION", "FeatureSpace", "Images", "feature_space", "inception_space", "recut", "resized"]

Images = UInt8[np.ndarray, "faces side side 3"]

INCEPTION = "inception"
"""Name of the space whose Frechet distance is FID; its network is nobody's to ship, so that users bring the file."""

_SIDE = 128  # px at which a network that takes any size is shown a face
_BATCH = 64
_INCEPTION_SIDE, _INCEPTION_DIMENSION = 299, 2048


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """What one network sees in faces.

    Attributes:
        name: Of the network.
        model: Its id, which carries its hash.
        features: From faces of the template to one vector a face, shape (faces, dimension).
    """

    name: str
    model: str
    features: Callable[[Images], Float[np.ndarray, "faces dimension"]]


def feature_space(card: Card, template: str, *, threads: int | None = None) -> FeatureSpace:
    """Return the space of a network's features, of faces cut by a template.

    An embedder's are its unit vectors, an expression network's what its last layer is fed, and a feature network's its
    answer; the first two are shown faces cut as they are at run time, the last one the faces as they are, 128 px.

    Raises:
        EvaluationError: The model is of another role.
        ModelError: It cannot be had or opened.
    """
    match card.role:
        case "embedder":
            features = _embedded(Embedder(card, threads=threads), template)
        case "expression":
            features = _before_the_last_layer(card, template, threads)
        case "features":
            features = _of_any_size(card, threads)
        case _:
            raise EvaluationError(
                f"'{card.name}' is of role {card.role}; features come from an embedder, an expression or a feature "
                "network."
            )
    return FeatureSpace(card.name, card.id, features)


def inception_space(file: Path, *, threads: int | None = None) -> FeatureSpace:
    """Return the space in which the Frechet distance is called FID.

    Args:
        file: FID's Inception network as ONNX: RGB pictures, 0 to 255, float32, shape (n, 3, 299, 299), to its 2,048
            pooled features, shape (n, 2048). Scaling the pixels is the network's part.
        threads: Of the session.

    Raises:
        ModelError: The file is not a model that ONNX Runtime can run.
        EvaluationError: It takes or answers something else.

    Source: M. Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium",
    NeurIPS 2017.
    """
    session = make_session(file, options=session_options(threads=threads))
    name, side = session.get_inputs()[0].name, _INCEPTION_SIDE

    def features(images: Images) -> Float[np.ndarray, "faces dimension"]:
        parts = []
        for batch in _batches(images):
            # Bilinear, pixels' centres kept, nothing rounded: as the network's own first step does it.
            large = [cv2.resize(image.astype(np.float32), (side, side)) for image in batch]
            parts.append(session.run(None, {name: np.stack(large).transpose(0, 3, 1, 2)})[0])
        return np.concatenate(parts).astype(np.float64)

    wrong: tuple[type[Exception], ...] = (*runtime_errors(), ValueError)
    try:
        answered = tuple(features(np.zeros((1, side, side, 3), np.uint8)).shape)
    except wrong as error:
        raise EvaluationError(f"'{file.name}' takes no RGB pictures of {side} px: {str(error)[:200]}") from error
    if answered != (1, _INCEPTION_DIMENSION):
        raise EvaluationError(
            f"FID's network answers {_INCEPTION_DIMENSION} features a picture; '{file.name}' answers {answered[1:]}."
        )
    return FeatureSpace(INCEPTION, f"{INCEPTION}-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}", features)


def _embedded(embedder: Embedder, template: str) -> Callable[[Images], Float[np.ndarray, "faces dimension"]]:
    wanted = EmbedderConvention.of(embedder.card).template
    return lambda images: embedder.describe(recut(images, template, wanted, embedder.side))


def _before_the_last_layer(
    card: Card, template: str, threads: int | None
) -> Callable[[Images], Float[np.ndarray, "faces dimension"]]:
    import onnx
    import onnxruntime

    model = onnx.load_model(zoo.path(card))
    made = {name: node for node in model.graph.node for name in node.output}
    output = model.graph.output[0].name
    while output in made and made[output].op_type not in ("Gemm", "MatMul", "Conv"):
        output = made[output].input[0]
    # Without a last linear layer, the answers themselves have to do.
    before = made[output].input[0] if output in made else model.graph.output[0].name
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name=before))
    session = onnxruntime.InferenceSession(model.SerializeToString(), session_options(threads=threads))
    convention = ExpressionConvention.of(card)
    name, feed, side, wanted = session.get_inputs()[0].name, Feed(card.convention), convention.side, convention.template

    def features(images: Images) -> Float[np.ndarray, "faces dimension"]:
        crops = resized(images, side) if wanted is None else recut(images, template, wanted, side)
        parts = [session.run([before], {name: feed(batch)})[0] for batch in _batches(crops)]
        return np.concatenate([part.mean(axis=(2, 3)) if part.ndim == 4 else part for part in parts])

    return features


def _of_any_size(card: Card, threads: int | None) -> Callable[[Images], Float[np.ndarray, "faces dimension"]]:
    session = make_session(zoo.path(card), options=session_options(threads=threads))
    name, feed, side = session.get_inputs()[0].name, Feed(card.convention), int(card.convention.get("side", _SIDE))

    def features(images: Images) -> Float[np.ndarray, "faces dimension"]:
        parts = [session.run(None, {name: feed(resized(batch, side))})[0] for batch in _batches(images)]
        return np.concatenate(parts)

    return features


def recut(images: Images, template: str, wanted: str, side: int) -> UInt8[np.ndarray, "faces side side 3"]:
    """Cut aligned faces by another template: their landmarks are where their own says."""
    marks = TEMPLATES[template].points_at(images.shape[1]).astype(np.float32)
    points = TEMPLATES[wanted].points_at(side)
    if wanted == template and side == images.shape[1]:
        return images
    return np.stack([cut_face(image, marks, points=points, side=side) for image in images])


def resized(images: Images, side: int) -> Images:
    """Bring faces to another side, px."""
    method = cv2.INTER_AREA if images.shape[1] > side else cv2.INTER_CUBIC
    return np.stack([cv2.resize(image, (side, side), interpolation=method) for image in images]).astype(np.uint8)


def _batches(images: Images) -> list[Images]:
    return [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
