"""Settings of a training: frozen dataclasses, read from TOML or JSON and from `key=value`, checked by their types."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import tomllib
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mien.alignment import TEMPLATES
from mien.errors import UsageError

__all__ = [
    "DRAWN",
    "PictureConfig",
    "TrainingConfig",
    "as_dict",
    "current_names",
    "follow_template",
    "load_config",
    "merged",
    "with_defaults",
]

Config = TypeVar("Config")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Settings of every training; a story adds its own fields and may change the defaults.

    Attributes:
        out: The run folder.
        seed: Of everything random, together with the position in the training.
        images: Length of the training, in images seen.
        end_at: Images after which the training ends, on the schedule of `images`; None trains to its end.
        seconds: Stop, saved, after so many seconds of wall clock; None trains to the end.
        batch_size: Images a step, over all processes together.
        accumulate: Parts that a step is cut into, to save memory.
        precision: Of the convolutions and products under autocast; weights stay fp32.
        device: auto, cpu, cuda, cuda:1, mps.
        report_every: Images between two reports: metrics, log and checkpoint.
    """

    out: Path
    seed: int = 0
    images: int = 1_000_000
    end_at: int | None = None
    seconds: float | None = None
    batch_size: int = 128
    accumulate: int = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "auto"
    report_every: int = 50_000

    def __post_init__(self) -> None:
        for name in ("images", "batch_size", "accumulate", "report_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"Setting '{name}' is at least 1, got {getattr(self, name)}.")
        if self.seed < 0:
            raise UsageError(f"Setting 'seed' is 0 or more, got {self.seed}.")
        if self.end_at is not None and self.end_at < 1:
            raise UsageError(f"Setting 'end_at' is at least 1, got {self.end_at}. Leave it out to train to the end.")
        if self.seconds is not None and self.seconds <= 0:
            raise UsageError(f"Setting 'seconds' is above 0, got {self.seconds:g}. Leave it out to train to the end.")
        if self.batch_size % self.accumulate:
            raise UsageError(
                f"Setting 'accumulate' divides 'batch_size', but {self.batch_size} images cannot be cut into "
                f"{self.accumulate} equal parts."
            )

    @property
    def end(self) -> int:
        """Images after which all is learned."""
        return self.images if self.end_at is None else min(self.end_at, self.images)


DRAWN: dict[str, tuple[int, bool]] = {"face-64": (64, True), "fer-48": (48, False)}
"""What generators draw by template: side in px, and whether in colour."""


@dataclass(frozen=True, kw_only=True)
class PictureConfig(TrainingConfig):
    """Settings of a training on pictures without an order: where they are, and how faces are cut out of them.

    Attributes:
        data: Folders, zips or lists of pictures, learned from together; see `mien data inspect`.
        kind: Layout of the data; auto finds out.
        labels: Label set that class numbers refer to, such as fer2013.
        template: How faces are cut.
        keep_without_face: Take pictures in which no face is found as a whole, instead of leaving them out.
        cache: Folder that keeps the crops; default is in the run folder. Runs on the same data may share one.
    """

    data: tuple[Path, ...]
    kind: str = "auto"
    labels: str | None = None
    template: str = "face-64"
    keep_without_face: bool = False
    cache: Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.data:
            raise UsageError("Setting 'data' names at least one folder, zip or list of pictures.")
        if self.template not in TEMPLATES:
            raise UsageError(f"There is no template '{self.template}'. Choose from {', '.join(TEMPLATES)}.")


def follow_template(
    cls: type[PictureConfig], file: Path | None, sets: Sequence[str], given: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return side and colour as the template that is asked for has them: defaults for `load_config`.

    Args:
        cls: Of the config.
        file: As for `load_config`.
        sets: Likewise.
        given: Likewise.
    """
    template = merged(cls, file, sets, given).get("template", cls.template)
    side, colour = DRAWN.get(str(template), DRAWN[cls.template])
    return {"side": side, "colour": colour}


def load_config(
    cls: type[Config],
    file: Path | None = None,
    sets: Sequence[str] = (),
    given: Mapping[str, Any] | None = None,
    *,
    defaults: Mapping[str, Any] | None = None,
) -> Config:
    """Make a config from its defaults, then a file, then `key=value` settings, then options; the later wins.

    Args:
        cls: A dataclass; fields may be dataclasses, numbers, text, paths, Literal, unions with None, tuples and
            mappings with text keys.
        file: TOML, or JSON such as a run's own `config.json`.
        sets: Texts such as `network.drop=0.3`; a tuple is separated by commas, None is written `none`.
        given: Values of options by dotted key; None says that an option was not given.
        defaults: Settings, nested as in a file, that stand in for the class's own.

    A dataclass may name in `RENAMED` what its settings were called before: both names are read.

    Raises:
        UsageError: A key is unknown (the nearest one is named), a value is of the wrong type or out of range, a field
            without a default is missing, or the file cannot be read.
    """
    return _build(cls, merged(cls, file, sets, given, defaults), "")


def as_dict(config: Any) -> dict[str, Any]:
    """Return a config as what JSON knows; `load_config` reads it back to an equal one."""
    return {field.name: _plain(getattr(config, field.name)) for field in fields(config)}


def with_defaults(cls: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a file, under today's names, with the defaults of those that it lacks.

    Args:
        cls: The dataclass.
        given: Settings, nested as in a file.
    """
    tree = {
        field.name: _plain(_default(field))
        for field in fields(cls)
        if field.default is not MISSING or field.default_factory is not MISSING
    }
    _merge(tree, current_names(cls, given))
    return tree


def current_names(cls: type, tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings under today's names: those that a dataclass has renamed have the older ones in old files."""
    renamed: Mapping[str, str | tuple[str, Callable[[Any], Any]]] = getattr(cls, "RENAMED", {})
    hints = get_type_hints(cls)
    current: dict[str, Any] = {}
    for old, value in tree.items():
        key = renamed.get(old, old)
        if isinstance(key, tuple):
            key, convert = key
            value = convert(value)
        kind = hints.get(key)
        nested = isinstance(kind, type) and is_dataclass(kind) and isinstance(value, Mapping)
        current[key] = current_names(kind, value) if nested else value  # type: ignore[arg-type]
    return current


def merged(
    cls: type,
    file: Path | None,
    sets: Sequence[str],
    given: Mapping[str, Any] | None,
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the settings of all sources as one tree, under today's names; the later source wins."""
    tree: dict[str, Any] = {}
    _merge(tree, defaults or {})
    if file is not None:
        _merge(tree, current_names(cls, _read(file)))
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"A setting is written key=value, such as seed=1, got '{text}'.")
        _merge(tree, current_names(cls, _nest(key.strip(), _Text(value.strip()))))
    for key, value in (given or {}).items():
        if value is not None:
            _merge(tree, current_names(cls, _nest(key, value)))
    return tree


class _Text(str):
    """A value from the command line, whose type its field decides."""

    __slots__ = ()


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return as_dict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _read(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
        tree = json.loads(text) if file.suffix.lower() == ".json" else tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"Cannot read the settings '{file.name}': {error.strerror or error}.") from error
    except ValueError as error:  # of JSON, TOML and UTF-8 alike
        raise UsageError(f"The settings '{file.name}' are not valid TOML or JSON: {error}.") from error
    if not isinstance(tree, dict):
        raise UsageError(f"The settings '{file.name}' hold a {type(tree).__name__}; expected keys with values.")
    return tree


def _nest(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def _merge(tree: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict):
            _merge(tree[key], value)
        else:
            tree[key] = dict(value) if isinstance(value, Mapping) else value


def _build(cls: type[Config], tree: Mapping[str, Any], prefix: str) -> Config:
    assert is_dataclass(cls)
    hints = get_type_hints(cls)
    known = {field.name: field for field in fields(cls) if field.init}
    for key in tree:
        if key not in known:
            raise UsageError(_unknown(prefix + key, [prefix + name for name in known]))
    values: dict[str, Any] = {}
    for name, field in known.items():
        if name in tree:
            values[name] = _typed(tree[name], hints[name], prefix + name, _default(field))
        elif field.default is MISSING and field.default_factory is MISSING:
            raise UsageError(f"Setting '{prefix}{name}' is missing: expected {_describe(hints[name])}.")
    return cls(**values)


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return None if field.default is MISSING else field.default


def _unknown(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"There is no setting '{key}'.{hint} Known are {', '.join(known)}."


def _typed(value: Any, hint: Any, key: str, default: Any = None) -> Any:
    """Return ``value`` as the type that ``hint`` names, or raise a UsageError that names ``key``."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        kinds = [kind for kind in args if kind is not type(None)]
        if len(kinds) < len(args) and (value is None or (isinstance(value, _Text) and value.lower() == "none")):
            return None
        assert len(kinds) == 1, f"setting {key}: a union is of one type and None"
        return _typed(value, kinds[0], key, default)
    if is_dataclass(hint):
        if isinstance(value, Mapping):
            # Where the field has a default record, what is not given stays as it is there.
            base = {} if default is None else as_dict(default)
            merged = dict(base)
            _merge(merged, value)
            return _build(hint, merged, key + ".")  # type: ignore[arg-type]
        if isinstance(value, hint):  # type: ignore[arg-type]
            return value
        names = ", ".join(f"{key}.{field.name}" for field in fields(hint))
        raise UsageError(f"Setting '{key}' is a group; set one of {names}.")
    if origin is Literal:
        found = next((choice for choice in args if str(choice) == str(value)), None)
        if found is None:
            raise _wrong(key, hint, value)
        return found
    if origin is tuple:
        return _tuple(value, args, key, hint)
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        if isinstance(value, _Text):
            value = _decoded(value, key, hint)
        if not isinstance(value, Mapping):
            raise _wrong(key, hint, value)
        return {str(name): _typed(item, args[1], f"{key}.{name}") for name, item in value.items()}
    return _scalar(value, hint, key)


def _tuple(value: Any, args: tuple[Any, ...], key: str, hint: Any) -> tuple[Any, ...]:
    if isinstance(value, _Text):
        text = value
        if text.startswith("["):
            value = _decoded(text, key, hint)
        else:
            value = [_Text(part.strip()) for part in text.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        raise _wrong(key, hint, value)
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_typed(item, args[0], f"{key}[{place}]") for place, item in enumerate(value))
    if len(value) != len(args):
        raise _wrong(key, hint, value)
    return tuple(
        _typed(item, kind, f"{key}[{place}]") for place, (item, kind) in enumerate(zip(value, args, strict=True))
    )


def _decoded(text: str, key: str, hint: Any) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise _wrong(key, hint, text) from None


def _scalar(value: Any, hint: Any, key: str) -> Any:
    text = isinstance(value, _Text)
    if hint is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text and value.lower() in words:
            return words[value.lower()]
        if isinstance(value, bool):
            return value
    elif hint in (int, float):
        number = _number(value) if text else value
        if isinstance(number, int | float) and not isinstance(number, bool) and not math.isnan(number):
            if hint is float:
                return float(number)
            # 2e6 is a number of images as good as 2000000.
            if number == number // 1 and not math.isinf(number):
                return int(number)
    elif hint is Path:
        if isinstance(value, str | Path) and str(value):
            return Path(value)
    elif hint is str:
        if isinstance(value, str):
            return str(value)
    else:
        raise AssertionError(f"setting {key} is of a type that files cannot hold: {hint}")
    raise _wrong(key, hint, value)


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def _wrong(key: str, hint: Any, value: Any) -> UsageError:
    came = f"'{value}'" if isinstance(value, str) else json.dumps(_plain(value), default=str)
    return UsageError(f"Setting '{key}' is {_describe(hint)}, got {came}.")


def _describe(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join("none" if kind is type(None) else _describe(kind) for kind in args)
    if origin is Literal:
        return "one of " + ", ".join(str(choice) for choice in args)
    if origin is tuple:
        if len(args) == 2 and args[1] is Ellipsis:
            return f"a list, each {_describe(args[0])}"
        return f"{len(args)} values: " + ", ".join(_describe(kind) for kind in args)
    if dataclasses.is_dataclass(hint):
        return "a group of settings"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    return names.get(hint, "a table of names with values")
