"""One record a picture on stdout: for people, as JSON Lines, or as one JSON document."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import click

from mien.cli.common import echo_json, plain

__all__ = ["json_options", "record_writer"]

Record = TypeVar("Record")
Command = TypeVar("Command", bound=Callable[..., object])


def json_options(command: Command) -> Command:
    """Add --json and --jsonl as ``form``."""
    for option in (
        click.option(
            "--jsonl", "form", flag_value="jsonl", help="One JSON object a picture and line, as they are done."
        ),
        click.option("--json", "form", flag_value="json", help="One JSON document; see docs/json.md."),
    ):
        command = option(command)
    return command


@contextmanager
def record_writer(
    form: str | None,
    schema: str,
    *,
    as_json: Callable[[Record], Mapping[str, object]],
    in_words: Callable[[Record], None],
    head: Mapping[str, object] | None = None,
    plural: str = "pictures",
) -> Iterator[Callable[[Record], None]]:
    """Yield what prints one record. A JSON document that was broken off stays open: nobody takes it for all.

    Args:
        form: "json", "jsonl", or None for people.
        schema: Name and version of the records.
        as_json: A record as JSON.
        in_words: Prints a record for people.
        head: What holds for all records, such as the operating point.
        plural: Key of the list of records in a document.
    """
    head = {"schema": schema, **(head or {})}
    if form is None:
        yield in_words
        return
    if form == "jsonl":
        yield lambda record: echo_json({**head, **as_json(record)})
        return
    separator = f'{json.dumps(plain(head), allow_nan=False)[:-1]}, "{plural}": ['

    def write(record: Record) -> None:
        nonlocal separator
        click.echo(separator)
        echo_json(as_json(record), nl=False)
        separator = ","

    yield write
    click.echo("\n]}" if separator == "," else separator + "]}")
