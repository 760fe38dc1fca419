"""Rows as an HTML table or a pandas table, and pictures with boxes, for notebooks.

The HTML stands by itself: text is escaped, pictures are inline PNG, nothing is fetched. It knows rows and arrays only;
the records say what is in their rows.
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from mien.errors import ImageError, UsageError

if TYPE_CHECKING:
    import pandas
    from PIL.Image import Image

__all__ = ["boxed_picture", "html_of", "inline_picture", "table_of"]

Row = Mapping[str, object]
Corners = tuple[float, float, float, float]

_SHOWN_ROWS = 50
_SHOWN_SIDE = 480  # px; of a picture in a notebook, which keeps it in its file
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")  # formats that Pillow reads by itself
_BOX_COLOUR = "#2dd4bf"


def html_of(rows: Sequence[Row], *, picture: str = "", note: str = "") -> str:
    """Return rows as an HTML table, below a picture if there is one.

    Args:
        rows: With the same columns; a column without any value is left out.
        picture: As `inline_picture` returns it.
        note: A line below the table.
    """
    columns = [name for name in (rows[0] if rows else ()) if any(row[name] is not None for row in rows)]
    parts = [picture]
    if columns:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(_in_words(row[name]))}</td>' for name in columns)}</tr>"
            for row in rows[:_SHOWN_ROWS]
        )
        parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    if len(rows) > _SHOWN_ROWS:
        parts.append(f"<p>and {len(rows) - _SHOWN_ROWS:,} more</p>")
    if note:
        parts.append(f"<p>{html.escape(note)}</p>")
    return f"<div>{''.join(parts)}</div>"


def inline_picture(image: UInt8[np.ndarray, "height width 3"], alt: str) -> str:
    """Return an RGB picture as an HTML image that holds its own pixels."""
    from PIL import Image  # loaded only where a picture is shown

    return _inline(Image.fromarray(image), alt)


def boxed_picture(path: str, width: int, height: int, boxes: Sequence[Corners]) -> str:
    """Return a picture file, reduced and with numbered boxes, as an HTML image.

    Args:
        path: The file.
        width: px of the upright picture when its faces were found.
        height: px of the upright picture when its faces were found.
        boxes: (left, top, right, bottom) in px of that picture.

    Raises:
        ImageError: The file cannot be read any more, or is another picture now.
    """
    from PIL import Image, ImageDraw, ImageFont, ImageOps

    try:
        with Image.open(path, formats=_FORMATS) as file:
            # The size is known before a pixel is decoded: nothing larger than what was analysed is read here.
            if sorted(file.size) != sorted((width, height)):
                raise ImageError("The file is not the picture that was analysed.")
            file.draft("RGB", (_SHOWN_SIDE, _SHOWN_SIDE))
            upright = ImageOps.exif_transpose(file).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError("The file cannot be read.") from error
    if (upright.width > upright.height) != (width > height) and width != height:
        raise ImageError("The file is not the picture that was analysed.")
    upright.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
    pen, font, scale = ImageDraw.Draw(upright), ImageFont.load_default(14), upright.width / width
    for number, box in enumerate(boxes, start=1):
        left, top, right, bottom = (value * scale for value in box)
        pen.rectangle((left, top, right, bottom), outline=_BOX_COLOUR, width=2)
        pen.rectangle((left, top, left + 4 + font.getlength(str(number)) + 4, top + 18), fill=_BOX_COLOUR)
        pen.text((left + 4, top + 1), str(number), fill="black", font=font)
    return _inline(upright, f"{len(boxes)} faces")


def table_of(rows: Sequence[Row]) -> pandas.DataFrame:
    """Return rows as a pandas table.

    Raises:
        UsageError: pandas is not installed.
    """
    try:
        import pandas  # only here: mien does not depend on it
    except ImportError as error:
        raise UsageError("to_pandas needs pandas. Install it with: pip install pandas; or use to_records().") from error
    return pandas.DataFrame([dict(row) for row in rows])


def _inline(image: Image, alt: str) -> str:
    file = io.BytesIO()
    image.save(file, format="PNG")
    pixels = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{pixels}">'


def _in_words(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
