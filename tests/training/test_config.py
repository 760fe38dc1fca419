import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from mien.errors import MienError, UsageError
from mien.training import gan, vae
from mien.training.config import TrainingConfig, as_dict, load_config


@dataclass(frozen=True)
class Network:
    widths: tuple[int, ...] = (32, 64)
    drop: float = 0.2
    kind: Literal["residual", "plain"] = "residual"


@dataclass(frozen=True, kw_only=True)
class Story(TrainingConfig):
    data: Path
    network: Network = Network()
    flip: bool = True
    shares: tuple[float, float] = (0.9, 0.1)
    weights: Mapping[str, float] = field(default_factory=dict)
    teachers: tuple[Path, ...] = ()
    note: str | None = None
    small: Network = field(default_factory=lambda: Network(widths=(4,)))


NEEDED = {"out": Path("run"), "data": Path("faces")}


def load(*sets, file=None, **given):
    return load_config(Story, file, sets, NEEDED | given)


def test_defaults_come_from_the_dataclass():
    assert load() == Story(out=Path("run"), data=Path("faces"))


@pytest.mark.parametrize(
    "text, key, value",
    [
        ("seed=3", "seed", 3),
        ("images=2e6", "images", 2_000_000),
        ("images=10_000", "images", 10_000),
        ("seconds=540", "seconds", 540.0),
        ("seconds=none", "seconds", None),
        ("flip=no", "flip", False),
        ("note=a=b", "note", "a=b"),
        ("note=none", "note", None),
        ("shares=0.8,0.2", "shares", (0.8, 0.2)),
        ("shares=[0.8, 0.2]", "shares", (0.8, 0.2)),
        ("teachers=a,b", "teachers", (Path("a"), Path("b"))),
        ("teachers=", "teachers", ()),
        ('weights={"ferplus": 1}', "weights", {"ferplus": 1.0}),
        ("weights.fer2013=0.5", "weights", {"fer2013": 0.5}),
        ("network.widths=16", "network", Network(widths=(16,))),
        ("small.drop=0", "small", Network(widths=(4,), drop=0.0)),
        ("network.kind=plain", "network", Network(kind="plain")),
    ],
)
def test_a_setting_is_read_as_the_type_of_its_field(text, key, value):
    found = getattr(load(text), key)

    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "text, message",
    [
        ("sed=3", r"There is no setting 'sed'. Did you mean 'seed'\? Known are "),
        ("network.dorp=0", r"no setting 'network.dorp'. Did you mean 'network.drop'\?"),
        ("zzz=0", r"There is no setting 'zzz'. Known are "),
        ("seed=1.5", "Setting 'seed' is a whole number, got '1.5'"),
        ("seed=inf", "Setting 'seed' is a whole number"),
        ("network.drop=nan", "Setting 'network.drop' is a number, got 'nan'"),
        ("network.drop=", "Setting 'network.drop' is a number, got ''"),
        ("network=big", "Setting 'network' is a group; set one of network.widths"),
        ("network.widths=1,x", r"Setting 'network.widths\[1\]' is a whole number, got 'x'"),
        ("network.kind=deep", "one of residual, plain, got 'deep'"),
        ("precision=fp16", "one of fp32, bf16"),
        ("shares=1", "Setting 'shares' is 2 values: a number, a number"),
        ("weights=3", "Setting 'weights' is a table of names with values"),
        ("weights={", "Setting 'weights' is a table"),
        ("flip=maybe", "Setting 'flip' is true or false, got 'maybe'"),
        ("data=", "Setting 'data' is a path, got ''"),
        ("seed", "A setting is written key=value"),
        ("=3", "A setting is written key=value"),
        ("batch_size=0", "Setting 'batch_size' is at least 1"),
        ("seed=-1", "Setting 'seed' is 0 or more"),
        ("seconds=0", "Setting 'seconds' is above 0"),
        ("accumulate=3", "128 images cannot be cut into 3 equal parts"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(text, message):
    given = {key: value for key, value in NEEDED.items() if not text.startswith(key)}

    with pytest.raises(UsageError, match=message) as caught:
        load_config(Story, None, [text], given)

    assert "\n" not in str(caught.value)


def test_a_missing_setting_is_named():
    with pytest.raises(UsageError, match="Setting 'data' is missing: expected a path"):
        load_config(Story, None, ["out=run"])


def test_options_win_over_settings_and_settings_over_the_file(tmp_path):
    file = tmp_path / "story.toml"
    file.write_text("seed = 1\nimages = 100\nbatch_size = 4\n[network]\ndrop = 0.5\nwidths = [8, 8]\n")

    config = load("seed=2", "images=200", "network.drop=0.1", file=file, seed=3, precision=None)

    assert (config.seed, config.images, config.batch_size, config.precision) == (3, 200, 4, "fp32")
    assert config.network == Network(widths=(8, 8), drop=0.1)


def test_a_config_written_as_json_reads_back_equal(tmp_path):
    config = load("network.widths=8", "weights.a=2", "teachers=a,b", "seconds=3")
    file = tmp_path / "config.json"
    file.write_text(json.dumps(as_dict(config)))

    assert load_config(Story, file) == config


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.toml", "seed = ", "are not valid TOML or JSON"),
        ("a.json", "[1]", "hold a list; expected keys with values"),
        ("a.toml", "seed = true", "Setting 'seed' is a whole number, got true"),
        ("a.toml", "flip = 1", "Setting 'flip' is true or false, got 1"),
        ("a.toml", "note = 3", "Setting 'note' is text or none, got 3|Setting 'note' is text, got 3"),
        ("a.toml", 'network = "x"', "Setting 'network' is a group"),
        ("a.toml", "[seed]\nx = 1", "Setting 'seed' is a whole number, got {\"x\": 1}"),
        ("a.toml", "started = 2020-01-01", "There is no setting 'started'"),
        ("a.toml", "note = 2020-01-01", "Setting 'note' is text, got"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, name, text, message):
    file = tmp_path / name
    file.write_text(text)

    with pytest.raises(UsageError, match=message):
        load(file=file)


def test_a_file_that_is_not_there_is_a_clear_line(tmp_path):
    with pytest.raises(MienError, match=r"Cannot read the settings 'no.toml': No such file"):
        load(file=tmp_path / "no.toml")


@dataclass(frozen=True, kw_only=True)
class Inner:
    RENAMED: ClassVar = {"colour": "shade"}

    shade: str = "red"


@dataclass(frozen=True, kw_only=True)
class Renamed:
    RENAMED: ClassVar = {"lr": "learning_rate", "flip": ("mirror", lambda flip: 0.5 if flip else 0.0)}

    learning_rate: float = 0.1
    mirror: float = 0.5
    inner: Inner = field(default_factory=Inner)


def test_settings_are_read_under_their_older_names_too_and_the_later_source_wins(tmp_path):
    file = tmp_path / "config.json"
    file.write_text('{"lr": 0.3, "flip": false, "inner": {"colour": "blue"}}')

    assert load_config(Renamed, file) == Renamed(learning_rate=0.3, mirror=0.0, inner=Inner(shade="blue"))
    assert load_config(Renamed, file, ["learning_rate=0.4", "inner.colour=green"]).inner.shade == "green"
    assert load_config(Renamed, file, ["lr=0.5"], defaults={"learning_rate": 0.7}).learning_rate == 0.5


@pytest.mark.parametrize(
    ("template", "given", "side", "colour"),
    [
        (None, {}, 64, True),
        ("face-64", {}, 64, True),
        ("fer-48", {}, 48, False),
        ("fer-48", {"side": 32, "colour": True}, 32, True),
        ("arcface-112", {}, 64, True),
    ],
)
def test_generators_draw_as_large_and_in_such_colours_as_their_template(template, given, side, colour):
    common = {"data": ["x"], "out": "x", "template": template}
    drawn = gan.configured("default", None, [], {**common, **given})
    assert (drawn.template, drawn.side, drawn.colour) == (template or "face-64", side, colour)
    net = vae.configured(None, [], {**common, **{f"net.{key}": value for key, value in given.items()}}).net
    assert (net.side, net.colour) == (side, colour)


def test_a_template_in_a_file_or_a_setting_counts_as_well(tmp_path):
    (tmp_path / "a.toml").write_text('template = "fer-48"')
    given = {"data": ["x"], "out": "x"}
    assert gan.configured("default", tmp_path / "a.toml", [], given).side == 48
    assert gan.configured("default", None, ["template=fer-48"], given).side == 48
    assert gan.configured("default", tmp_path / "a.toml", ["side=32"], given).side == 32
