"""Every record as JSON, with its schema id: pure functions that print nothing. docs/json.md describes what they return.

Within a version of a schema keys are added only; a key that goes or changes its meaning makes a new version.
"""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mien import zoo

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from mien.gallery.ingest import Outcome
    from mien.gallery.naming import Named
    from mien.gallery.records import CheckReport, Finding, Sample, Subject
    from mien.grouping import Grouping
    from mien.reporting.groups import Album, Name
    from mien.types import Attributes, Box, Candidate, Comparison, Face, Opening, OperatingPoint, Picture
    from mien.video.records import Event, Identity, Summary, Watched
    from mien.vision.sequence import Clip
    from mien.vision.subjects import Subjects
    from mien.zoo import Card

ANALYSIS = "mien/analysis/1"
ANONYMIZATION = "mien/anonymization/1"
CHALLENGE = "mien/challenge/1"
CLASSIFICATION = "mien/classification/1"
COMPARISON = "mien/comparison/1"
ENROLMENT = "mien/enrolment/1"
EXPRESSIONS = "mien/expressions/1"
EXPRESSION_CLIPS = "mien/expression-clips/1"
GALLERY_CHECK = "mien/gallery-check/1"
GALLERY_COPY = "mien/gallery-copy/1"
GALLERY_ERASURE = "mien/gallery-erasure/1"
GALLERY_STATS = "mien/gallery-stats/1"
GALLERY_SUBJECT = "mien/gallery-subject/1"
GROUPS = "mien/groups/1"
IDENTIFICATION = "mien/identification/1"
RESTORATION = "mien/restoration/1"
SEARCH = "mien/search/1"
WATCH = "mien/watch/1"


def plain(value: object) -> object:
    """Return records, arrays and paths as what JSON knows; a number that is not finite becomes null."""
    import numpy as np  # not for `mien --help`

    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return shown_path(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value


def path_as_json(path: str | Path) -> dict[str, str]:
    """Return ``path`` as text and, where its bytes are not UTF-8, also ``path_bytes``: all of them, in base64."""
    data, text = os.fsencode(path), shown_path(path)
    return {"path": text} if text.encode() == data else {"path": text, "path_bytes": base64.b64encode(data).decode()}


def shown_path(path: str | Path) -> str:
    """Return a path as text; bytes of it that are no UTF-8 become U+FFFD."""
    return os.fsencode(path).decode("utf-8", "replace")


def face_as_json(face: Face, *, embedding: bool = False) -> dict[str, object]:
    """Return a face as docs/json.md describes it; numbers are rounded well below what they mean."""
    quality, expression = face.quality, face.expression
    facts: dict[str, object] = {
        "box": _box(face.box),
        "landmarks": [[round(x, 2), round(y, 2)] for x, y in face.landmarks.tolist()],
        "score": round(face.score, 4),
        "quality": quality
        and {
            "score": round(quality.score, 4),
            "reasons": list(quality.reasons),
            "measures": {name: round(value, 4) for name, value in quality.measures.items()},
        },
        "expression": expression
        and {
            "label": expression.label,
            "probabilities": {label: round(value, 4) for label, value in expression.probabilities.items()},
            "uncertain": expression.uncertain,
        },
        "turn": face.turn,
    }
    if face.attributes is not None:
        facts["attributes"] = _attributes(face.attributes)
    if embedding and face.embedding is not None:
        # Nine digits give a float32 back to the last bit.
        vector = [float(f"{value:.9g}") for value in face.embedding.vector.tolist()]
        facts["embedding"] = {"model": face.embedding.model, "vector": vector}
    return facts


def expression_clip(path: str | Path, clip: Clip | None, error: str | None = None) -> dict[str, object]:
    """Return what a clip shows, or why that could not be read."""
    facts: dict[str, object] = {**path_as_json(path), "error": error}
    if clip is None:
        return facts
    told = clip.expression
    return facts | {
        "expression": {
            "label": told.label,
            "probabilities": {label: round(value, 4) for label, value in told.probabilities.items()},
            "uncertain": told.uncertain,
        },
        "frames": [
            {"frame": frame, "weight": round(weight, 4)}
            for frame, weight in zip(clip.frames, clip.weights, strict=True)
        ],
        "frames_without_face": clip.without,
    }


def _attributes(seen: Attributes) -> dict[str, object]:
    def opening(found: Opening) -> dict[str, object]:
        return {"open": found.open, "openness": round(found.openness, 3)}

    return {
        "pose": {name: round(value, 1) for name, value in record(seen.pose).items() if isinstance(value, float)},
        "left_eye": opening(seen.left_eye),
        "right_eye": opening(seen.right_eye),
        "mouth": opening(seen.mouth),
        "age": {"years": round(seen.age.years, 1), "error": _rounded(seen.age.error, 1)},
        "apparent_gender": {
            "label": seen.gender.label,
            "probability": round(seen.gender.probability, 4),
            "error": _rounded(seen.gender.error, 3),
        },
        "mesh": [[round(value, 2) for value in point] for point in seen.mesh.tolist()],
        "mesh_score": round(seen.mesh_score, 4),
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _box(box: Box) -> list[float]:
    return [round(value, 2) for value in box.as_tuple()]


def point_as_json(point: OperatingPoint) -> dict[str, object]:
    """Return an operating point; rates that nobody measured are null."""
    facts = {key: plain(value) for key, value in record(point).items()}
    if not point.num_impostor:
        facts |= dict.fromkeys(("target_fmr", "fmr", "fmr_interval"))
    if not point.num_genuine:
        facts |= dict.fromkeys(("fnmr", "fnmr_interval"))
    return facts


def picture_as_json(picture: Picture, faces: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Return a picture with what was made of its faces; with its error in their place where it could not be read."""
    name = path_as_json(picture.path or "-")
    if picture.error is not None:
        return {**name, "error": picture.error}
    facts = {**name, "width": picture.width, "height": picture.height, "faces": list(faces)}
    return {**facts, "notes": list(picture.notes)} if picture.notes else facts


def analysis(picture: Picture, *, embeddings: bool = False) -> dict[str, object]:
    """Return a picture of `mien/analysis/1`."""
    return picture_as_json(picture, [face_as_json(face, embedding=embeddings) for face in picture.faces])


def expressions(picture: Picture) -> dict[str, object]:
    """Return a picture of `mien/expressions/1`; an expression model has read its faces."""
    faces = []
    for face in picture.faces:
        assert face.expression is not None, "an expression model is in use"
        label, probabilities = face.expression.label, face.expression.probabilities
        faces.append(
            {
                "box": _box(face.box),
                "expression": label,
                "probability": round(probabilities[label], 4),
                "uncertain": face.expression.uncertain,
                "probabilities": {name: round(value, 4) for name, value in probabilities.items()},
            }
        )
    return picture_as_json(picture, faces)


def comparison(a: str, b: str, compared: Comparison, embedder: str) -> dict[str, object]:
    """Return the document `mien/comparison/1`."""
    sides: list[dict[str, object]] = [{}, {}]
    if compared.sides is not None:
        sides = [
            {
                "faces": side.faces,
                "face": side.face,
                "box": _box(side.box),
                "turn": side.turn,
                "quality": side.quality
                and {"score": round(side.quality.score, 4), "reasons": list(side.quality.reasons)},
            }
            for side in compared.sides
        ]
    return {
        "schema": COMPARISON,
        "a": {**path_as_json(a), **sides[0]},
        "b": {**path_as_json(b), **sides[1]},
        "score": round(compared.score, 6),
        "match": compared.match,
        "probability": compared.probability,
        "embedder": embedder,
        "pairs": compared.pairs,
        "operating_point": point_as_json(compared.point),
        "worst_group": compared.worst_group and record(compared.worst_group),
    }


def classification(picture: Picture, subjects: Sequence[tuple[Face, Subjects]]) -> dict[str, object]:
    """Return a picture of `mien/classification/1`."""
    faces = [
        {
            "box": _box(face.box),
            "subject": None if told.unknown else told.subject,
            "score": round(told.score, 4),
            "probabilities": {subject: round(value, 4) for subject, value in told.probabilities.items()},
        }
        for face, told in subjects
    ]
    return picture_as_json(picture, faces)


def identification_head(embedder: str, point: OperatingPoint) -> dict[str, object]:
    """Return what holds for all pictures of `mien/identification/1`."""
    return {"embedder": embedder, "threshold": point.threshold, "operating_point": point_as_json(point)}


def identification(
    picture: Picture, faces: Sequence[Named], *, card: Card, threshold: float, subjects: int
) -> dict[str, object]:
    """Return a picture of `mien/identification/1`, searched in a gallery of so many subjects."""
    from mien.gallery.naming import repeated_names  # with the metrics and SciPy, not for `mien --help`

    found = [
        face_as_json(named.face)
        | {
            "subject": named.subject,
            "candidates": [
                candidate_as_json(candidate, card, subjects) | {"match": candidate.score >= threshold}
                for candidate in named.candidates
            ],
        }
        for named in faces
    ]
    facts = picture_as_json(picture, found)
    return facts if picture.error is not None else facts | {"repeated": repeated_names(faces)}


def candidate_as_json(candidate: Candidate, card: Card, subjects: int) -> dict[str, object]:
    """Return a candidate with the probability that it is who was searched for, among so many subjects."""
    from mien.gallery.naming import chance  # as above

    return {
        "subject": candidate.subject,
        "subject_id": candidate.subject_id,
        "sample_id": candidate.sample_id,
        "score": round(candidate.score, 6),
        "probability": chance(candidate, card, subjects),
    }


def search(path: str, face: Face, candidates: Sequence[Candidate], *, card: Card, subjects: int) -> dict[str, object]:
    """Return the document `mien/search/1`."""
    facts = {"schema": SEARCH, **path_as_json(path), "face": face_as_json(face)}
    return facts | {"candidates": [candidate_as_json(candidate, card, subjects) for candidate in candidates]}


def enrolment(outcome: Outcome) -> dict[str, object]:
    """Return a picture of `mien/enrolment/1`."""
    picture, enrolled = outcome.picture, outcome.enrolment
    facts: dict[str, object] = {**path_as_json(picture.path or ""), "status": outcome.status}
    if enrolled is None:
        return facts | {"error": outcome.error}
    facts |= {
        "subject": outcome.subject,
        "subject_id": enrolled.subject_id,
        "sample_id": enrolled.sample_id,
        "quality": outcome.quality,
        "reasons": enrolled.reasons,
        "duplicates": enrolled.duplicates,
        "faces": len(picture.faces),
        "face": None if outcome.face is None else {"number": outcome.face[0], "box": _box(outcome.face[1].box)},
        "same_face": list(enrolled.same_face),
        "simulated": outcome.simulated if enrolled.status == "added" else 0,
    }
    return facts | ({"note": outcome.note} if outcome.note else {})


def groups(
    grouping: Grouping, album: Album, names: Mapping[int, Name], *, embedder: str, point: OperatingPoint
) -> dict[str, object]:
    """Return the document `mien/groups/1`."""
    from mien.reporting.groups import expression_shares  # with Pillow and OpenCV

    who = grouping.person_of()
    order = {face: place for picture in album.pictures for place, face in enumerate(picture.faces)}
    pictures: list[dict[str, object]] = []
    for picture in album.pictures:
        if picture.error is not None:
            pictures.append({**path_as_json(picture.path), "error": picture.error})
            continue
        size = {"width": picture.width, "height": picture.height}
        if picture.copy_of is not None:
            pictures.append({**path_as_json(picture.path), **size, "faces": [], "copy_of": picture.copy_of})
            continue
        faces = [
            {
                "person": who.get(face),
                "quality": round(album.faces[face].quality, 4),
                "expression": album.faces[face].expression,
            }
            for face in picture.faces
        ]
        pictures.append({**path_as_json(picture.path), **size, "faces": faces})
    people = [
        {
            "id": person.id,
            "name": names[person.id].subject if person.id in names else None,
            "faces": [[album.faces[face].picture, order[face]] for face in person.faces],
            "pictures": list(person.pictures),
            "with": [{"person": other, "pictures": count} for other, count in grouping.companions(person.id)],
            "agreement": round(person.agreement, 4),
            "expressions": {label: round(share, 4) for label, share in expression_shares(person, album).items()},
        }
        for person in grouping.people
    ]
    counts = {
        "pictures": len(album.pictures),
        "copies": album.num_copies,
        "failed": len(album.failures),
        "faces": len(album.faces),
        "people": len(people),
        "unassigned": len(grouping.unassigned),
    }
    head = {"schema": GROUPS, "embedder": embedder, "operating_point": point_as_json(point), "counts": counts}
    return {**head, "people": people, "pictures": pictures}


def watch_head(
    source: str, *, live: bool, embedder: str, expression: str | None, point: OperatingPoint | None
) -> dict[str, object]:
    """Return the first line of `mien/watch/1`; ``point`` decides about identities, None where there is no gallery."""
    return {
        "schema": WATCH,
        "event": "start",
        "source": source,
        "live": live,
        "embedder": embedder,
        "expression_model": expression,
        "operating_point": None if point is None else point_as_json(point),
    }


def watch_event(event: Event) -> dict[str, object]:
    """Return a line of `mien/watch/1` about something that happened."""
    from mien.video import records  # with NumPy and OpenCV, as above

    facts: dict[str, object] = {"event": event.kind, "time_s": round(event.time_s, 3), "frame": event.frame}
    if isinstance(event, records.Entered):
        return facts | {"track": event.track, "box": _box(event.box), "again": event.again}
    if isinstance(event, records.Named):
        return facts | {"track": event.track, **identity(event.identity)}
    if isinstance(event, records.Changed):
        told = event.expression
        shares = {label: round(value, 4) for label, value in told.probabilities.items()}
        return facts | {
            "track": event.track,
            "expression": told.label,
            "before": event.before,
            "uncertain": told.uncertain,
            "probabilities": shares,
        }
    if isinstance(event, records.Left):
        when = {"since_s": round(event.since_s, 3), "until_s": round(event.until_s, 3)}
        return facts | {"track": event.track, **when, **identity(event.identity)}
    assert isinstance(event, records.Notice)
    return facts | {"what": event.what, "text": event.text}


def identity(known: Identity) -> dict[str, object]:
    """Return who a track is taken to be."""
    return {
        "state": known.state,
        "subject": known.subject,
        "unknown": known.number,
        "score": None if known.score is None else round(known.score, 6),
        "crops": known.crops,
    }


def watch_picture(watched: Watched) -> dict[str, object]:
    """Return a line of `mien/watch/1` about one picture and the faces in it."""
    faces = [
        {
            "track": face.track,
            "box": _box(face.box),
            "found": face.found,
            "who": face.identity.label or None,
            "expression": face.expression and face.expression.label,
        }
        for face in watched.faces
    ]
    frame = watched.frame
    return {"event": "picture", "time_s": round(frame.time_s, 3), "frame": frame.number, "faces": faces}


def watch_tail(summary: Summary) -> dict[str, object]:
    """Return the last line of `mien/watch/1`."""
    tracks = [
        {
            "track": track.track,
            **identity(track.identity),
            "visits": [[round(since, 3), round(until, 3)] for since, until in track.visits],
            "expressions": {label: round(seconds, 2) for label, seconds in track.expressions.items()},
        }
        for track in summary.tracks
    ]
    return {
        "event": "end",
        "time_s": round(summary.seconds, 3),
        "ended": summary.ended,
        "frames": summary.frames,
        "dropped": summary.dropped,
        "searches": summary.searches,
        "took_s": round(summary.took_s, 3),
        "latency_ms": summary.latency and {k: round(getattr(summary.latency, k), 1) for k in ("p50", "p95", "p99")},
        "tracks": tracks,
    }


def gallery_subject(subject: Subject, samples: Sequence[Sample]) -> dict[str, object]:
    """Return the document `mien/gallery-subject/1`."""
    return {"schema": GALLERY_SUBJECT, "subject": subject, "samples": list(samples)}


def gallery_check(report: CheckReport) -> dict[str, object]:
    """Return the document `mien/gallery-check/1`."""
    return {"schema": GALLERY_CHECK, "ok": report.ok, **record(report)}


def finding(found: Finding, names: Mapping[int, str]) -> dict[str, object]:
    """Return what `gallery audit` found, with the names of its subjects."""
    return record(found) | {"names": [names[subject_id] for subject_id in found.subjects]}


def record(value: DataclassInstance, schema: str | None = None) -> dict[str, object]:
    """Return the fields of a record by name, after the id of their schema where they are a document."""
    facts = {field.name: getattr(value, field.name) for field in fields(value)}
    return facts if schema is None else {"schema": schema, **facts}


def models() -> list[dict[str, object]]:
    """Return the models that this machine knows, and which are here."""
    defaults = set(zoo.defaults().values())
    return [
        {
            "name": card.name,
            "id": card.id,
            "role": card.role,
            "default": card.name in defaults,
            "present": zoo.is_present(card.name),
            "download_bytes": card.source.download_bytes,
            "licence": card.licence,
            "source": card.origin,
        }
        for card in zoo.cards()
    ]
