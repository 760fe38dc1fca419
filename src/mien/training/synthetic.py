"""Train on synthetic, test on real: what a network learns from generated faces, over what real ones teach it."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mien.data.transforms import Order
from mien.errors import EvaluationError
from mien.evaluation.generation import Faces, Taught
from mien.metrics.expression import accuracy, confusion, macro_f1
from mien.networks.expression import ExpressionNetConfig, expression_net
from mien.training.precision import autocast, fast_precision
from mien.training.schedule import warmup_cosine

__all__ = ["train_on_synthetic"]

_BATCH, _RATE, _DECAY = 64, 3e-3, 0.05
_LEAST = 2  # faces of a class


def train_on_synthetic(
    fake: Faces, real: Faces, test: Faces, *, classes: int, images: int = 60_000, seeds: int = 1, grey: bool = False
) -> Taught:
    """Train one small network on generated faces and one on as many real ones, and test both on other real ones.

    The networks begin alike and see classes as often as there are faces of them, shifted by up to an eighth and
    mirrored.

    Args:
        fake: Generated faces with the labels they were asked for.
        real: Real training faces.
        test: Real faces of nobody in ``real``.
        classes: Number of classes.
        images: Faces that each network sees, repeats included.
        seeds: Trainings of each kind.
        grey: Look at grey faces.

    Raises:
        EvaluationError: A class has fewer than two generated or two real faces.
    """
    for faces, what in ((fake, "generated"), (real, "real training")):
        counts = np.bincount(faces.labels[faces.labels >= 0], minlength=classes)
        if counts.min() < _LEAST:
            raise EvaluationError(f"Training needs {_LEAST} {what} faces of every class, got {counts.tolist()}.")
    shown = test.take(test.labels >= 0)
    if not len(shown):
        raise EvaluationError("Training on synthetic faces is tested on real ones with labels; these have none.")

    def taught_by(faces: Faces) -> list[tuple[float, float]]:
        labelled = faces.take(faces.labels >= 0)
        networks = (_trained(labelled, classes, images, seed, grey) for seed in range(seeds))
        return [_figures(_answers(network, shown, grey), shown.labels, classes) for network in networks]

    (accuracies, f1), (real_accuracies, real_f1) = (zip(*taught_by(faces), strict=True) for faces in (fake, real))
    return Taught(
        n=len(fake),
        images=images,
        accuracy=accuracies,
        macro_f1=f1,
        real_accuracy=real_accuracies,
        real_macro_f1=real_f1,
    )


def _trained(faces: Faces, classes: int, images: int, seed: int, grey: bool) -> torch.nn.Module:
    torch.manual_seed(seed)
    side = faces.images.shape[1]
    config = ExpressionNetConfig(
        side=side,
        colour=not grey,
        stem=16,
        stride=2 if side >= 64 else 1,
        widths=(16, 32, 64, 128),
        blocks=(1, 1, 1, 1),
    )
    network = expression_net(config, {"label": classes})
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    order, cpu = Order(faces.labels, seed=seed), torch.device("cpu")
    precision = fast_precision(cpu)
    network.train()
    for seen in range(0, images, _BATCH):
        chosen = order.batch(seen, _BATCH)
        x = _shifted(_tensor(faces.take(chosen), grey), np.random.default_rng([seed, seen]))
        for group in optimizer.param_groups:
            group["lr"] = warmup_cosine(seen, images, images // 20, _RATE)
        with autocast(cpu, precision):
            answers = network(x)["label"]
        loss = torch.nn.functional.cross_entropy(answers.float(), torch.from_numpy(faces.labels[chosen]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return network.eval()


def _answers(network: torch.nn.Module, faces: Faces, grey: bool) -> Int[np.ndarray, " faces"]:
    with torch.no_grad():
        parts = [
            network(_tensor(faces.take(np.arange(start, min(start + 256, len(faces)))), grey))["label"].argmax(dim=1)
            for start in range(0, len(faces), 256)
        ]
    return torch.cat(parts).numpy()


def _figures(
    answers: Int[np.ndarray, " faces"], labels: Int[np.ndarray, " faces"], classes: int
) -> tuple[float, float]:
    table = confusion(labels, answers, classes=classes)
    return float(accuracy(table)), float(macro_f1(table))


def _tensor(faces: Faces, grey: bool) -> Float[Tensor, "faces channels side side"]:
    x = torch.from_numpy(faces.images.transpose(0, 3, 1, 2).astype(np.float32))
    return x.mean(dim=1, keepdim=True) if grey else x


def _shifted(x: Float[Tensor, "b c side side"], rng: np.random.Generator) -> Float[Tensor, "b c side side"]:
    """Shift each picture by up to an eighth of its side, and mirror half of them."""
    side = x.shape[2]
    reach = side // 8
    padded = torch.nn.functional.pad(x, (reach,) * 4, mode="replicate")
    moved = []
    for picture in padded:
        top, left = rng.integers(0, 2 * reach + 1, 2)
        part = picture[:, top : top + side, left : left + side]
        moved.append(part.flip(2) if rng.random() < 0.5 else part)
    return torch.stack(moved)
