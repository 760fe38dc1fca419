"""Which operating point decides: from a false match rate, a rate for a whole search, or a threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mien.errors import UsageError

if TYPE_CHECKING:
    from mien.gallery.protocol import GalleryProtocol
    from mien.types import OperatingPoint
    from mien.zoo import Card

__all__ = ["DEFAULT_FMR", "Decision", "decide", "decide_search"]

DEFAULT_FMR = 1e-3
"""Largest false match rate of a comparison, where none is asked for."""

_NOTEWORTHY_FPIR = 0.05
_GROWTH = 2  # times as many subjects as at calibration are worth a note


class Decision(NamedTuple):
    """An operating point, and what a person should know about it, a sentence each."""

    point: OperatingPoint
    notes: tuple[str, ...] = ()


def decide(
    card: Card,
    *,
    fmr: float | None = None,
    threshold: float | None = None,
    gallery: GalleryProtocol | None = None,
) -> Decision:
    """Return the operating point of comparisons: a gallery's own where it was calibrated, else the model's.

    Args:
        card: Of the embedder.
        fmr: Largest false match rate; by default `DEFAULT_FMR`.
        threshold: The user's own, in place of a rate.
        gallery: Whose calibrated points count first.

    Raises:
        UsageError: Both a rate and a threshold were given, or one is out of range.
        ModelError: The model was not measured at so small a rate.
    """
    from mien.matching import given_threshold, operating_point  # with NumPy and the zoo, not for `mien --help`

    if threshold is not None:
        if fmr is not None:
            raise UsageError("Give --fmr or --threshold, not both: a rate is turned into a threshold.")
        return Decision(given_threshold(threshold))
    fmr = DEFAULT_FMR if fmr is None else fmr
    if gallery is None:
        return Decision(operating_point(card, fmr))
    stored = gallery.operating_point(fmr)
    if stored is not None:
        return Decision(stored.point)
    note = f"the gallery is not calibrated at FMR {fmr:.2g}; the model's threshold is used."
    return Decision(operating_point(card, fmr), (note,))


def decide_search(
    card: Card,
    gallery: GalleryProtocol,
    *,
    fmr: float | None = None,
    fpir: float | None = None,
    threshold: float | None = None,
) -> Decision:
    """Return the operating point for searches of a gallery, with notes on what it means for one of its size.

    Args:
        card: Of the embedder.
        gallery: What is searched.
        fmr: As of `decide`.
        fpir: Largest share of strangers to be given a name, in place of ``fmr``.
        threshold: As of `decide`.

    Raises:
        UsageError: More than one of the three was given, or one is out of range.
        ModelError: The model was not measured at so small a rate.
    """
    from mien.metrics.identification import fmr_for_fpir, fpir_from_fmr  # with SciPy, as above

    if fpir is None:
        decision = decide(card, fmr=fmr, threshold=threshold, gallery=gallery)
        if threshold is not None:
            return decision
        return decision._replace(notes=decision.notes + _meaning(gallery, decision.point, fmr or DEFAULT_FMR))
    if fmr is not None or threshold is not None:
        raise UsageError("Give one of --fmr, --fpir and --threshold.")
    if not 0 < fpir < 1:
        raise UsageError(f"--fpir should lie between 0 and 1, for instance 0.01, got {fpir:g}.")
    subjects = max(len(gallery), 1)
    fmr = fmr_for_fpir(fpir, subjects)
    calibrated = [stored.point for stored in gallery.points()]
    measured = [point.target_fmr for point in (*calibrated, *card.operating_points)]
    notes: tuple[str, ...] = ()
    if measured and fmr < min(measured):
        reached = fpir_from_fmr(min(measured), subjects)
        notes = (
            f"FPIR {fpir:g} among {subjects} {'subject' if subjects == 1 else 'subjects'} needs FMR {fmr:.1e}, but "
            f"none below {min(measured):g} was measured. Up to {100 * reached:.2g} % of strangers may get a name.",
        )
        fmr = min(measured)
    # A stricter rate that was measured on this gallery says more than the exact one measured elsewhere.
    own = [point for point in calibrated if point.target_fmr <= fmr * 1.001]
    if own:
        return Decision(max(own, key=lambda point: point.target_fmr), notes)
    decision = decide(card, fmr=fmr, gallery=gallery)
    return Decision(decision.point, notes + decision.notes + _growth(gallery, fmr))


def _meaning(gallery: GalleryProtocol, point: OperatingPoint, fmr: float) -> tuple[str, ...]:
    from mien.metrics.identification import fpir_from_fmr  # with SciPy, as above

    subjects = max(len(gallery), 1)
    notes = _growth(gallery, fmr)
    expected = fpir_from_fmr(point.fmr, subjects)
    if expected > _NOTEWORTHY_FPIR:
        notes += (
            f"at FMR {fmr:g} up to {100 * expected:.2g} % of strangers may be given one of {subjects} "
            f"{'name' if subjects == 1 else 'names'}. --fpir takes the size of the gallery into account.",
        )
    return notes


def _growth(gallery: GalleryProtocol, fmr: float) -> tuple[str, ...]:
    stored, subjects = gallery.operating_point(fmr), len(gallery)
    if stored is None or subjects <= _GROWTH * stored.subjects:
        return ()
    return (
        f"the gallery has grown from {stored.subjects} to {subjects} subjects since it was calibrated. "
        "Run mien calibrate again.",
    )
