"""Changing the embedder: every stored crop is embedded anew, then all switch at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from mien.alignment import TEMPLATES, align
from mien.errors import GalleryError
from mien.gallery.protocol import Embed
from mien.types import as_unit

if TYPE_CHECKING:
    from mien.gallery.store import Gallery

__all__ = ["migrate", "realigned"]

_MISSING = (
    "FROM sample LEFT JOIN template ON template.sample_id = sample.id "
    "AND template.model_id = (SELECT id FROM model WHERE name = ?) WHERE template.id IS NULL"
)


def migrate(
    gallery: Gallery, model: str, embed: Embed, *, batch: int, progress: Callable[[int, int], None] | None
) -> int:
    """Embed what lacks a template of ``model``, then switch to it; see `Gallery.migrate`."""
    active = gallery.active_model()
    if active is not None and active[1] == model:
        return 0
    ask = gallery.connection.execute
    lost = ask(f"SELECT count(*) {_MISSING} AND sample.id NOT IN (SELECT sample_id FROM crop)", (model,)).fetchone()[0]
    if lost:
        raise GalleryError(
            f"{lost} samples were enrolled without their crop and cannot be embedded anew. Erase or enrol them again."
        )
    done, total = 0, ask("SELECT count(*) FROM sample").fetchone()[0]
    left = ask(f"SELECT count(*) {_MISSING}", (model,)).fetchone()[0]
    while True:
        ids = [row[0] for row in ask(f"SELECT sample.id {_MISSING} ORDER BY sample.id LIMIT ?", (model, batch))]
        if not ids:
            # Another program may have enrolled with the old model meanwhile: look again under the lock.
            with gallery.write():
                if not ask(f"SELECT count(*) {_MISSING}", (model,)).fetchone()[0]:
                    _switch(gallery, model)
                    return done
            continue
        _embed(gallery, model, ids, embed)
        done += len(ids)
        if progress is not None:
            progress(total - left + done, total)


def _embed(gallery: Gallery, model: str, ids: list[int], embed: Embed) -> None:
    by_side: dict[tuple[int, ...], dict[int, UInt8[np.ndarray, "side side 3"]]] = defaultdict(dict)
    for sample_id in ids:
        crop = gallery.crop(sample_id)
        if crop is not None:
            by_side[crop.shape][sample_id] = crop
    for of_side in by_side.values():
        vectors = as_unit(np.asarray(embed(np.stack(list(of_side.values())))))
        if vectors.shape[0] != len(of_side) or not np.isfinite(vectors).all():
            raise GalleryError(f"{model} returned no usable embedding of some of {len(of_side)} crops.")
        with gallery.write():
            model_id = gallery.model_row(model, vectors.shape[1])
            present = {row[0] for row in gallery.connection.execute("SELECT id FROM sample")}
            for sample_id, vector in zip(of_side, vectors, strict=True):
                if sample_id in present:  # it may have been erased meanwhile
                    gallery.add_template(sample_id, model_id, vector.astype(np.float16))


def _switch(gallery: Gallery, model: str) -> None:
    """Make the model the one in use and drop the templates of others. Inside a write."""
    row = gallery.connection.execute("SELECT id FROM model WHERE name = ?", (model,)).fetchone()
    if row is None:  # an empty gallery: its first template decides
        return
    gallery.bury("SELECT id FROM template WHERE model_id != ?", row[0])
    gallery.connection.execute("DELETE FROM template WHERE model_id != ?", (row[0],))
    gallery.set_meta("model", row[0])
    gallery.note("migrate", None, model)


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
    side = crops.shape[1]
    (from_side, from_points), (base_side, to_points) = TEMPLATES[template], TEMPLATES[to_template]
    if template == to_template and side == to_side:
        return crops
    source = np.array(from_points) * (side / from_side)
    target = np.array(to_points) * (to_side / base_side)
    return np.stack([align(crop, source, points=target, side=to_side) for crop in crops])
