"""docs/cli.md and docs/json.md against the commands themselves."""

import json
import re
import shlex
from dataclasses import fields
from pathlib import Path

import click
import pytest

from mien.cli.root import COMMANDS, cli
from mien.types import OperatingPoint, Reason

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = re.findall(r"^    (mien .*?)(?: +#.*| [<>|].*)?$", (DOCS / "cli.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("line", [line for line in EXAMPLES if "COMMAND" not in line])
def test_every_example_is_a_command_line_that_parses(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("lfw", "enrolled", "probes"):  # what must be there
        (tmp_path / folder).mkdir()
    for name in ("pairs.txt", "people.csv", "secret.key"):
        (tmp_path / name).write_text("")

    context = cli.make_context("mien", shlex.split(line)[1:])
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)

    assert context.args == []


def test_every_command_has_an_example():
    assert {shlex.split(line)[1] for line in EXAMPLES} >= set(COMMANDS)


def test_the_examples_in_json_md_are_json_with_the_keys_that_are_printed():
    blocks = re.findall(r"```json\n(.*?)```", (DOCS / "json.md").read_text(), re.DOTALL)
    face, point = json.loads(blocks[0]), json.loads(blocks[1])

    assert set(face) == {"box", "landmarks", "score", "quality", "expression", "embedding"}
    assert set(point) == {field.name for field in fields(OperatingPoint)}
    assert all(json.loads(line)["schema"] == "mien/analysis/1" for line in blocks[2].splitlines())


def test_json_md_knows_every_reason_and_every_schema():
    text = (DOCS / "json.md").read_text()
    sources = (Path(__file__).parents[2] / "src").rglob("*.py")
    schemas = {name for path in sources for name in re.findall(r'"(mien/[a-z-]+/\d+)"', path.read_text())}

    assert len(schemas) >= 8 and [name for name in schemas if f"`{name}`" not in text] == []
    assert [reason for reason in Reason if reason != Reason.UNREADABLE and f"`{reason}`" not in text] == []
