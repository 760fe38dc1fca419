"""What a generator learned from, so that an audit can tell whether it is held against that."""

from __future__ import annotations

from pathlib import Path

from mien.data.pictures import Pictures
from mien.evaluation.audit import LEARNED
from mien.images import digest
from mien.training.run import write_result

__all__ = ["keep_learned"]


def keep_learned(out: Path, pictures: Pictures) -> None:
    """Write the digest of each picture into a run folder, beside those that are there from before.

    Raises:
        TrainingError: The folder cannot be written.
    """
    file = out / LEARNED
    known = set(file.read_text(encoding="ascii").split()) if file.is_file() else set()
    known |= {digest(face) for face in pictures.rgb()}
    write_result(file, ("\n".join(sorted(known)) + "\n").encode("ascii"))
