"""Lists as people have them: CSV of any delimiter, with blanks, with a header or without, as any program writes it."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from mien.errors import DataError

__all__ = ["Row", "delimiter_of", "existing_name", "read_list", "text_of"]

_DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a list: the line that it ends on, from 1, and its values by column, blanks around them removed."""

    line: int
    values: dict[str, str]


def text_of(data: bytes, name: str, *, keep_bytes: bool = False) -> str:
    """Return the text of a list.

    Args:
        data: What the file holds.
        name: Of the list, for the message.
        keep_bytes: Let bytes that are no UTF-8 through as surrogates: names of files may hold them.

    Raises:
        DataError: It is no text in UTF-8.
    """
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        if not wide:
            return data.decode("utf-8-sig", "surrogateescape" if keep_bytes else "strict")
    except UnicodeDecodeError:
        pass
    raise DataError(f"{name} is no text in UTF-8. Save it as a CSV in UTF-8.")


def delimiter_of(text: str) -> str:
    """Return what separates the values of a list: what stands most often in its first line outside of quotes."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    outside = "".join(first.split('"')[::2])
    return max(_DELIMITERS, key=lambda sign: (outside.count(sign), -_DELIMITERS.index(sign)))


def existing_name(folder: Path, name: str) -> str:
    """Return a path of a list, `\\` as Windows writes it turned into `/` where there is no such file as it stands."""
    if "\\" in name and not (folder / name).exists():
        return name.replace("\\", "/")
    return name


def read_list(
    text: str,
    name: str,
    *,
    columns: Sequence[str],
    optional: Sequence[str] = (),
    also: Collection[tuple[str, str]] = (),
) -> list[Row]:
    """Read the rows of a list.

    Column names may be in any case. Without a header, the columns are ``columns`` in that order, then ``optional``.

    Args:
        text: The list.
        name: Of the list, for messages.
        columns: What each row has to have.
        optional: What it may have.
        also: Other names of columns, as (other name, name).

    Raises:
        DataError: It is no CSV, lacks columns, has rows of another length.
    """
    needed = " and ".join(columns)
    known = {**dict(also), **{column: column for column in (*columns, *optional)}}
    reader = csv.reader(io.StringIO(text), delimiter=delimiter_of(text), skipinitialspace=True)
    header: list[str] | None = None
    rows: list[Row] = []
    try:
        for raw in reader:
            values = [value.strip() for value in raw]
            if not any(values):
                continue
            if values[len(header or values) :] and not any(values[len(header or values) :]):
                values = values[: len(header or values)]  # spreadsheets add empty columns
            if header is None:
                given = [known.get(value.lower(), value.lower()) for value in values]
                if set(columns) <= set(given):
                    header = given
                    continue
                if set(given) & set(known.values()) or not len(columns) <= len(values) <= len(columns) + len(optional):
                    raise DataError(
                        f"{name} needs the columns {' and '.join(columns)}, got: {', '.join(values)[:200]}."
                    )
                header = [*columns, *optional][: len(values)]
            if len(values) < len(header):
                values += [""] * (len(header) - len(values))  # a row cut short lacks its last values
            if len(values) > len(header):
                raise DataError(
                    f"{name} line {reader.line_num}: expected {len(header)} values ({', '.join(header)}), got "
                    f"{len(values)}. Put quotes around a value that holds a comma."
                )
            rows.append(Row(reader.line_num, dict(zip(header, values, strict=True))))
    except csv.Error as error:
        raise DataError(f"{name} is no CSV that can be read: {error}.") from None
    if header is None:
        raise DataError(f"{name} needs the columns {needed}, and is empty.")
    return rows
