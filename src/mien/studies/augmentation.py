"""Do generated faces help a classifier of expressions? Arms that see equally many pictures, and two controls.

Generator and filter learn from the share of the data that the classifier is given, and nothing else: a generator that
saw more would smuggle it in.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from mien.data.pictures import Pictures, read_pictures
from mien.data.transforms import Order
from mien.errors import DataError, UsageError
from mien.evaluation.synthetic import KEPT, FaceFilter, Limits, draw_candidates
from mien.files import write_whole
from mien.networks.expression import ExpressionNetConfig, expression_net
from mien.studies.protocol import Arm, Cell, Comparison, Protocol
from mien.training import gan, vae
from mien.training.schedule import warmup_cosine
from mien.vision.generator import Generator, Request

__all__ = ["ARMS", "AugmentationStudy"]

Images = UInt8[np.ndarray, "faces channels side side"]
Labels = Int[np.ndarray, " faces"]

ARMS = (
    Arm("real", "the real faces as they are"),
    Arm("classic", "shifted, turned, mirrored, and partly covered"),
    Arm("balanced", "the same, every class equally often", "the best without generated faces"),
    Arm("duplicates", "the same, with copies of real faces where others have generated ones", "compute control"),
    Arm("vae", "with faces of a VAE, all of them"),
    Arm("vae-filtered", "with faces of a VAE that pass the filter"),
    Arm("gan-filtered", "with faces of a GAN, begun as that VAE, that pass the filter"),
    Arm("both-filtered", "half of each, filtered"),
    Arm("shuffled", "with the filtered faces of the VAE, their labels shuffled", "negative control: must not help"),
    Arm("pretrained", "first on the filtered faces of the VAE alone, then on real ones"),
)
_KNOWS = 2.0  # times what chance finds of each class, so that a classifier may judge
_FEWEST = 10  # training faces of a class: a VAE learns from 8, and one in ten is for its own checks
_BATCH, _RATE, _DECAY = 64, 3e-3, 0.05


@dataclass(frozen=True)
class AugmentationStudy:
    """The study of generated faces as training data.

    Attributes:
        data: A data set of expressions with a split for training, one to check with and one for testing.
        shares: Of the training faces, in per cent.
        seeds: Classifiers an arm and share; the share's faces are drawn by the seed of the generator, 0.
        images: Faces that each classifier sees, repeats included.
        generator_images: Faces that each generator sees while it learns.
        per_class: Generated faces of each class that are kept.
        share_drawn: Of each batch, the part that is generated.
        weight: Of the loss on these, against 1 for real faces.
        side: Of the faces, px.
        perceptual: Weight of what the ImageNet network sees, in the generators' losses; 0 needs no such network.
        prior: What the VAE draws from.
        arms: Which of `ARMS` to run.
        limits: Of the filter.
        cache: Folder for the faces that are cut out.
        test_on: Most faces of the test set; 0 takes all.
    """

    data: Path
    shares: tuple[float, ...] = (10.0,)
    seeds: int = 5
    images: int = 60_000
    generator_images: int = 60_000
    per_class: int = 400
    share_drawn: float = 1 / 3
    weight: float = 0.5
    side: int = 48
    perceptual: float = 0.25
    prior: Literal["flow", "mixture"] = "flow"
    arms: tuple[str, ...] = tuple(arm.name for arm in ARMS)
    limits: Limits = field(default_factory=lambda: Limits(most=0.98))
    cache: Path | None = None
    test_on: int = 0

    def __post_init__(self) -> None:
        if unknown := [name for name in self.arms if name not in {arm.name for arm in ARMS}]:
            raise UsageError(f"There is no arm '{unknown[0]}'. Choose from {', '.join(arm.name for arm in ARMS)}.")
        if not all(0 < share <= 100 for share in self.shares) or not self.shares:
            raise UsageError(f"Shares of the data are per cents above 0 and up to 100, got {self.shares}.")
        if min(self.seeds, self.images, self.generator_images, self.per_class) < 1 or not 0 < self.share_drawn < 1:
            raise UsageError("Seeds, images and faces of a class are 1 or more, and share_drawn lies between 0 and 1.")

    @property
    def protocol(self) -> Protocol:
        """What is asked."""
        settings = tuple(f"{share:g}%" for share in self.shares)
        asked = [
            Comparison(arm, "balanced", setting, wanted=0.01)
            for setting in settings
            for arm in ("vae-filtered", "gan-filtered", "duplicates", "shuffled")
            if {arm, "balanced"} <= set(self.arms)
        ]
        return Protocol(
            "augmentation",
            "Do generated faces teach a classifier of expressions more than real ones and classic variation do?",
            "macro-F1",
            tuple(arm for arm in ARMS if arm.name in self.arms),
            settings,
            self.seeds,
            tuple(asked),
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """Expressions of the data."""
        return self._pictures().classes

    def facts(self) -> dict[str, Any]:
        """Return every setting that figures depend on."""
        facts = asdict(self)
        del facts["cache"]
        return facts | {"data": self.data.resolve().name}

    def run(self, cell: Cell, folder: Path) -> tuple[Labels, Labels]:
        """Train one classifier and return the test set's labels and its answers."""
        torch.set_num_threads(1)  # the same sums whatever runs beside
        pictures = self._pictures()  # read together: a label means the same in both
        train, test = self._share(pictures.split("train"), cell.setting), pictures.split("test")
        if self.test_on and len(test) > self.test_on:
            test = test.take(np.sort(np.random.default_rng(0).permutation(len(test))[: self.test_on]))
        drawn = self._drawn(cell, train, folder)
        network = self._trained(cell, train, drawn)
        return test.labels, _answers(network, test.images)

    # Faces ------------------------------------------------------------------------------------------------------------

    def _pictures(self) -> Pictures:
        """Return the labelled faces: to learn from, to see whether the judge knows enough, and to test on."""
        pictures = read_pictures(
            self.data,
            template="fer-48",
            side=self.side,
            colour=False,
            splits=("train", "valid", "test"),
            cache=self.cache,
        )
        return pictures.take(pictures.labels >= 0)

    def _share(self, pictures: Pictures, setting: str) -> Pictures:
        """Return a share of the training faces: of each class the same part, drawn once and for all."""
        rng = np.random.default_rng(0)
        chosen: list[np.ndarray] = []
        for label, name in enumerate(pictures.classes):
            members = rng.permutation(np.flatnonzero(pictures.labels == label))
            part = members[: round(len(members) * float(setting.rstrip("%")) / 100)]
            if len(part) < _FEWEST:
                raise DataError(
                    f"{setting} of the training faces leaves {len(part)} of '{name}', fewer than {_FEWEST}. Take a "
                    f"larger share, or leave the class out of the data."
                )
            chosen.append(part)
        return pictures.take(np.sort(np.concatenate(chosen)))

    def _drawn(self, cell: Cell, train: Pictures, folder: Path) -> tuple[Images, Labels] | None:
        """Return the extra faces of an arm; None where it has none."""
        if cell.arm in ("real", "classic", "balanced"):
            return None
        if cell.arm == "duplicates":
            order = Order(train.labels, seed=cell.seed, balance=1.0)
            chosen = order.batch(0, self.per_class * len(train.classes))
            return train.images[chosen], train.labels[chosen]
        kept = "" if cell.arm == "vae" else "-filtered"
        kinds = {"gan-filtered": ("gan",), "both-filtered": ("vae", "gan")}.get(cell.arm, ("vae",))
        parts = [self._made(kind, bool(kept), train, folder / cell.setting.rstrip("%")) for kind in kinds]
        if len(parts) > 1:  # as many faces as the other arms have
            parts = [_halved(*part) for part in parts]
        images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        if cell.arm == "shuffled":
            labels = np.random.default_rng(cell.seed).permutation(labels)
        return images, labels

    def _made(self, kind: str, filtered: bool, train: Pictures, folder: Path) -> tuple[Images, Labels]:
        """Return generated faces of a kind, made once for all cells."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{kind}{'-filtered' if filtered else ''}.npz"
        with FileLock(folder / "lock"):
            if not file.is_file():
                self._make(kind, filtered, train, folder, file)
        with np.load(file, allow_pickle=False) as arrays:
            return arrays["images"], arrays["labels"]

    def _make(self, kind: str, filtered: bool, train: Pictures, folder: Path, file: Path) -> None:
        run = self._generator(kind, train, folder)
        generator = Generator(run, threads=1)
        judge = self._judge(train) if filtered else None
        face_filter = FaceFilter(train.rgb(), self.limits) if filtered else None
        images, labels = [], []
        for label, name in enumerate(train.classes):
            for one in draw_candidates(
                partial(_draw, generator, name, label),
                self.per_class,
                judge=None if judge is None else partial(judge, label),
                face_filter=face_filter,
            ):
                if one.verdict == KEPT:
                    images.append(one.image[None, :, :, 0])
                    labels.append(label)
        # A class of which no face passes gets none, as `mien augment` leaves it short: the others may still help.
        if not images:
            raise DataError(
                "No generated face passes the filter: the generator has learned no class, or the limits are too "
                "narrow. Give it more images, or a larger share of the data."
            )
        packed = io.BytesIO()
        np.savez_compressed(packed, images=np.stack(images), labels=np.array(labels, np.int64))
        write_whole(file, packed.getvalue())

    def _generator(self, kind: str, train: Pictures, folder: Path) -> Path:
        """Train the generator of a kind on these faces alone; return its run folder."""
        out = folder / f"run-{kind}"
        pictures = _with_valid(train)
        common = {
            "out": out, "data": (self.data,), "template": "fer-48", "batch_size": 64, "images": self.generator_images,
            "report_every": max(self.generator_images // 3, 1),
        }  # fmt: skip
        if (out / "summary.json").is_file():  # written last
            return out
        if kind == "vae":
            given = {"net.side": self.side, "net.colour": False, "net.latents": 64, "net.widths": (32, 64, 128)}
            config = vae.configured(
                given={
                    **common,
                    **given,
                    "condition": "labels",
                    "balance": 0.5,
                    "perceptual": self.perceptual,
                    "prior": self.prior,
                }
            )
            vae.train(config, pictures=pictures)
        else:
            init = self._generator("vae", train, folder)
            given = {"side": self.side, "colour": False, "init": init, "anchor": 4.0}
            gan.train(
                gan.configured(given={**common, **given, "anchor_perceptual": self.perceptual}), pictures=pictures
            )
        return out

    def _judge(self, train: Pictures) -> Callable[[int, np.ndarray], Float[np.ndarray, " faces"]]:
        """Return what the plain classifier of this share thinks of faces: it is all that the filter may know.

        Raises:
            DataError: It has learned next to nothing, so that its judgement would be noise, or this cannot be seen.
        """
        checked, chance = self._pictures().split("valid"), 1 / len(train.classes)
        if not len(checked):
            raise DataError(
                "No face is set aside to see whether the classifier that judges generated faces has learned enough. "
                "Give the data a split 'valid'."
            )
        network = self._trained(Cell("balanced", "", 1_000), train, None)
        answers, known = _answers(network, checked.images), np.unique(checked.labels)
        recall = float(np.mean([np.mean(answers[checked.labels == label] == label) for label in known]))
        if recall < _KNOWS * chance:
            raise DataError(
                f"The classifier that is to judge generated faces finds {100 * recall:.0f} % of each class on faces "
                f"set aside, where chance finds {100 * chance:.0f}: it has learned too little. Let it see more "
                f"(--images), or take a larger share."
            )

        def judge(label: int, faces: np.ndarray) -> Float[np.ndarray, " faces"]:
            with torch.no_grad():
                logits = network(torch.from_numpy(faces[:, None, :, :, 0]).float())["label"]
            return np.asarray(logits.softmax(dim=1)[:, label].numpy())

        return judge

    # Classifiers ------------------------------------------------------------------------------------------------------

    def _trained(self, cell: Cell, train: Pictures, drawn: tuple[Images, Labels] | None) -> torch.nn.Module:
        torch.manual_seed(cell.seed)
        config = ExpressionNetConfig(
            side=self.side, colour=False, stem=16, stride=2, widths=(16, 32, 64, 128), blocks=(1, 1, 1, 1)
        )
        network: torch.nn.Module = expression_net(config, {"label": len(train.classes)})
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
        real = Order(train.labels, seed=cell.seed, balance=0.0 if cell.arm in ("real", "classic") else 1.0)
        extra = None if drawn is None else Order(drawn[1], seed=cell.seed, balance=1.0)
        network.train()
        for seen in range(0, self.images, _BATCH):
            from_drawn = self._part(cell, seen) if drawn is not None else 0
            chosen = real.batch(seen, _BATCH - from_drawn) if from_drawn < _BATCH else np.empty(0, np.int64)
            images, labels = train.images[chosen], train.labels[chosen]
            weights = np.ones(_BATCH, np.float32)
            if drawn is not None and extra is not None and from_drawn:
                also = extra.batch(seen, from_drawn)
                images = np.concatenate([images, drawn[0][also]])
                labels = np.concatenate([labels, drawn[1][also]])
                if from_drawn < _BATCH:
                    weights[-from_drawn:] = self.weight
            rng = np.random.default_rng([cell.seed, seen])
            x = torch.from_numpy(images).float()
            x = x if cell.arm == "real" else _varied(x, rng)
            for group in optimizer.param_groups:
                group["lr"] = warmup_cosine(seen, self.images, self.images // 20, _RATE)
            losses = functional.cross_entropy(network(x)["label"], torch.from_numpy(labels), reduction="none")
            loss = (losses * torch.from_numpy(weights)).sum() / float(weights.sum())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return network.eval()

    def _part(self, cell: Cell, seen: int) -> int:
        """Return how many faces of a batch are drawn ones."""
        if cell.arm == "pretrained":
            return _BATCH if seen < self.images * self.share_drawn else 0
        return round(_BATCH * self.share_drawn)


def _draw(generator: Generator, name: str, seed: int, start: int, end: int) -> np.ndarray:
    batches = generator.batches(end, Request(expression=name, seed=seed), start=start)
    return np.concatenate([batch.images for batch in batches])


def _halved(images: Images, labels: Labels) -> tuple[Images, Labels]:
    """Return the first half of each class."""
    places = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    kept = np.concatenate([place[: (len(place) + 1) // 2] for place in places])
    return images[kept], labels[kept]


def _with_valid(train: Pictures) -> Pictures:
    """Return training faces with every tenth of a class set aside, for the generator's own checks."""
    splits = np.array(train.splits, dtype=object)
    for label in range(len(train.classes)):
        splits[np.flatnonzero(train.labels == label)[::10]] = "valid"
    return replace(train, splits=splits.astype(str))


def _varied(x: Float[Tensor, "b c side side"], rng: np.random.Generator) -> Float[Tensor, "b c side side"]:
    """Shift by up to a tenth, turn by up to 10 degrees, mirror half, and cover a quarter of the side of half."""
    count, side = len(x), x.shape[3]
    angle = np.radians(rng.uniform(-10, 10, count))
    shift = rng.uniform(-0.2, 0.2, (count, 2))  # of the half side
    mirror = np.where(rng.random(count) < 0.5, -1.0, 1.0)
    cos, sin = np.cos(angle), np.sin(angle)
    theta = np.stack([np.stack([cos * mirror, -sin, shift[:, 0]], 1), np.stack([sin * mirror, cos, shift[:, 1]], 1)], 1)
    grid = functional.affine_grid(torch.from_numpy(theta.astype(np.float32)), list(x.shape), align_corners=False)
    x = functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
    quarter = side // 4
    for i in np.flatnonzero(rng.random(count) < 0.5):
        top, left = rng.integers(0, side - quarter, 2)
        x[i, :, top : top + quarter, left : left + quarter] = float(rng.integers(0, 256))
    return x


def _answers(network: torch.nn.Module, images: Images) -> Labels:
    with torch.no_grad():
        parts = [
            network(torch.from_numpy(images[i : i + 256]).float())["label"].argmax(dim=1)
            for i in range(0, len(images), 256)
        ]
    return torch.cat(parts).numpy()
