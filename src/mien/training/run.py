"""A run folder: config, checkpoints, log and pictures of one training, safe to stop at any moment.

RUN/config.json        what was asked for
RUN/run.json           which program and versions train it
RUN/last.safetensors   everything needed to go on; replaced as a whole
RUN/best.safetensors   the model with the best validation
RUN/log.jsonl          a line a report; the same numbers in tensorboard/
RUN/pictures/*.png     what was drawn on the way
RUN/summary.json, curves.png, card.html   written at the end
"""

from __future__ import annotations

import json
import math
import platform
import re
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from jaxtyping import UInt8
from torch import Tensor

from mien.errors import TrainingError
from mien.images import encode_image, printable, write_whole
from mien.training.card import draw_curves, render_card
from mien.training.checkpoint import FORMAT, Part, load_checkpoint, pack_checkpoint
from mien.training.config import as_dict, with_defaults
from mien.training.ranks import Ranks

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["Part", "Progress", "Run", "load_checkpoint", "position_seed", "read_log", "seed_torch", "write_result"]

_ALWAYS_MAY_CHANGE = ("out", "seconds", "end_at", "device")  # where it lies, how long to stay, and what computes


@dataclass
class Progress:
    """How far a training has got.

    Attributes:
        images: Images seen, over all processes together.
    """

    images: int = 0

    def state_dict(self) -> dict[str, int]:
        """Return what a checkpoint needs."""
        return {"images": self.images}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Take up what `state_dict` gave."""
        self.images = int(state["images"])


def seed_torch(seed: int) -> None:
    """Seed PyTorch's generators as `torch.manual_seed` does, quickly enough for every step."""
    # That would keep a note, with its call stack, for every GPU that is never used.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


def position_seed(seed: int, images: int) -> int:
    """Return the seed of everything random in the batch that starts at ``images``.

    Seed and position are hashed: PyTorch's CPU generator heeds only the lowest 32 bits of a seed, so that a seed
    shifted above the position would have no effect there.
    """
    return int(np.random.SeedSequence((seed, images)).generate_state(1, np.uint64)[0] >> np.uint64(1))


class Run:
    """The folder of one training, locked while this lives; use it in a `with` block.

    A training that is stopped or killed and started again ends as an unbroken one does, to the last bit on a CPU with
    the same number of threads, where everything random comes from `seed_position` and the loop asks for nothing that
    is not among the parts.

    In a run of several processes only the main one writes; call the methods in all of them.

    Args:
        out: The folder; made where it is missing. One that holds a run of the same config is gone on with.
        config: A frozen dataclass, kept as `config.json`.
        may_change: Keys of the config, dotted, that a resumed run may change, besides out, end_at, seconds and device.
        ranks: The processes that train together; by default this one alone.

    Attributes:
        out: The folder.
        ranks: The processes.
        saved_images: Position of the last checkpoint, images seen.

    Raises:
        TrainingError: The config differs from that of the run in the folder (keys, old and new values are named), the
            folder belongs to another training or cannot be written, or another process trains into it.
    """

    def __init__(self, out: Path, config: Any, *, may_change: Collection[str] = (), ranks: Ranks | None = None) -> None:
        self.out = out
        self.ranks = ranks or Ranks()
        self._config = config
        self._board: SummaryWriter | None = None
        self._images = 0
        self.saved_images = 0
        self._seconds = 0.0
        self._start = time.monotonic()
        self._lock = FileLock(str(out / ".lock"))
        if not self.ranks.is_main:
            return
        try:
            out.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise TrainingError(f"Another process trains into '{out}'. Wait for it, or name another folder.") from None
        except OSError as error:
            raise TrainingError(
                f"Cannot make the run folder '{out}': {error.strerror or error}. Name another one."
            ) from error
        try:
            # What a killed process left half written.
            for scrap in out.glob(".mien-*"):
                scrap.unlink()
            self._check_config({*_ALWAYS_MAY_CHANGE, *may_change})
            self._write("config.json", _json(as_dict(config)))
            if not self.last.exists():
                self._write("run.json", _json(_origin(config)))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def last(self) -> Path:
        """The checkpoint to go on from."""
        return self.out / "last.safetensors"

    @property
    def best(self) -> Path:
        """The checkpoint of the best validation."""
        return self.out / "best.safetensors"

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of training, those before an interruption included."""
        return self._seconds + time.monotonic() - self._start

    def seed_position(self, images: int) -> int:
        """Seed PyTorch for the batch that starts at ``images``, see `position_seed`, and return that seed.

        In a run of several processes each has its own seed, that of the place of its part within the batch.
        """
        seed = position_seed(int(getattr(self._config, "seed", 0)) * self.ranks.world + self.ranks.rank, images)
        seed_torch(seed)
        return seed

    def load_state(self, **parts: Part) -> bool:
        """Go on from the last checkpoint: give every part its state, and cut the log back to that moment.

        In a fresh folder the parts as they are become the first checkpoint, so that there is always one.

        Returns:
            Whether there was one.

        Raises:
            TrainingError: The checkpoint is damaged, or is of other parts, another architecture or a newer version.
        """
        found = self.ranks.any(self.ranks.is_main and self.last.exists())
        if not found:
            if self.ranks.is_main:
                with suppress(FileNotFoundError):
                    (self.out / "log.jsonl").unlink()
            self.save_state(**parts)
            return False
        header = load_checkpoint(self.last, **parts)
        self._images = self.saved_images = int(header["images"])
        self._seconds, self._start = float(header["seconds"]), time.monotonic()
        if self.ranks.is_main:
            self._close_board()
            _cut(self.out / "log.jsonl", int(header["log_bytes"]))
        return True

    def save_state(self, **parts: Part) -> None:
        """Replace the last checkpoint, as a whole or not at all. Call `log` before, not after.

        Raises:
            TrainingError: The disk is full or the folder gone; the checkpoint before is still whole.
        """
        progress = parts.get("progress")
        if isinstance(progress, Progress):
            self._images = progress.images
        if self.ranks.is_main:
            self._save(self.last, parts)
        self.saved_images = self._images

    def save_best(self, **parts: Part) -> None:
        """Replace the best checkpoint, as a whole or not at all.

        Raises:
            TrainingError: The disk is full or the folder gone; the checkpoint before is still whole.
        """
        if self.ranks.is_main:
            self._save(self.best, parts)

    def log(self, *, images: int, **scalars: float) -> None:
        """Add a line to the log, and the same numbers to TensorBoard.

        Args:
            images: The position, images seen.
            scalars: Numbers by name. `train_loss` and `valid_loss` are drawn in one plot.

        Raises:
            TrainingError: The disk is full or the folder gone.
        """
        self._images = images
        if not self.ranks.is_main:
            return
        numbers = {name: float(value) for name, value in scalars.items()}
        row: dict[str, float | None] = {"images": images, "seconds": round(self.seconds, 2)}
        row |= {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        try:
            with (self.out / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            if self._board is None:
                self._board = _open_board(self.out / "tensorboard", purge=images)
            for name, value in numbers.items():
                self._board.add_scalar(re.sub("^(train|valid)_", r"\1/", name), value, images)
            self._board.flush()
        except OSError as error:
            raise self._unsaved(error) from error

    def picture(
        self, name: str, image: UInt8[np.ndarray, "height width 3"] | UInt8[np.ndarray, "height width"]
    ) -> None:
        """Keep a picture as `pictures/NAME.png`, RGB or grey; it is shown on the run card under its name.

        Raises:
            TrainingError: The disk is full or the folder gone.
        """
        assert re.fullmatch(r"[\w.-]+", name), "a picture's name is a file name"
        if self.ranks.is_main:
            colour = np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image
            self._write(f"pictures/{name}.png", encode_image(colour, suffix=".png"))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`, `curves.png` and the run card, `card.html`.

        Args:
            summary: What came out: numbers and texts by name. A mapping of mappings becomes a table of its own.

        Raises:
            TrainingError: The disk is full or the folder gone.
        """
        if not self.ranks.is_main:
            return
        self._write("summary.json", _json(summary))
        rows = read_log(self.out)
        curves = draw_curves(rows)
        if curves is not None:
            self._write("curves.png", curves)
        pictures = {path.stem: path.read_bytes() for path in sorted((self.out / "pictures").glob("*.png"))}
        origin = json.loads((self.out / "run.json").read_text(encoding="utf-8"))
        page = render_card(
            self.out.resolve().name,
            config=as_dict(self._config),
            origin=origin,
            summary=summary,
            rows=rows,
            curves=curves,
            pictures=pictures,
        )
        self._write("card.html", page.encode("utf-8"))

    def close(self) -> None:
        """Release the folder."""
        self._close_board()
        self._lock.release()

    def _check_config(self, may_change: set[str]) -> None:
        if not self.last.exists():
            return  # nothing to go on with, nothing to lose
        try:
            before = json.loads((self.out / "config.json").read_text(encoding="utf-8"))
            origin = json.loads((self.out / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TrainingError(
                f"'{self.out}' holds a checkpoint, but its config.json or run.json cannot be read. Name another folder."
            ) from error
        story = type(self._config).__name__
        if origin.get("story") != story:
            raise TrainingError(f"'{self.out}' holds a run of {origin.get('story')}, not of {story}. Name another one.")
        # A setting that is younger than the run has the value that it had before there was one: its default.
        old = _leaves(with_defaults(type(self._config), before))
        new = _leaves(json.loads(_json(as_dict(self._config))))
        changed = [
            f"{key} ({_shown(old, key)} -> {_shown(new, key)})"
            for key in sorted(old.keys() | new.keys())
            if old.get(key, _NOTHING) != new.get(key, _NOTHING)
            and not any(key == free or key.startswith(free + ".") for free in may_change)
        ]
        if changed:
            raise TrainingError(
                f"The run in '{self.out}' was started with other settings: {', '.join(changed)}. "
                f"Set them as they were, or name another folder."
            )

    def _save(self, path: Path, parts: Mapping[str, Part]) -> None:
        log = self.out / "log.jsonl"
        written = log.stat().st_size if log.exists() else 0
        data = pack_checkpoint(parts, images=self._images, seconds=round(self.seconds, 2), log_bytes=written)
        self._write(path.name, data, sync=True)

    def _write(self, name: str, data: bytes, *, sync: bool = False) -> None:
        path = self.out / name
        try:
            if path.parent != self.out:
                path.parent.mkdir(exist_ok=True)
            write_whole(path, data, sync=sync)
        except OSError as error:
            raise self._unsaved(error) from error

    def _unsaved(self, error: OSError) -> TrainingError:
        kept = f" The checkpoint of {self.saved_images:,} images is whole." if self.last.exists() else ""
        return TrainingError(
            f"Cannot save the run in '{self.out}': {error.strerror or error}.{kept} "
            f"Mend that, then go on with the same command."
        )

    def _close_board(self) -> None:
        if self._board is not None:
            # On a full disk its own thread fails; the numbers are in the log.
            with suppress(OSError):
                self._board.close()
            self._board = None


def write_result(file: Path, data: bytes) -> None:
    """Write what a finished training publishes, whole or not at all.

    Raises:
        TrainingError: The disk is full, or the folder cannot be written.
    """
    try:
        write_whole(file, data)
    except OSError as error:
        raise TrainingError(
            f"Cannot write '{printable(file)}': {error.strerror or error}. The checkpoints are whole; mend that, then "
            f"run the same command."
        ) from error


def read_log(out: Path) -> list[dict[str, float | None]]:
    """Return the rows of a run's log; a last line that was never finished is left out."""
    try:
        text = (out / "log.jsonl").read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


class _Nothing:
    """Stands for a key that is not there; equal to nothing else."""


_NOTHING = _Nothing()


def _cut(path: Path, size: int) -> None:
    if path.exists() and path.stat().st_size > size:
        with path.open("r+b") as file:
            file.truncate(size)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= _leaves(value, f"{prefix}{key}.")
        else:
            leaves[prefix + key] = value
    return leaves


def _shown(leaves: Mapping[str, Any], key: str) -> str:
    return json.dumps(leaves[key]) if key in leaves else "not set"


def _json(value: Any) -> bytes:
    return (json.dumps(_finite(value), indent=2, ensure_ascii=False) + "\n").encode("utf-8")


def _finite(value: Any) -> Any:
    """Return numbers, texts, lists and mappings as JSON knows them; a number that is not finite becomes null."""
    if isinstance(value, np.ndarray | np.generic | Tensor):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _origin(config: Any) -> dict[str, Any]:
    return {
        "story": type(config).__name__,
        "format": FORMAT,
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "mien": version("mien"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} CPU threads"
        + "".join(f", {torch.cuda.get_device_name(number)}" for number in range(torch.cuda.device_count())),
    }


def _open_board(folder: Path, *, purge: int) -> SummaryWriter:
    # TensorBoard takes a second to import.
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=purge)
