"""Bytes to upright RGB uint8, and back. Everything that can be wrong with a picture is refused here, in one line.

Pillow reads headers and pixels; only the formats in `FORMATS` are tried, so no picture starts another program.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import importlib
import io
import logging
import os
import re
import stat
import struct
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms

from mien.errors import ImageError

__all__ = [
    "EXTENSIONS",
    "FORMATS",
    "Decoded",
    "Limits",
    "Source",
    "decode",
    "digest",
    "encode_image",
    "find_images",
    "load_image",
    "printable",
    "save_image",
    "write_whole",
]

RGB = UInt8[np.ndarray, "height width 3"]
Source = str | Path | bytes | BinaryIO | np.ndarray | Image.Image
"""What a picture may come from. An array is RGB uint8 (height, width, 3) or grey uint8 (height, width)."""

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF")
"""What is read, by Pillow's names. HEIF needs pillow-heif. A JPEG may hold several pictures (MPO)."""

EXTENSIONS = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "webp", "bmp", "dib", "gif", "tif", "tiff"),
        *("ppm", "pgm", "pbm", "pnm", "jp2", "j2k", "avif", "heic", "heif"),
    )
)
"""File names that a folder is searched for, lower case."""

# What Pillow's readers let through on broken data, beyond OSError; each was seen in its code or on a damaged file.
_BROKEN: tuple[type[Exception], ...] = (
    *(OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, OverflowError),
    *(struct.error, zlib.error),
)
# First bytes, format, module of Pillow that reads it: by these, one reader is loaded and no other ever tries.
_MAGIC = (
    (rb"\xff\xd8\xff", "JPEG", "JpegImagePlugin"),
    (rb"\x89PNG\r\n\x1a\n", "PNG", "PngImagePlugin"),
    (rb"RIFF....WEBP", "WEBP", "WebPImagePlugin"),
    (rb"II[*+]\x00|MM\x00[*+]", "TIFF", "TiffImagePlugin"),
    (rb"BM", "BMP", "BmpImagePlugin"),
    (rb"GIF8[79]a", "GIF", "GifImagePlugin"),
    (rb"P[1-6]\s", "PPM", "PpmImagePlugin"),
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "JPEG2000", "Jpeg2KImagePlugin"),
    (rb"....ftypavi[fs]", "AVIF", "AvifImagePlugin"),
    (rb"....ftyp(?:hei[cxms]|hev[cx]|mif1|msf1)", "HEIF", ""),
)
_ORIENTATION = 0x0112


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a picture may be. Headers are checked against it before any pixel is decoded.

    Decoding holds about seven bytes a pixel for a moment, so the default bounds one picture at 1.3 GB; a service
    that reads strangers' uploads should lower ``max_pixels``.

    Attributes:
        max_side: Longest side in px.
        max_pixels: Width times height. Pillow's own guard refuses more than 178 Mpx in any case.
        max_bytes: Size of the file.
        max_pixels_per_byte: Above ``free_pixels`` a picture must not be packed tighter than this: no camera does,
            decompression bombs do.
        free_pixels: Up to here any packing is allowed: blank pictures are legitimate and do no harm.
    """

    max_side: int = 30_000
    max_pixels: int = 178_000_000
    max_bytes: int = 512 * 1024 * 1024
    max_pixels_per_byte: float = 250.0
    free_pixels: int = 25_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A decoded picture, perhaps at reduced size.

    Attributes:
        image: RGB uint8, upright.
        scale: Its px per px of the full picture: 1, 1/2, 1/4 or 1/8.
        width: Of the full picture, upright, px.
        height: Of the full picture, upright, px.
    """

    image: RGB
    scale: float
    width: int
    height: int


_DEFAULT_LIMITS = Limits()


def load_image(source: Source, *, limits: Limits = _DEFAULT_LIMITS) -> RGB:
    """Read a picture as upright RGB.

    Transparency is laid on white, 16 bits are scaled to 8, CMYK and colour profiles become sRGB, EXIF rotation is
    applied, of an animation the first frame is taken.

    Args:
        source: A path, encoded bytes, an open binary file, a Pillow image, or an array (RGB or grey uint8).
        limits: Sizes beyond which the picture is refused before it is decoded.

    Returns:
        RGB uint8, shape (height, width, 3). An array that already is one comes back as it is, not copied.

    Raises:
        ImageError: It does not exist, is no picture, is damaged or cut short, or exceeds the limits.
    """
    return decode(source, limits=limits).image


def decode(source: Source, *, at_least: int | None = None, limits: Limits = _DEFAULT_LIMITS) -> Decoded:
    """Read a picture as `load_image` does, a large JPEG at reduced size where that is enough.

    Args:
        source: As for `load_image`.
        at_least: Long side in px that the caller needs. A JPEG may come back at 1/2, 1/4 or 1/8, which takes a
            quarter of the time and less, as long as its long side is not below this. None: full size.
        limits: As for `load_image`.
    """
    if isinstance(source, np.ndarray):
        image = _from_array(source)
        return Decoded(image, 1.0, image.shape[1], image.shape[0])
    _quieten_pillow()
    if isinstance(source, Image.Image):
        with _refusing("The picture"):
            _check_size(source, None, "The picture", limits)
            return _decoded(source, "The picture", None)
    if isinstance(source, bytes):
        return _decode_file(io.BytesIO(source), len(source), "The picture", at_least, limits)
    if isinstance(source, str | Path):
        name = f"'{printable(source)}'"
        with _open(source, name) as file:
            return _decode_file(file, os.fstat(file.fileno()).st_size, name, at_least, limits)
    if not hasattr(source, "read"):
        raise ImageError(f"A picture is a path, bytes, a binary file, an array or a Pillow image, not {type(source)}.")
    data = source.read(limits.max_bytes + 1)
    if not isinstance(data, bytes):
        raise ImageError("The picture's file is open in text mode; open it in binary mode ('rb').")
    return _decode_file(io.BytesIO(data), len(data), "The picture", at_least, limits)


def digest(image: RGB) -> str:
    """Return SHA-256 (hex) over shape and pixels: the same for one picture under any name or lossless container."""
    hasher = hashlib.sha256(f"{image.shape}".encode())
    hasher.update(np.ascontiguousarray(image).data)
    return hasher.hexdigest()


def printable(path: str | Path) -> str:
    """Return a path for one line of a message: undecodable bytes and control characters escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def find_images(args: Sequence[str | Path]) -> list[Path]:
    """Expand files, folders and glob patterns to pictures.

    A file that is named stays, whatever its name says. Of a folder (with its sub-folders) and of a pattern those
    with a known extension are taken, in sorted order; hidden ones are left out. What does not exist or holds no
    picture stays in the list when there are others, so that `load_image` refuses it alone and the batch goes on.

    Raises:
        ImageError: None of the arguments leads to a picture.
    """
    found: dict[Path, None] = {}
    failures: list[ImageError] = []
    for arg in args:
        path = Path(arg)
        if path.is_dir():
            inside = list(_walk(path))
            trouble = None if inside else ImageError(_no_pictures(f"'{printable(path)}'"))
        elif not os.path.lexists(path) and glob.has_magic(str(arg)):
            hits = [Path(hit) for hit in sorted(glob.glob(str(arg), recursive=True))]  # noqa: PTH207 - patterns may be absolute
            inside = [p for h in hits for p in (_walk(h) if h.is_dir() else [h]) if p.suffix.lower() in EXTENSIONS]
            trouble = None if inside else ImageError(f"No picture matches '{printable(path)}'. Check the pattern.")
        else:
            inside = [path]
            trouble = None if os.path.lexists(path) else ImageError(_missing(f"'{printable(path)}'"))
        if trouble:
            failures.append(trouble)
        found.update(dict.fromkeys(inside or [path]))
    if failures and len(failures) == len(args):
        raise failures[0]
    if not args:
        raise ImageError("No pictures were named. Name files, folders or patterns.")
    return list(found)


def encode_image(image: RGB, *, suffix: str = ".jpg", quality: int = 92) -> bytes:
    """Encode as JPEG, PNG or WebP, chosen by ``suffix``.

    Args:
        image: RGB uint8.
        suffix: File name extension with its dot.
        quality: Of JPEG and WebP, 1 to 100.

    Raises:
        ImageError: The extension is none of these.
    """
    options = {
        ".jpg": [cv2.IMWRITE_JPEG_QUALITY, quality],
        ".jpeg": [cv2.IMWRITE_JPEG_QUALITY, quality],
        ".png": [cv2.IMWRITE_PNG_COMPRESSION, 6],
        ".webp": [cv2.IMWRITE_WEBP_QUALITY, quality],
    }
    suffix = suffix.lower()
    if suffix not in options:
        raise ImageError(f"Pictures are written as .jpg, .png or .webp, not as '{suffix}'.")
    done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options[suffix])
    assert done, "OpenCV encodes every RGB uint8 picture"
    return bytes(data)


def save_image(path: str | Path, image: RGB, *, quality: int = 92) -> None:
    """Write JPEG, PNG or WebP by the file name, all of it or nothing.

    Raises:
        ImageError: The folder does not exist or cannot be written, or the disk is full.
    """
    path = Path(path)
    data = encode_image(image, suffix=path.suffix, quality=quality)
    try:
        write_whole(path, data)
    except OSError as error:
        raise ImageError(f"Cannot write '{printable(path)}': {error.strerror or error}.") from error


def write_whole(path: Path, data: bytes, *, sync: bool = False) -> None:
    """Write a file, all of it or nothing.

    Args:
        path: The file; one of that name is replaced.
        data: What it shall hold.
        sync: Wait until the disk has it, so that not even a power cut takes both the old file and the new.

    Raises:
        OSError: The folder does not exist or cannot be written, or the disk is full.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".mien-", suffix=path.suffix)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        # mkstemp makes files that only their owner may read; ours follow the umask like any other file.
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def _from_array(array: np.ndarray) -> RGB:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ImageError(
            f"A picture as an array is uint8 of shape (height, width, 3) in RGB order or (height, width) in grey, "
            f"got {array.dtype} of shape {array.shape}. Scale to 0..255 and convert with .astype(np.uint8)."
        )
    if 0 in array.shape:
        raise ImageError(f"The picture is empty: its shape is {array.shape}.")
    return np.repeat(array[:, :, None], 3, axis=2) if array.ndim == 2 else array


def _open(path: str | Path, name: str) -> BinaryIO:
    try:
        # Asked before opening: opening a pipe would wait for its writer.
        mode = Path(path).stat().st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(
                _no_pictures(name) if not any(_walk(Path(path))) else f"{name} is a folder, not a picture."
            )
        if not stat.S_ISREG(mode):
            raise ImageError(f"{name} is not a regular file but a pipe, socket or device. Save the picture to a file.")
        return Path(path).open("rb")
    except FileNotFoundError:
        raise ImageError(_missing(name)) from None
    except PermissionError:
        raise ImageError(f"{name} may not be read. Check its permissions.") from None
    except ValueError:
        raise ImageError(f"{name} is no file name: it holds a null byte.") from None
    except OSError as error:
        why = "it is a link that leads to itself" if error.errno == errno.ELOOP else error.strerror or str(error)
        raise ImageError(f"{name} cannot be opened: {why}.") from None


def _missing(name: str) -> str:
    return f"{name} does not exist. Check the path."


def _no_pictures(name: str) -> str:
    return f"{name} holds no pictures. Known extensions: {' '.join(sorted(EXTENSIONS))}."


def _decode_file(file: BinaryIO, num_bytes: int, name: str, at_least: int | None, limits: Limits) -> Decoded:
    if num_bytes == 0:
        raise ImageError(f"{name} is empty (0 bytes).")
    if num_bytes > limits.max_bytes:
        raise ImageError(f"{name} is larger than the limit of {limits.max_bytes / 2**20:.0f} MiB.")
    kind = _format(file.read(16), name)
    file.seek(0)
    with _refusing(name), Image.open(file, formats=[kind]) as picture:
        _check_size(picture, num_bytes, name, limits)
        return _decoded(picture, name, at_least)


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Turn what Pillow raises on a bad picture into one line."""
    try:
        yield
    except Image.DecompressionBombError:
        raise ImageError(f"{name} is larger than 178 Mpx, more than can be decoded safely. Make it smaller.") from None
    except MemoryError:
        raise ImageError(f"{name} does not fit into memory. Make it smaller.") from None
    except _BROKEN:
        raise ImageError(f"{name} is damaged or cut short. Copy it again.") from None


def _format(head: bytes, name: str) -> str:
    """Return the format that the first bytes say, its reader loaded."""
    for magic, kind, module in _MAGIC:
        if re.match(magic, head, re.DOTALL):
            if module:
                importlib.import_module(f"PIL.{module}")
            else:
                _register_heif(name)
            return kind
    raise ImageError(f"{name} is no picture that mien knows ({', '.join(FORMATS)}).")


def _register_heif(name: str) -> None:
    try:
        import pillow_heif  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise ImageError(f"{name} is HEIC. Install a reader with: pip install pillow-heif") from None
    pillow_heif.register_heif_opener()


def _check_size(picture: Image.Image, num_bytes: int | None, name: str, limits: Limits) -> None:
    width, height = picture.size
    pixels = width * height
    if max(width, height) > limits.max_side or pixels > limits.max_pixels:
        raise ImageError(
            f"{name} has {width} x {height} px; the limit is {limits.max_side} px a side and "
            f"{limits.max_pixels / 1e6:.0f} Mpx. Make it smaller."
        )
    if num_bytes and pixels > limits.free_pixels and pixels > limits.max_pixels_per_byte * num_bytes:
        raise ImageError(
            f"{name} claims {width} x {height} px in {num_bytes} bytes, as a decompression bomb does. "
            "If it is genuine, make it smaller."
        )


def _decoded(picture: Image.Image, name: str, at_least: int | None) -> Decoded:
    width, height = picture.size
    if not width or not height:
        raise ImageError(f"{name} is empty: {width} x {height} px.")
    reduction = 1
    if at_least is not None and picture.format in ("JPEG", "MPO"):
        reduction = next(k for k in (8, 4, 2, 1) if k == 1 or max(width, height) // k >= max(at_least, 1))
        if reduction > 1 and picture.draft(None, (width // reduction, height // reduction)) is None:
            reduction = 1
    picture.load()
    turn = _orientation(picture)
    image = _upright(_rgb(picture, name), turn)
    if reduction == 1:
        height, width = image.shape[:2]  # a TIFF was turned while it was loaded
    elif turn >= 5:
        width, height = height, width
    return Decoded(image, 1.0 / reduction, width, height)


def _orientation(picture: Image.Image) -> int:
    if picture.format == "JPEG" and "exif" not in picture.info and "xmp" not in picture.info:
        return 1
    try:
        turn = picture.getexif().get(_ORIENTATION, 1)
    except _BROKEN:
        return 1  # a picture with a damaged note is still a picture
    return turn if isinstance(turn, int) and 1 <= turn <= 8 else 1


def _upright(image: RGB, orientation: int) -> RGB:
    """Undo an EXIF orientation, 1 to 8."""
    if orientation == 1:
        return image
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def _rgb(picture: Image.Image, name: str) -> RGB:
    mode = picture.mode
    if mode == "F":
        raise ImageError(f"{name} holds floating-point pixels of unknown range. Save it with 8 or 16 bits.")
    if mode == "I" or mode.startswith("I;16"):
        return _from_array(_eight_bits(np.asarray(picture), name))
    if mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in picture.info:
        return _on_white(picture)
    profile = picture.info.get("icc_profile")
    if profile and mode in ("RGB", "CMYK") and not _is_srgb(profile):
        picture = _to_srgb(picture, profile)
    return _pixels(picture)


def _pixels(picture: Image.Image) -> RGB:
    """Convert to an array, a large picture in strips, so that it exists twice for a moment and not four times."""
    width, height = picture.size
    if width * height < 4_000_000:
        return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))
    image = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, 256):
        strip = picture.crop((0, top, width, min(top + 256, height)))
        image[top : top + 256] = np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))
    return image


def _eight_bits(values: np.ndarray, name: str) -> UInt8[np.ndarray, "height width"]:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageError(f"{name} holds pixels from {low} to {high}; expected at most 16 bits, 0 to 65535.")
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _on_white(picture: Image.Image) -> RGB:
    layer = picture.convert("RGBA")
    ground = Image.new("RGBA", layer.size, "white")
    return np.array(Image.alpha_composite(ground, layer).convert("RGB"))


def _is_srgb(profile: bytes) -> bool:
    # The profile's description is ASCII in version 2 and UTF-16 in version 4.
    return b"sRGB" in profile or "sRGB".encode("utf-16-be") in profile


def _to_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    try:
        return cast(Image.Image, ImageCms.applyTransform(picture, _transform(profile, picture.mode)))
    except (ImageCms.PyCMSError, ValueError, OSError):
        return picture  # a damaged profile costs some colour, not the picture


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> Any:
    # Built once a profile: a folder comes from one camera.
    source = ImageCms.getOpenProfile(io.BytesIO(profile))
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")


def _quieten_pillow() -> None:
    """Keep Pillow's remarks on odd files off stderr: what matters about a picture comes as an ImageError."""
    # Not `catch_warnings`: it swaps global state and is not safe in threads. Filters that are there are not doubled.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logger = logging.getLogger("PIL")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the pictures of a folder and its sub-folders in sorted order, through links, each folder once."""
    seen: set[tuple[int, int]] = set()

    def visit(place: Path) -> Iterator[Path]:
        try:
            status = place.stat()
            entries = sorted(os.scandir(place), key=lambda entry: os.fsencode(entry.name))
        except OSError:
            return  # a sub-folder that may not be read holds nothing for us
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = place / entry.name
            if _is_dir(entry):
                yield from visit(path)
            elif path.suffix.lower() in EXTENSIONS:
                yield path

    return visit(folder)


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
