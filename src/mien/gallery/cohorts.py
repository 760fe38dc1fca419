"""A gallery's cohort: the people by whom its scores are normalised, the embedder's or its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float32

from mien.analyzer import main_face
from mien.errors import GalleryError, UsageError
from mien.files import find_subjects, printable, search_images
from mien.gallery.names import shown
from mien.types import as_unit
from mien.vision.cohort import FEWEST, Cohort, make_cohort, too_few, with_cohort

if TYPE_CHECKING:
    from mien.analyzer import Analyzer
    from mien.gallery.gallery import Gallery
    from mien.gallery.records import StoredPoint
    from mien.zoo import Card

__all__ = ["People", "card_of", "people_in", "people_of", "use_cohort", "use_shipped"]


class People(NamedTuple):
    """One embedding a person, as the network alone sees them, and what was left out on the way."""

    vectors: Float32[np.ndarray, "people dimension"]
    notes: tuple[str, ...] = ()


def card_of(gallery: Gallery, cards: Sequence[Card]) -> Card | None:
    """Return which of these cards the gallery's templates are of, with its own cohort if it has one; None: of none."""
    cohort = gallery.cohort
    if cohort is None:
        return next((card for card in cards if gallery.model in (card.id, card.plain_id)), None)
    return next((own for own in (with_cohort(card, cohort) for card in cards) if own.id == gallery.model), None)


def people_of(gallery: Gallery, card: Card) -> People:
    """Return the subjects of a gallery."""
    plain = _plain(gallery, card)
    means = [plain(gallery.vectors(subject.name)).mean(axis=0) for subject in gallery.subjects() if subject.samples]
    return People(as_unit(np.stack(means)) if means else np.empty((0, 1), np.float32))


def people_in(folder: Path, analyzer: Analyzer, *, advance: Callable[[], None] = lambda: None) -> People:
    """Return the people of a folder: a folder each, or a picture each.

    Args:
        folder: With a folder a person, or pictures of one person each.
        analyzer: Finds and embeds the main face of each picture.
        advance: Called after each picture.

    Raises:
        UsageError: There is no such folder, or it holds too few people.
    """
    if not folder.is_dir():
        raise UsageError(f"A cohort is made of a folder of pictures; '{printable(folder)}' is none.")
    found = find_subjects(folder)
    pictures, notes = list(found.pictures), [*found.notes, *found.failures]
    if not pictures:
        flat = search_images([folder])
        pictures, notes = [(path, str(path)) for path in flat.paths], list(flat.left_out())
    if (people := len({name for _, name in pictures})) < FEWEST:  # said before the work and not after it
        raise UsageError(too_few(people))
    vectors = defaultdict(list)
    for (_, name), picture in zip(pictures, analyzer.pictures([path for path, _ in pictures]), strict=True):
        face = main_face(picture.faces, picture.width, picture.height)
        if face is not None and face.embedding is not None:
            vectors[name].append(face.embedding.vector)
        else:
            notes.append(picture.error or f"'{printable(picture.path or '')}' shows no face and is left out.")
        advance()
    plain = as_unit if analyzer.embedder.cohort is None else Cohort.undo
    rows = [plain(np.stack(one)).mean(axis=0) for one in vectors.values()]
    return People(as_unit(np.stack(rows)) if rows else np.empty((0, 1), np.float32), tuple(notes))


def use_cohort(gallery: Gallery, card: Card, people: People, *, fmr: Sequence[float]) -> list[StoredPoint]:
    """Normalise a gallery by a cohort made of these people, and calibrate it; see `Gallery.change_cohort`."""
    cohort, plain = make_cohort(people.vectors), _plain(gallery, card)
    model = with_cohort(card, cohort).id
    return gallery.change_cohort(model, lambda rows: cohort.normalise(plain(rows)), cohort, fmr=fmr)


def use_shipped(gallery: Gallery, card: Card, shipped: Cohort | None, *, fmr: Sequence[float]) -> list[StoredPoint]:
    """Normalise a gallery by the cohort of its embedder again, or by none where it has none, and calibrate it."""
    plain = _plain(gallery, card)
    change = plain if shipped is None else lambda rows: shipped.normalise(plain(rows))
    return gallery.change_cohort(card.id, change, None, fmr=fmr)


def _plain(gallery: Gallery, card: Card) -> Callable[[Float32[np.ndarray, "n longer"]], Float32[np.ndarray, "n d"]]:
    """Return what takes the cohort out of the gallery's templates."""
    if gallery.model is None:
        raise GalleryError("An empty gallery has nothing to compare. Enrol first.")
    if card_of(gallery, (card,)) is None:
        raise GalleryError(
            f"The gallery's templates are of {shown(gallery.model)}, not of {card.id}. Choose theirs with --embedder."
        )
    own, normalised = gallery.cohort is not None, gallery.model == card.id != card.plain_id
    return Cohort.undo if own or normalised else as_unit
