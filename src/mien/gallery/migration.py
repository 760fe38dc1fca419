"""Changing the embedder: every stored crop is embedded anew, then all switch at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

from mien.errors import GalleryError
from mien.gallery.crops import decode_crop
from mien.gallery.protocol import Change, Embed
from mien.gallery.rows import Rows
from mien.types import as_unit
from mien.vision.cohort import Cohort

__all__ = ["migrate", "realigned", "renormalise"]


def migrate(rows: Rows, model: str, embed: Embed, *, batch: int, progress: Callable[[int, int], None] | None) -> int:
    """Embed what lacks a template of ``model``, then switch to it; see `Gallery.migrate`."""
    active = rows.active_model()
    if active is not None and active.name == model:
        return 0
    lacking = rows.lacking(model)
    lost = len(rows.cropless().intersection(lacking))
    if lost:
        raise GalleryError(
            f"{lost} samples were enrolled without their crop and cannot be embedded anew. Erase or enrol them again."
        )
    done, left, total = 0, len(lacking), rows.count("sample")
    while True:
        ids = rows.lacking(model, batch)
        if not ids:
            # Another program may have enrolled with the old model meanwhile: look again under the lock.
            with rows.write():
                if not rows.lacking(model, 1):
                    rows.switch_model(model)
                    rows.note("migrate", None, model)
                    return done
            continue
        _embed(rows, model, ids, embed)
        done += len(ids)
        if progress is not None:
            progress(total - left + done, total)


def renormalise(rows: Rows, model: str, change: Change, cohort: Cohort | None = None) -> int:
    """Derive all templates from those in use, then switch to them: one write, no crop is needed.

    Args:
        rows: What is stored.
        model: Id that the derived templates carry.
        change: Derives unit vectors from unit vectors.
        cohort: The gallery's own, if that is what the templates are derived with.
    """
    with rows.write():
        active = rows.active_model()
        if active is None or active.name == model:
            return 0
        lacking = set(rows.lacking(model))
        sample_of = rows.owners(active).samples
        simulated = rows.simulated(active)  # of a mean of views the mean is what is derived, too
        blocks = list(rows.templates(active))  # read before anything is added
        done = 0
        for _, vectors in blocks:
            changed = as_unit(np.asarray(change(as_unit(vectors))))
            added = rows.add_model(model, changed.shape[1])
            for sample_id, vector in zip(sample_of[done : done + len(vectors)].tolist(), changed, strict=True):
                if sample_id in lacking:
                    rows.add_template(sample_id, added, vector.astype(np.float16))
            done += len(vectors)
        if simulated:
            derived = rows.add_model(model, changed.shape[1])
            rows.mark_simulated(derived, {sample: views for sample, views in simulated.items() if sample in lacking})
        rows.switch_model(model)
        if cohort is not None:
            rows.keep_cohort(cohort)
        rows.note("migrate", None, model)
        return done


def _embed(rows: Rows, model: str, ids: list[int], embed: Embed) -> None:
    by_side: dict[tuple[int, ...], dict[int, UInt8[np.ndarray, "side side 3"]]] = defaultdict(dict)
    for sample_id in ids:
        image = rows.crop(sample_id)
        if image is not None:
            crop = decode_crop(image)
            by_side[crop.shape][sample_id] = crop
    for of_side in by_side.values():
        vectors = as_unit(np.asarray(embed(np.stack(list(of_side.values())))))
        if vectors.shape[0] != len(of_side) or not np.isfinite(vectors).all():
            raise GalleryError(f"{model} returned no usable embedding of some of {len(of_side)} crops.")
        with rows.write():
            added = rows.add_model(model, vectors.shape[1])
            for sample_id, vector in zip(of_side, vectors, strict=True):
                if rows.sample_exists(sample_id):  # it may have been erased meanwhile
                    rows.add_template(sample_id, added, vector.astype(np.float16))


def realigned(
    crops: UInt8[np.ndarray, "batch side side 3"], *, template: str, to_template: str, to_side: int
) -> UInt8[np.ndarray, "batch to_side to_side 3"]:
    """Move crops from one alignment template to another, for an embedder that wants to see faces otherwise.

    Each crop is taken to have its landmarks where its template puts them. What the old template cut off stays black.

    Args:
        crops: RGB uint8, shape (batch, side, side, 3).
        template: Name of the template that they were cut with.
        to_template: Name of the template wanted.
        to_side: Side wanted, px.
    """
    from mien.alignment import TEMPLATES, align  # OpenCV, which no search needs

    side = crops.shape[1]
    if template == to_template and side == to_side:
        return crops
    source, target = TEMPLATES[template].points_at(side), TEMPLATES[to_template].points_at(to_side)
    return np.stack([align(crop, source, points=target, side=to_side) for crop in crops])
