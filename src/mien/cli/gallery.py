"""`mien gallery` and `mien calibrate`: upkeep of galleries."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mien import zoo
from mien.cli.common import (
    DEFAULT_FMR,
    analyzer_options,
    counted,
    decision_options,
    decision_point,
    echo_json,
    gallery_options,
    make_analyzer,
    make_folder,
    open_gallery,
    progress,
)
from mien.errors import GalleryError
from mien.files import search_images
from mien.gallery.crypto import write_key
from mien.gallery.names import shown
from mien.gallery.postgres.address import Address
from mien.reporting import schemas

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float32, UInt8

    from mien.analyzer import Analyzer
    from mien.gallery import Gallery
    from mien.gallery.protocol import Embed
    from mien.gallery.records import StoredPoint
    from mien.zoo import Card

_MATE_SCORE = 0.45  # where the embedder is not of this machine's catalogue
_FOLDER = click.Path(path_type=Path, file_okay=False)
_json = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table; see docs/json.md.")


@click.group(short_help="List, show, rename, merge, erase, check, audit, copy, export, import, migrate.")
def gallery() -> None:
    """Look after a gallery of enrolled subjects."""


@gallery.command("list")
@gallery_options()
@_json
def list_(gallery: str, key: Path | None, as_json: bool) -> None:
    """List the subjects by name."""
    with open_gallery(gallery, key, read_only=True) as opened:
        subjects = opened.subjects()
    if as_json:
        echo_json(subjects, indent=1)
        return
    for subject in subjects:
        marked = f"  ({subject.simulated} simulated)" if subject.simulated else ""
        click.echo(f"{subject.id:6}  {subject.samples:5}  {shown(subject.created[:10])}  {shown(subject.name)}{marked}")
    samples = sum(subject.samples for subject in subjects)
    click.echo(f"{counted(len(subjects), 'subject')}, {counted(samples, 'sample')}", err=True)


@gallery.command()
@click.argument("subject")
@gallery_options()
@click.option("--crops", type=_FOLDER, metavar="DIR", help="Write the aligned faces here: SAMPLE.png.")
@_json
def show(subject: str, gallery: str, key: Path | None, crops: Path | None, as_json: bool) -> None:
    """Show the samples of SUBJECT."""
    from mien.images import save_image

    with open_gallery(gallery, key, read_only=True) as opened:
        found = opened.subject(subject)
        samples = opened.samples(subject)
        if crops is not None:
            make_folder(crops)
            for sample in samples:
                crop = opened.crop(sample.id)
                if crop is not None:
                    save_image(crops / f"{sample.id}.png", crop)
    if as_json:
        echo_json(schemas.gallery_subject(found, samples), indent=1)
        return
    click.echo(f"{shown(found.name)}  id {found.id}  {counted(found.samples, 'sample')}  since {shown(found.created)}")
    for sample in samples:
        quality = "" if sample.quality is None else f"  quality {sample.quality:.2f}"
        reasons = "  " + ", ".join(reason.replace("_", " ") for reason in sample.reasons) if sample.reasons else ""
        source = shown(sample.source_hash[:12])
        views = f"  template with {counted(sample.simulated, 'simulated view')}" if sample.simulated else ""
        click.echo(f"{sample.id:6}  {shown(sample.created)}  picture {source}{quality}{views}{reasons}")


@gallery.command()
@click.argument("subject")
@click.argument("name")
@gallery_options()
def rename(subject: str, name: str, gallery: str, key: Path | None) -> None:
    """Give SUBJECT another NAME."""
    with open_gallery(gallery, key) as opened:
        opened.rename(subject, name)
    click.echo("Renamed.", err=True)


@gallery.command()
@click.argument("into")
@click.argument("other")
@gallery_options()
def merge(into: str, other: str, gallery: str, key: Path | None) -> None:
    """Move all samples of OTHER to INTO: they are one person."""
    with open_gallery(gallery, key) as opened:
        moved = opened.merge(into, other)
    click.echo(f"{counted(moved, 'sample')} moved.", err=True)


@gallery.command()
@click.argument("subjects", nargs=-1, required=True)
@gallery_options()
@click.option("--yes", is_flag=True, help="Don't ask.")
@_json
def erase(subjects: tuple[str, ...], gallery: str, key: Path | None, yes: bool, as_json: bool) -> None:
    """Remove SUBJECTS for good, and prove it.

    All their samples go; then the files are searched for what was erased.
    """
    with open_gallery(gallery, key) as opened:
        samples = sum(opened.subject(name).samples for name in subjects)
        if not yes:
            asked = (
                f"Erase {counted(len(subjects), 'subject')} with {counted(samples, 'sample')}? This cannot be undone."
            )
            click.confirm(asked, abort=True, err=True)
        for name in subjects:
            erased = opened.erase(name)
            if as_json:
                echo_json(schemas.record(erased, schemas.GALLERY_ERASURE))
                continue
            click.echo(
                f"erased subject {erased.subject_id}: {counted(erased.samples, 'sample')}, "
                f"{counted(erased.templates, 'template')}, {counted(erased.crops, 'crop')}; none of "
                f"{erased.bytes_erased} bytes left in {erased.bytes_searched} bytes of {', '.join(erased.files)}"
            )
            for folder in erased.out_of_reach:
                click.echo(
                    f"mien: an index of this gallery was once kept in {shown(folder)}, which cannot be reached now. If "
                    "it is still there, delete that folder.",
                    err=True,
                )
            if isinstance(opened.path, Address):
                click.echo(
                    "mien: the server keeps old pages, its log and backups until it overwrites them. To rewrite the "
                    "tables now: mien gallery rebuild",
                    err=True,
                )
            if erased.shared:
                click.echo("mien: other subjects have the same picture; what they share is theirs and stays.", err=True)


@gallery.command()
@gallery_options()
def rebuild(gallery: str, key: Path | None) -> None:
    """Make everything derived anew.

    The database is compacted, its log emptied, the index rebuilt.
    """
    with open_gallery(gallery, key) as opened:
        opened.rebuild()
        stats = opened.stats()
    click.echo(f"{counted(stats.templates, 'template')}; {_size(stats.database_bytes + stats.index_bytes)}.", err=True)


@gallery.command()
@gallery_options()
@click.option("--probes", type=click.IntRange(1), default=3000, show_default=True, help="Searches that measure recall.")
@_json
def check(gallery: str, key: Path | None, probes: int, as_json: bool) -> int:
    """Examine everything, and measure the recall of search.

    What the index finds is compared with exact search. Status 1 if something is wrong.
    """
    with open_gallery(gallery, key) as opened:
        report = opened.check(mate_score=operating_threshold(opened), probes=probes)
    if as_json:
        echo_json(schemas.gallery_check(report), indent=1)
        return 0 if report.ok else 1
    for problem in report.problems:
        click.echo(f"mien: {problem}", err=True)
    for note in report.notes:
        click.echo(note)
    for recall in report.recall:
        what = (
            "stored templates"
            if recall.mate_score is None
            else f"probes at cosine {recall.mate_score:.2f} to their mate"
        )
        low, high = recall.interval
        click.echo(f"recall {recall.rate:.4f} (95 %: {low:.4f} to {high:.4f}) with {recall.probes} {what}")
    counts = f"{counted(report.subjects, 'subject')}, {counted(report.samples, 'sample')}, {report.templates} templates"
    state = "sound" if report.ok else f"{counted(len(report.problems), 'problem')}"
    click.echo(f"{state}: {counts}, search is {report.index}")
    return 0 if report.ok else 1


@gallery.command()
@gallery_options()
@_json
def stats(gallery: str, key: Path | None, as_json: bool) -> None:
    """Show counts, sizes, embedder and thresholds."""
    with open_gallery(gallery, key, read_only=True) as opened:
        found = opened.stats()
    if as_json:
        echo_json(schemas.record(found, schemas.GALLERY_STATS), indent=1)
        return
    spread = ", ".join(f"{subjects} with {n}" for n, subjects in found.samples_a_subject.items())
    rows = {
        "subjects": found.subjects,
        "samples": f"{found.samples} ({spread})" if spread else 0,
        "crops": found.crops,
        "embedder": f"{shown(found.model)}, {found.dimension}-d" if found.model else "none yet",
        "cohort": "the embedder's" if found.cohort is None else f"its own, {found.cohort} embeddings",
        "encrypted": "yes" if found.encrypted else "no",
        "database": _size(found.database_bytes),
        "index": _size(found.index_bytes) if found.index_bytes else "in memory",
        "subjects erased": found.erasures,
        "made": shown(found.created),
    }
    for name, value in rows.items():
        click.echo(f"{name:<16} {value}")
    for stored in found.points:
        click.echo(f"{'threshold':<16} {_point_in_words(stored)}")


@gallery.command()
@gallery_options()
@decision_options
@_json
def audit(gallery: str, key: Path | None, fmr: float | None, threshold: float | None, as_json: bool) -> None:
    """Look for people under wrong names.

    One person under two names, two persons under one, and templates that match everybody.
    """
    with open_gallery(gallery, key) as opened:
        card = _card(opened)
        if threshold is None and card is None:
            raise GalleryError(
                "The gallery's embedder is not in this machine's catalogue. Give --threshold, or see mien models list."
            )
        score = threshold
        if score is None and card is not None:
            if card.id != opened.model and opened.operating_point(DEFAULT_FMR if fmr is None else fmr) is None:
                raise GalleryError(
                    f"The gallery's templates are of {shown(opened.model)}, from before {card.name} had a cohort: the "
                    f"thresholds of {card.id} are not theirs. Run mien gallery migrate, or give --threshold."
                )
            score = decision_point(card, fmr=fmr, threshold=None, gallery=opened).threshold
        assert score is not None, "a threshold was given or found"
        findings = opened.audit(score)
        names = {subject.id: subject.name for subject in opened.subjects()}
    if as_json:
        echo_json([schemas.finding(finding, names) for finding in findings], indent=1)
        return
    for finding in findings:
        first, *others = (shown(names[i]) for i in finding.subjects)
        samples = ", ".join(map(str, finding.samples))
        told = {
            "matches_many": f"sample {samples} of {first} matches {finding.count} others: {', '.join(others[:5])}",
            "two_names": f"{first} and {', '.join(others)} may be one person (samples {samples})",
            "two_persons": f"{first} may be two persons: samples {samples} don't match the others",
        }[finding.kind]
        click.echo(f"{finding.kind:<13} score {finding.score:.3f}  {told}")
    click.echo(f"{counted(len(findings), 'finding')} at threshold {score:.3f}", err=True)


@gallery.command()
@click.argument("folder", type=_FOLDER)
@gallery_options()
def export(folder: Path, gallery: str, key: Path | None) -> None:
    """Write the gallery to a new FOLDER.

    Subjects, samples, templates and crops, as JSON Lines and PNG, not encrypted.
    """
    with open_gallery(gallery, key, read_only=True) as opened:
        moved = opened.export(folder)
        if opened.encrypted:
            click.echo("mien: the gallery is encrypted, its export is not. Keep it accordingly.", err=True)
    click.echo(f"{counted(moved.subjects, 'subject')}, {counted(moved.samples, 'sample')} written.", err=True)


@gallery.command("import")
@click.argument("folder", type=_FOLDER)
@gallery_options()
def import_(folder: Path, gallery: str, key: Path | None) -> None:
    """Read a FOLDER that export wrote.

    All of it or, on an error, nothing. What is there already stays; the gallery is made if need be.
    """
    with open_gallery(gallery, key, create=True) as opened:
        moved = opened.import_(folder)
    already = f", {moved.already} there already" if moved.already else ""
    click.echo(
        f"{counted(moved.subjects, 'new subject')}, {counted(moved.samples, 'sample')} added{already}.", err=True
    )


@gallery.command("copy")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="The key of FROM, if it is encrypted.")
@click.option("--to-key", type=click.Path(path_type=Path), metavar="FILE", help="The key of TO, if it is to be.")
@_json
def copy(source: str, target: str, key: Path | None, to_key: Path | None, as_json: bool) -> int:
    """Copy the gallery FROM into the gallery TO: files or postgresql://... addresses, either way.

    TO is made if need be; in a new one subjects and samples keep their ids. Run it again to go on with a copy that was
    broken off. At the end all samples of both are compared. Status 1 if TO lacks one or has it otherwise.
    """
    from mien.gallery.copying import copy_gallery

    with open_gallery(source, key, read_only=True) as one, open_gallery(target, to_key, create=True) as other:
        with progress(one.stats().samples, "samples") as advance:
            done = 0

            def moved(now: int, _: int) -> None:
                nonlocal done
                for _step in range(now - done):
                    advance()
                done = now

            copied = copy_gallery(one, other, progress=moved)
        if one.encrypted and not other.encrypted:
            click.echo(f"mien: {one.path} is encrypted, {other.path} is not. Keep it accordingly.", err=True)
        place = other.path
    if as_json:
        echo_json(schemas.record(copied, schemas.GALLERY_COPY), indent=1)
    else:
        already = f", {copied.already} there already" if copied.already else ""
        click.echo(
            f"{counted(copied.subjects, 'subject')}, {counted(copied.samples, 'sample')}: {copied.added} "
            f"copied{already}; digest {copied.digest[:16]}"
        )
    if copied.differing:
        click.echo(
            f"mien: {counted(copied.differing, 'sample')} of {source if '@' not in source else 'FROM'} are not in "
            f"{place} as they are there: it had them before, or the copy is damaged. See: mien gallery check",
            err=True,
        )
    return 1 if copied.differing else 0


@gallery.command()
@gallery_options()
@analyzer_options
def migrate(gallery: str, key: Path | None, detector: str, embedder: str | None, min_face: float | None) -> None:
    """Embed all stored faces with --embedder.

    When all are done the gallery switches to it; an interrupted migration goes on where it was.

    A gallery made before its embedder had a cohort is brought along from its vectors. Otherwise the aligned crops are
    embedded; pictures are not needed. Where the new embedder is aligned to another template they are
    warped to it; enrolling the pictures again would be a little better. Calibrated thresholds don't carry over.
    """
    analyzer = make_analyzer(detector, embedder, min_face)
    with open_gallery(gallery, key) as opened:
        before = 0 if opened.model == analyzer.card.id else len(opened.points())
        cohort = analyzer.embedder.cohort
        if cohort is not None and opened.model == analyzer.card.plain_id:
            count = opened.renormalise(analyzer.card.id, cohort.normalise)
            click.echo(
                f"{counted(count, 'template')} brought along from the vectors alone; the gallery now has templates of "
                f"{analyzer.card.id}.",
                err=True,
            )
            _say_thresholds(before)
            return
        embed = _embedding(analyzer, _card(opened))
        total = opened.stats().samples
        with progress(total, "samples") as advance:
            done = 0

            def moved(now: int, _: int) -> None:
                nonlocal done
                for _step in range(now - done):
                    advance()
                done = now

            count = opened.migrate(analyzer.card.id, embed, progress=moved)
    click.echo(f"{counted(count, 'sample')} embedded; the gallery now has templates of {analyzer.card.id}.", err=True)
    _say_thresholds(before)


def _say_thresholds(count: int) -> None:
    """Say that thresholds of other templates than the gallery has now no longer decide."""
    if count:
        what = "The threshold" if count == 1 else f"The {count} thresholds"
        told = f"{what} calibrated before no longer {'counts' if count == 1 else 'count'}"
        click.echo(f"mien: {told}. Run: mien calibrate", err=True)


@gallery.command("key")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def make_key(file: Path) -> None:
    """Make a key FILE for encrypted galleries. Who loses it loses them."""
    write_key(file)
    click.echo(f"Made {file}. Keep a copy apart from the gallery: without it nothing can be read again.", err=True)


@click.command()
@gallery_options()
@click.option("--fmr", type=float, multiple=True, metavar="RATE", help=f"Once or more.  [default: {DEFAULT_FMR:g}]")
@click.option(
    "--cohort",
    metavar="DIR|gallery|shipped",
    help="Normalise the scores by these people: of a folder, the gallery's own, or those that come with the embedder.",
)
@analyzer_options
@_json
def calibrate(
    gallery: str,
    key: Path | None,
    fmr: tuple[float, ...],
    cohort: str | None,
    detector: str,
    embedder: str | None,
    min_face: float | None,
    as_json: bool,
) -> None:
    """Derive a gallery's own threshold for a false match rate, and keep it with the gallery.

    Different subjects are compared with each other. Two names for one person spoil this: run mien gallery audit first.
    Verify and identify with this gallery use the threshold from then on.

    With --cohort the scores are normalised anew first. It takes a hundred people or more, best of the looks of those
    who will be searched for: --cohort DIR, with a folder or a picture a person, of nobody who is enrolled; --cohort
    gallery, the enrolled ones themselves; --cohort shipped goes back to the people that come with the embedder, and
    to its measured thresholds unless --fmr asks for the gallery's own.
    """
    with open_gallery(gallery, key) as opened:
        if cohort is None:
            points = [opened.calibrate(rate) for rate in fmr or (DEFAULT_FMR,)]
        else:
            card = _card_named(opened, embedder)
            analyzer = make_analyzer(detector, card.name if embedder is None else embedder, min_face)
            points = _change_cohort(opened, analyzer, cohort, fmr)
    if as_json:
        echo_json(points, indent=1)
        return
    for stored in points:
        click.echo(_point_in_words(stored))
        click.echo(f"       {_support(stored)}")


def _card_named(gallery: Gallery, embedder: str | None) -> Card:
    """Return the card of an embedder that was named, or of the gallery's."""
    card = _card(gallery) if embedder is None else zoo.named(zoo.choice(embedder, "embedder"))
    if card is None:
        raise GalleryError(
            "The gallery's embedder is not in this machine's catalogue. Name it with --embedder, or see "
            "mien models list."
        )
    return card


def _change_cohort(gallery: Gallery, analyzer: Analyzer, cohort: str, fmr: tuple[float, ...]) -> list[StoredPoint]:
    """Normalise the gallery by other people, and say by whom."""
    from mien.gallery import cohorts

    before, card = gallery.model, analyzer.card
    if cohort == "shipped":
        points = cohorts.use_shipped(gallery, card, analyzer.embedder.cohort, fmr=fmr)
        since = "now" if before != card.id else "already"
        click.echo(f"mien: The gallery's scores are {since} those of {card.id}, whose rates hold for it.", err=True)
        return points
    if cohort == "gallery":
        people = cohorts.people_of(gallery, card)
    else:
        folder = Path(cohort)
        with progress(len(search_images([folder]).paths) if folder.is_dir() else None) as advance:
            people = cohorts.people_in(folder, analyzer, advance=advance)
    for note in people.notes:
        click.echo(f"mien: {note}", err=True)
    points = cohorts.use_cohort(gallery, card, people, fmr=fmr or (DEFAULT_FMR,))
    click.echo(f"mien: The gallery's scores are normalised by {len(people.vectors)} people of its own now.", err=True)
    return points


def _support(stored: StoredPoint) -> str:
    """Say what the comparisons can claim, and what the rate means for a search."""
    from mien.metrics.identification import fpir_from_fmr
    from mien.metrics.intervals import rule_of_thirty, rule_of_three

    point = stored.point
    least, firm = rule_of_three(point.num_impostor), rule_of_thirty(point.num_impostor)
    fpir = fpir_from_fmr(point.fmr, max(stored.subjects, 1))
    firmness = "" if point.target_fmr >= firm else f" and to within 30 % none below {firm:.1g}"
    return (
        f"{point.num_impostor:,} comparisons of {stored.subjects} subjects support no rate below "
        f"{least:.1g}{firmness}; of strangers up to {100 * fpir:.2g} % would be given a name"
    )


def _point_in_words(stored: StoredPoint) -> str:
    point = stored.point
    low, high = point.fmr_interval
    told = (
        f"{point.threshold:.4f} at FMR {point.target_fmr:g} (measured {point.fmr:.2g}, 95 %: {low:.1g} to {high:.1g})"
    )
    if not math.isnan(point.fnmr):
        low, high = point.fnmr_interval
        told += f", FNMR {point.fnmr:.2g} (95 %: {low:.1g} to {high:.1g})"
    return f"{told}; {stored.subjects} subjects, {shown(stored.created[:10])}"


def _card(gallery: Gallery) -> Card | None:
    """Return the card of the gallery's embedder; None where this machine does not know it.

    Its thresholds are those of the gallery's templates only where the ids are the same: templates of before it had a
    cohort have other scores.
    """
    from mien.gallery.cohorts import card_of

    return card_of(gallery, zoo.cards("embedder"))


def operating_threshold(gallery: Gallery) -> float:
    """Return the score from which on a mate must be found."""
    points = [stored.point for stored in gallery.points()]
    card = _card(gallery)
    points += card.operating_points if card is not None and card.id == gallery.model else ()
    near = [point.threshold for point in points if point.target_fmr <= 1e-3]
    return min(near, default=_MATE_SCORE)


def _embedding(analyzer: Analyzer, old: Card | None) -> Embed:
    """Return what embeds stored crops, warped to the new template where it differs."""
    from mien.gallery.migration import realigned

    template, side = str(analyzer.card.convention.get("template")), analyzer.embedder.side

    def embed(crops: UInt8[np.ndarray, "batch side side 3"]) -> Float32[np.ndarray, "batch dimension"]:
        if old is not None:
            stored = str(old.convention.get("template"))
            crops = realigned(crops, template=stored, to_template=template, to_side=side)
        return analyzer.embed_crops(crops)

    return embed


def _size(count: int) -> str:

    return zoo.human_size(count)
