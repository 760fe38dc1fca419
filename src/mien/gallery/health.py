"""Is the gallery sound, does its index find what is there, and is everybody who they are said to be?"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float32, Int64

from mien.errors import GalleryError
from mien.gallery.crops import decode_crop
from mien.gallery.index import EVERYTHING, CodedIndex
from mien.gallery.live import LiveIndex
from mien.gallery.records import ActiveModel, CheckReport, Finding, Owners, Recall
from mien.gallery.rows import Rows
from mien.metrics.intervals import wilson
from mien.types import as_unit

__all__ = ["audit", "check", "measure_recall"]

LEAST_RECALL = 0.999
DEEPEST = 16_384  # beyond it every template is scored
_SHOWN = 5  # rows with one problem that are named
_PROBE_BLOCK = 1024
_MOST_PROBES = 20_000  # of an audit
_NEIGHBOURS = 64  # looked at for each template of a large gallery
_WOLF_SUBJECTS = 3

Probes = Float32[np.ndarray, "probes dimension"]


def check(rows: Rows, live: LiveIndex, *, mate_score: float, probes: int) -> CheckReport:
    """Examine file, rows and index; see `Gallery.check`."""
    problems = rows.database_problems()
    if problems:  # what the rows say is not worth reading
        return CheckReport(tuple(problems), (), 0, 0, 0, "unknown")
    problems = [f"{len(ids)} {what} (row {_listed(ids)})" for what, ids in rows.altered(decode_crop).items()]
    try:
        rows.cohort()
    except GalleryError as error:
        problems.append(str(error))
    notes = []
    active = rows.active_model()
    templates = rows.count_templates(active)
    if active is not None:
        bare = len(rows.lacking(active.name))
        if bare:
            problems.append(f"{bare} samples have no template of the model in use")
        pending = rows.count("template") - templates
        if pending:
            notes.append(
                f"A migration is unfinished: {pending} templates of another model wait. Run it again to go on."
            )
    cropless = len(rows.cropless())
    if cropless:
        notes.append(f"{cropless} samples have no crop and could not move to another embedder.")
    recall: tuple[Recall, ...] = ()
    kind = "unknown" if problems else "empty"
    if not problems:
        alike = rows.look_alikes()
        if alike:
            notes.append(
                f"{len(alike)} subjects have names that look alike (rows {_listed(alike)}). Rename or merge them."
            )
        if active is not None:
            kind, recall, said, wrong = _check_index(rows, live, mate_score=mate_score, probes=probes)
            notes += said
            problems += wrong
    subjects, samples = rows.count("subject"), rows.count("sample")
    return CheckReport(tuple(problems), tuple(notes), subjects, samples, templates, kind, recall)


def _listed(ids: list[int]) -> str:
    return f"{', '.join(map(str, ids[:_SHOWN]))}{', ...' if len(ids) > _SHOWN else ''}"


def _check_index(
    rows: Rows, live: LiveIndex, *, mate_score: float, probes: int
) -> tuple[str, tuple[Recall, ...], list[str], list[str]]:
    """Return the index's kind, its recall, notes and problems; mend what can be mended."""
    index = live.fresh()
    if not isinstance(index, CodedIndex):
        return "exact", (), [], []
    notes = []
    if not _same_rows(rows, index):
        if rows.read_only:
            return "coded", (), [], ["the index differs from the database. Run: mien gallery rebuild"]
        live.rebuild()
        notes.append("The index differed from the database and was made anew.")
        index = live.fresh()
        assert isinstance(index, CodedIndex), "a large gallery has a coded index"
    while True:
        recall = measure_recall(index, mate_score=mate_score, probes=probes)
        if all(measured.rate >= LEAST_RECALL for measured in recall) or index.stamp.depth >= len(index):
            break
        depth = 4 * index.stamp.depth if 4 * index.stamp.depth <= DEEPEST else EVERYTHING
        index.deepen(depth, None if rows.read_only else live.folder)
        told = "every template" if depth == EVERYTHING else f"{depth} templates"
        notes.append(f"The index missed too much and now scores {told} exactly a search.")
    return ("exact" if index.stamp.depth >= len(index) else "coded"), recall, notes, []


def _same_rows(rows: Rows, index: CodedIndex) -> bool:
    """Compare every id and vector of the index with the database."""
    active = rows.active_model()
    assert active is not None
    in_index = (pair for ids, vectors in index.blocks() for pair in zip(ids.tolist(), vectors, strict=True))
    in_rows = (pair for ids, vectors in rows.templates(active) for pair in zip(ids.tolist(), vectors, strict=True))
    for (one, vector), (other, row) in zip(in_index, in_rows, strict=False):
        if one != other or vector.tobytes() != row.tobytes():
            return False
    return len(index) == len(rows.owners(active).templates)


def measure_recall(index: CodedIndex, *, mate_score: float, probes: int, seed: int = 0) -> tuple[Recall, ...]:
    """Compare an index with exact search on its own templates.

    Two kinds of probe: templates moved away until they score ``mate_score`` with the original, in directions in
    which the gallery's own templates vary; and stored templates, each of which must find its best other. The
    second counts only where that other scores at least ``mate_score``: what is no match need not be found.
    """
    rng = np.random.default_rng(seed)
    originals, original_ids, spread = _sampled(index, probes, rng)
    moved = _moved(originals, spread, mate_score, rng)
    none = np.full(len(moved), -1, dtype=np.int64)
    pushed_best = _exact_best(index, moved, none)
    other_best = _exact_best(index, originals, original_ids)
    measured = [_recall(index, moved, none, pushed_best, mate_score)]
    matches = other_best >= mate_score
    if matches.any():
        measured.append(_recall(index, originals[matches], original_ids[matches], other_best[matches], None))
    return tuple(measured)


def _recall(
    index: CodedIndex,
    probes: Probes,
    not_these: Int64[np.ndarray, " probes"],
    best: Float32[np.ndarray, " probes"],
    mate_score: float | None,
) -> Recall:
    ids, scores = index.search(probes, 2)
    found = np.where(ids[:, 0] == not_these, scores[:, 1], scores[:, 0])
    # Matrix products round otherwise than sums; an equal score is an equal find.
    missed = int(np.count_nonzero(found < best - 1e-5))
    low, high = wilson(missed, len(probes))
    return Recall(1 - missed / len(probes), (1 - high, 1 - low), len(probes), mate_score)


def _sampled(
    index: CodedIndex, count: int, rng: np.random.Generator
) -> tuple[Probes, Int64[np.ndarray, " probes"], Probes]:
    """Draw templates to probe with, and others that show how the gallery varies."""
    total = len(index)
    picks = np.sort(rng.choice(total, size=min(count, total), replace=False))
    others = np.sort(rng.choice(total, size=min(256, total), replace=False))
    vectors, ids, spread, start = [], [], [], 0
    for block_ids, block in index.blocks():
        inside = picks[(picks >= start) & (picks < start + len(block_ids))] - start
        vectors.append(block[inside])
        ids.append(block_ids[inside])
        spread.append(block[others[(others >= start) & (others < start + len(block_ids))] - start])
        start += len(block_ids)
    return as_unit(np.concatenate(vectors)), np.concatenate(ids), as_unit(np.concatenate(spread))


def _moved(originals: Probes, spread: Probes, mate_score: float, rng: np.random.Generator) -> Probes:
    """Turn each template away from itself to a given cosine, along a random mixture of how templates differ."""
    differences = spread - spread.mean(axis=0)
    away = rng.standard_normal((len(originals), len(spread)), dtype=np.float32) @ differences
    away -= (away * originals).sum(axis=1, keepdims=True) * originals
    return as_unit(mate_score * originals + math.sqrt(max(1 - mate_score**2, 0.0)) * as_unit(away))


def _exact_best(
    index: CodedIndex, probes: Probes, not_these: Int64[np.ndarray, " probes"]
) -> Float32[np.ndarray, " probes"]:
    """Score all templates against all probes; return each probe's best, one template left out."""
    best = np.full(len(probes), -np.inf, dtype=np.float32)
    for ids, vectors in index.blocks():
        scores = probes @ vectors.astype(np.float32).T
        scores[not_these[:, None] == ids[None, :]] = -np.inf
        best = np.maximum(best, scores.max(axis=1, initial=-np.inf))
    return best


def audit(rows: Rows, live: LiveIndex, threshold: float) -> list[Finding]:
    """Compare everybody with everybody; see `Gallery.audit`.

    Of a gallery too large for that, an evenly spaced part is searched for in all of it.
    """
    active = rows.active_model()
    if active is None or not rows.count_templates(active):  # or everybody was erased
        return []
    owners = rows.owners(active)
    matches = list(_matches(rows, live, owners, threshold))
    wolves = _wolves(matches, owners)
    wolf_samples = {finding.samples[0] for finding in wolves}
    return wolves + _two_names(matches, owners, wolf_samples) + _two_persons(rows, active, owners, threshold)


Match = tuple[int, int, float]
"""Places of two templates of different subjects in `Owners`, and their score."""


def _matches(rows: Rows, live: LiveIndex, owners: Owners, threshold: float) -> Iterator[Match]:
    """Yield matches between different subjects, each seen from both sides."""
    active = rows.active_model()
    index = live.fresh()
    assert active is not None and index is not None
    if isinstance(index, CodedIndex):
        places = np.unique(np.linspace(0, len(owners.templates) - 1, _MOST_PROBES).astype(int))
        wanted = owners.templates[places]
        for ids, vectors in rows.templates(active):
            probing = np.isin(ids, wanted)
            if not probing.any():
                continue
            found, scores = index.search(vectors[probing].astype(np.float32), _NEIGHBOURS)
            here = np.searchsorted(owners.templates, ids[probing])
            there = np.searchsorted(owners.templates, found)
            there = np.minimum(there, len(owners.templates) - 1)
            yield from _pairs(here[:, None], there, (scores >= threshold) & (found >= 0), scores, owners)
        return
    everything = np.concatenate([vectors.astype(np.float32) for _, vectors in rows.templates(active)])
    all_places = np.arange(len(everything))[None, :]
    for start in range(0, len(everything), _PROBE_BLOCK):
        scores = everything[start : start + _PROBE_BLOCK] @ everything.T
        here = np.arange(start, start + len(scores))[:, None]
        yield from _pairs(here, np.broadcast_to(all_places, scores.shape), scores >= threshold, scores, owners)


def _pairs(
    here: Int64[np.ndarray, "probes 1"],
    there: Int64[np.ndarray, "probes found"],
    kept: Bool[np.ndarray, "probes found"],
    scores: Float32[np.ndarray, "probes found"],
    owners: Owners,
) -> Iterator[Match]:
    lines, columns = np.nonzero(kept)
    ones, others = here[lines, 0], there[lines, columns]
    apart = owners.subjects[ones] != owners.subjects[others]
    yield from zip(ones[apart].tolist(), others[apart].tolist(), scores[lines, columns][apart].tolist(), strict=True)


def _wolves(matches: list[Match], owners: Owners) -> list[Finding]:
    """Templates that match more subjects than chance would: at least three, and ten times the average."""
    reached: dict[int, dict[int, float]] = defaultdict(dict)
    for one, other, score in matches:
        subject = int(owners.subjects[other])
        reached[one][subject] = max(score, reached[one].get(subject, -1.0))
    average = sum(len(subjects) for subjects in reached.values()) / max(len(owners.templates), 1)
    least = max(_WOLF_SUBJECTS, math.ceil(10 * average))
    wolves = [
        Finding(
            "matches_many",
            (int(owners.subjects[place]), *sorted(subjects)),
            (int(owners.samples[place]),),
            max(subjects.values()),
            len(subjects),
        )
        for place, subjects in reached.items()
        if len(subjects) >= least
    ]
    return sorted(wolves, key=lambda finding: -finding.count)


def _two_names(matches: list[Match], owners: Owners, wolves: set[int]) -> list[Finding]:
    """Subjects of whose sample pairs at least half match; a wolf's matches say nothing."""
    sizes = Counter(owners.subjects.tolist())
    between: dict[tuple[int, int], list[Match]] = defaultdict(list)
    for one, other, score in matches:
        subjects = (int(owners.subjects[one]), int(owners.subjects[other]))
        if subjects[0] < subjects[1] and not wolves & {int(owners.samples[one]), int(owners.samples[other])}:
            between[subjects].append((one, other, score))
    found = [
        Finding(
            "two_names",
            subjects,
            tuple(sorted({int(owners.samples[place]) for one, other, _ in pairs for place in (one, other)})),
            max(score for _, _, score in pairs),
            len(pairs),
        )
        for subjects, pairs in between.items()
        if 2 * len(pairs) >= sizes[subjects[0]] * sizes[subjects[1]]
    ]
    return sorted(found, key=lambda finding: -finding.score)


def _two_persons(rows: Rows, active: ActiveModel, owners: Owners, threshold: float) -> list[Finding]:
    """Subjects whose samples fall into groups that do not match each other."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    several = {subject for subject, count in Counter(owners.subjects.tolist()).items() if count > 1}
    members: dict[int, list[tuple[int, Float32[np.ndarray, " dimension"]]]] = defaultdict(list)
    place = 0
    for _, vectors in rows.templates(active):
        for vector in vectors:
            subject = int(owners.subjects[place])
            if subject in several:
                members[subject].append((int(owners.samples[place]), vector.astype(np.float32)))
            place += 1
    found = []
    for subject, of_subject in members.items():
        stacked = np.stack([vector for _, vector in of_subject])
        scores = stacked @ stacked.T
        groups, labels = connected_components(csr_array(scores >= threshold), directed=False)
        if groups > 1:
            apart = labels != np.bincount(labels).argmax()
            samples = tuple(sample for (sample, _), out in zip(of_subject, apart, strict=True) if out)
            found.append(
                Finding("two_persons", (subject,), samples, float(scores[apart][:, ~apart].max()), len(samples))
            )
    return sorted(found, key=lambda finding: finding.score)
