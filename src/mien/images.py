"""Bytes to upright RGB uint8, and back. Everything that can be wrong with a picture is refused here, in one line.

Pillow reads headers and pixels; only the formats in `FORMATS` are tried, so no picture starts another program.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import io
import logging
import os
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, cast

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms

from mien.errors import ImageError
from mien.files import EXTENSIONS, find_images, local_path, no_picture, printable, write_whole

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
Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | np.ndarray | Image.Image
"""What a picture may come from: a path or ``file://`` URL, encoded bytes, an open binary file, a Pillow image, or an
array, uint8, in RGB order (height, width, 3), with alpha (height, width, 4), or grey (height, width) or (height, width,
1). Nobody can tell BGR, as OpenCV reads it, from RGB: reverse it first, ``image[..., ::-1]``."""

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF")
"""What is read, by Pillow's names. HEIF needs pillow-heif. A JPEG may hold several pictures (MPO)."""

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
# Canon, Olympus, Panasonic and Fujifilm; the raw files of others are TIFFs, see `_refuse_raw`.
_RAW = rb"II\*\x00.{4}CR|II(?:RO|RS|U\x00)|MMOR|FUJIFILMCCD-RAW|....ftypcrx "
_SUBFILE, _SUB_FOLDERS, _DNG = 254, 330, 50706  # TIFF tags: kind of picture (1 is a thumbnail), more pictures, DNG
_SCAN = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")  # a JPEG marker that ends a scan
_PPM_SIZE = re.compile(rb"P[1-6](?:(?:\s|#[^\n\r]*[\n\r])+\d+){2,3}")
_PPM_HEAD = 4096  # bytes within which a PPM says its size
_FREE_SCANS, _STRIP = 16, 256
_ORIENTATION = 0x0112
_BYTES_OF_MODE = {"1": 1, "L": 1, "P": 1, "LA": 4, "PA": 4, "I;16": 2, "I;16B": 2, "RGB": 3}  # of a pixel; others 4


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a picture may be. Headers are checked against it before any pixel is decoded.

    Decoding holds about seven bytes a pixel for a moment, so the default bounds one picture at 1.3 GB; a service
    that reads strangers' uploads should lower ``max_pixels`` or ``max_decoded_bytes``.

    Attributes:
        max_side: Longest side in px.
        max_pixels: Width times height. Pillow's own guard refuses more than 178 Mpx in any case.
        max_bytes: Size of the file.
        max_pixels_per_byte: Above ``free_pixels`` a picture must not be packed tighter than this: no camera does,
            decompression bombs do.
        free_pixels: Up to here any packing is allowed: blank pictures are legitimate and do no harm.
        max_decoded_bytes: What a picture takes as it is stored and as RGB, both at once, in bytes.
        max_scans: Passes over a progressive JPEG. Cameras and programs write about ten.
        max_scanned_pixels: Passes times pixels, from the 17th pass on: what bounds the time of one picture.
    """

    max_side: int = 30_000
    max_pixels: int = 178_000_000
    max_bytes: int = 512 * 1024 * 1024
    max_pixels_per_byte: float = 250.0
    free_pixels: int = 25_000_000
    max_decoded_bytes: int = 1_300_000_000
    max_scans: int = 100
    max_scanned_pixels: int = 1_000_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A decoded picture, perhaps at reduced size.

    Attributes:
        image: RGB uint8, upright.
        scale: Its px per px of the full picture: 1, 1/2, 1/4 or 1/8.
        width: Of the full picture, upright, px.
        height: Of the full picture, upright, px.
        notes: What was odd about the file and could be read all the same, a line each.
    """

    image: RGB
    scale: float
    width: int
    height: int
    notes: tuple[str, ...] = ()


_DEFAULT_LIMITS = Limits()


def load_image(source: Source, *, limits: Limits = _DEFAULT_LIMITS) -> RGB:
    """Read a picture as upright RGB.

    Transparency is laid on white, 16 bits are scaled to 8, CMYK and colour profiles become sRGB, EXIF rotation is
    applied, of an animation the first frame is taken.

    Args:
        source: A path or ``file://`` URL, encoded bytes, an open binary file, a Pillow image, or an array, uint8: RGB,
            RGBA or grey. OpenCV's BGR cannot be told from RGB: reverse it first, ``image[..., ::-1]``.
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
    if isinstance(source, str | os.PathLike):
        path = local_path(source)
        name = f"'{printable(path)}'"
        with _open(path, name) as file:
            return _decode_file(file, os.fstat(file.fileno()).st_size, name, at_least, limits)
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode_file(io.BytesIO(source), memoryview(source).nbytes, "The picture", at_least, limits)
    if not hasattr(source, "read"):
        raise ImageError(
            f"A picture is a path, bytes, a binary file, a NumPy array or a Pillow image, not {type(source)}. "
            "Turn a tensor into an array (height, width, 3) of uint8."
        )
    data = source.read(limits.max_bytes + 1)
    if not isinstance(data, bytes):
        raise ImageError("The picture's file is open in text mode; open it in binary mode ('rb').")
    return _decode_file(io.BytesIO(data), len(data), "The picture", at_least, limits)


def digest(image: RGB) -> str:
    """Return SHA-256 (hex) over shape and pixels: the same for one picture under any name or lossless container."""
    hasher = hashlib.sha256(f"{image.shape}".encode())
    hasher.update(np.ascontiguousarray(image).data)
    return hasher.hexdigest()


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


def _from_array(array: np.ndarray) -> RGB:
    shape, kind = array.shape, array.dtype
    expected = "A picture as an array is uint8 of shape (height, width, 3) in RGB order or (height, width) in grey"
    if kind != np.uint8:
        cure = "Scale to 0..255 and convert with .astype(np.uint8)."
        if kind.kind == "f" and array.size and np.nanmin(array) >= 0 and np.nanmax(array) <= 1:
            cure = "It lies between 0 and 1: give (255 * image).round().astype(np.uint8)."
        raise ImageError(f"{expected}, got {kind} of shape {shape}. {cure}")
    if array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (1, 3, 4) and 0 not in shape):
        cure = "Give one picture of a batch." if array.ndim == 4 else "Give its rows and columns."
        if array.ndim == 3:
            cure = (
                "Put the channels last: image.transpose(1, 2, 0)." if shape[0] in (1, 3, 4) else "Take three of them."
            )
        raise ImageError(f"{expected}, got shape {shape}. {cure}")
    if 0 in shape:
        raise ImageError(f"The picture is empty: its shape is {shape}.")
    if array.ndim == 2 or shape[2] == 1:
        return np.repeat(array.reshape(*shape[:2], 1), 3, axis=2)
    return _on_white(Image.fromarray(array))[0] if shape[2] == 4 else array


def _open(path: Path, name: str) -> BinaryIO:
    try:
        # Asked before opening: opening a pipe would wait for its writer.
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(no_picture(path))
        if not stat.S_ISREG(mode):
            raise ImageError(f"{name} is not a regular file but a pipe, socket or device. Save the picture to a file.")
        return path.open("rb")
    except FileNotFoundError:
        raise ImageError(f"{name} does not exist. Check the path.") from None
    except PermissionError:
        raise ImageError(f"{name} may not be read. Check its permissions.") from None
    except ValueError:
        raise ImageError(f"{name} is no file name: it holds a null byte.") from None
    except OSError as error:
        why = "it is a link that leads to itself" if error.errno == errno.ELOOP else error.strerror or str(error)
        raise ImageError(f"{name} cannot be opened: {why}.") from None


def _decode_file(file: BinaryIO, num_bytes: int, name: str, at_least: int | None, limits: Limits) -> Decoded:
    if num_bytes == 0:
        raise ImageError(f"{name} is empty (0 bytes).")
    if num_bytes > limits.max_bytes:
        raise ImageError(f"{name} is larger than the limit of {limits.max_bytes / 2**20:.0f} MiB.")
    kind = _format(file, name)
    file.seek(0)
    if kind == "PPM":
        file = _without_comments(file)
    with _refusing(name), Image.open(file, formats=[kind]) as picture:
        _check_size(picture, num_bytes, name, limits)
        _refuse_raw(picture, name)
        if picture.info.get("progressive"):
            _check_scans(file, picture.size, name, limits)
        try:
            return _decoded(picture, name, at_least)
        except OSError:
            if kind != "JPEG":
                raise
            file.seek(0)
            whole = _with_end_marker(file.read(), kind)
            if whole is None:
                raise
    with _refusing(name), Image.open(io.BytesIO(whole), formats=[kind]) as picture:
        return replace(_decoded(picture, name, at_least), notes=("its end marker is missing; all pixels are there",))


def _without_comments(file: BinaryIO) -> BinaryIO:
    """Return a PPM in plain text without comments among its pixels, on which Pillow spends quadratic time."""
    head = file.read(_PPM_HEAD)
    file.seek(0)
    size = _PPM_SIZE.match(head)
    if size is None or head[1:2] not in b"123":
        return file
    data = file.read()
    return io.BytesIO(data[: size.end()] + re.sub(rb"#[^\n\r]*", b"", data[size.end() :]))


def _with_end_marker(data: bytes, kind: str) -> bytes | None:
    """Return a JPEG that lacks its end marker alone with one, or None where pixels are missing.

    Many network cameras leave it out. A decoder fills up what is missing without a word, so the file is completed in
    two ways: where pixels are missing, they come from what was appended, and the two pictures differ.
    """
    data = data.rstrip(b"\0")
    views = []
    for filling in (b"", b"\x55" * 4096, b"\xaa" * 4096):
        try:
            with Image.open(io.BytesIO(data + filling + b"\xff\xd9"), formats=[kind]) as picture:
                if picture.info.get("progressive"):
                    return None  # passes that are missing altogether leave no trace
                views.append(picture.tobytes())
        except _BROKEN:
            return None
    return data + b"\xff\xd9" if views[0] == views[1] == views[2] else None


def _check_scans(file: BinaryIO, size: tuple[int, int], name: str, limits: Limits) -> None:
    """Refuse a progressive JPEG of so many passes that decoding takes minutes."""
    place = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(place)
    scans, at = 0, 2
    while (marker := _SCAN.search(data, at)) is not None and marker.group(1) != b"\xd9":
        scans += marker.group(1) == b"\xda"
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
    pixels = size[0] * size[1]
    if scans > limits.max_scans or (scans > _FREE_SCANS and scans * pixels > limits.max_scanned_pixels):
        raise ImageError(
            f"{name} is a JPEG of {size[0]} x {size[1]} px in {scans} passes, which takes too long to read. "
            "If it is genuine, save it anew."
        )


def _refuse_raw(picture: Image.Image, name: str) -> None:
    """Refuse a camera's raw file: what a TIFF reader finds in it is the thumbnail."""
    if picture.format != "TIFF":
        return
    tags = picture.tag_v2  # type: ignore[attr-defined]  # of Pillow's TIFF reader
    if _DNG in tags or (_SUB_FOLDERS in tags and tags.get(_SUBFILE) == 1):
        raise ImageError(_raw(name))


def _raw(name: str) -> str:
    return f"{name} is a camera raw file, of which only a thumbnail could be read. Export it as JPEG or TIFF."


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


def _format(file: BinaryIO, name: str) -> str:
    """Return the format that the first bytes say, its reader loaded."""
    head = file.read(_PPM_HEAD)
    if re.match(_RAW, head, re.DOTALL):
        raise ImageError(_raw(name))
    for magic, kind, module in _MAGIC:
        if re.match(magic, head, re.DOTALL):
            if kind == "HEIF" and _has_brand(head, b"avif"):
                kind, module = "AVIF", "AvifImagePlugin"
            if kind == "PPM" and not _PPM_SIZE.match(head):
                raise ImageError(f"{name} does not say its size in its first {_PPM_HEAD} bytes. Save it anew.")
            if not module:
                _register_heif(name)
                return kind
            try:
                importlib.import_module(f"PIL.{module}")
            except ImportError:
                raise ImageError(
                    f"{name} is {kind}, which needs Pillow 11.3 or later. Install it with: pip install -U pillow"
                ) from None
            return kind
    raise ImageError(f"{name} is no picture that mien knows ({', '.join(FORMATS)}).")


def _has_brand(head: bytes, brand: bytes) -> bool:
    """Whether a file of the ISO family says that readers of a brand can read it."""
    box = head[: int.from_bytes(head[:4])]
    return any(box[i : i + 4] == brand for i in range(16, len(box), 4))


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
    needed = pixels * (_BYTES_OF_MODE.get(picture.mode, 4) + 3)
    if needed > limits.max_decoded_bytes:
        raise ImageError(
            f"{name} takes {needed / 1e6:,.0f} MB to read; the limit is {limits.max_decoded_bytes / 1e6:,.0f} MB. "
            "Make it smaller."
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
    notes = []
    if picture.format == "TIFF" and getattr(picture, "n_frames", 1) > 1:
        notes.append(f"it has {picture.n_frames} pages, of which the first is read")  # type: ignore[attr-defined]
    picture.load()
    turn = _orientation(picture)
    pixels, more = _rgb(picture, name)
    notes += more
    image = _upright(pixels, turn)
    if reduction == 1:
        height, width = image.shape[:2]  # a TIFF was turned while it was loaded
    elif turn >= 5:
        width, height = height, width
    return Decoded(image, 1.0 / reduction, width, height, tuple(notes))


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


def _rgb(picture: Image.Image, name: str) -> tuple[RGB, list[str]]:
    """Return the pixels as RGB, and notes on what was odd about them."""
    mode = picture.mode
    if mode == "F":
        raise ImageError(f"{name} holds floating-point pixels of unknown range. Save it with 8 or 16 bits.")
    if mode == "I" or mode.startswith("I;16"):
        return _from_array(_eight_bits(picture, name)), []
    if mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in picture.info:
        return _on_white(picture)
    profile = picture.info.get("icc_profile")
    if profile and mode in ("RGB", "CMYK") and not _is_srgb(profile):
        picture = _to_srgb(picture, profile)
    return _pixels(picture), []


def _pixels(picture: Image.Image) -> RGB:
    """Convert to an array, a large picture in strips, so that it exists twice for a moment and not four times."""
    width, height = picture.size
    if width * height < 4_000_000:
        return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))
    image = np.empty((height, width, 3), np.uint8)
    for top, strip in _strips(picture):
        image[top : top + _STRIP] = np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))
    return image


def _strips(picture: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    width, height = picture.size
    for top in range(0, height, _STRIP):
        yield top, picture.crop((0, top, width, min(top + _STRIP, height)))


def _eight_bits(picture: Image.Image, name: str) -> UInt8[np.ndarray, "height width"]:
    image = np.empty((picture.height, picture.width), np.uint8)
    low, high = 0, 0
    for top, strip in _strips(picture):
        values = np.asarray(strip)
        low, high = min(low, int(values.min())), max(high, int(values.max()))
        image[top : top + _STRIP] = (values.astype(np.int64) + 128) // 257
    if low < 0 or high > 65535:
        raise ImageError(f"{name} holds pixels from {low} to {high}; expected at most 16 bits, 0 to 65535.")
    return image


def _on_white(picture: Image.Image) -> tuple[RGB, list[str]]:
    """Lay a picture on white. Where all of it is transparent, its colours are meant: some programs write no alpha."""
    image = np.empty((picture.height, picture.width, 3), np.uint8)
    opaque = False
    for top, strip in _strips(picture):
        layer = strip.convert("RGBA")
        opaque = opaque or bool(np.asarray(layer.getchannel("A")).any())
        whitened = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        image[top : top + _STRIP] = np.asarray(whitened.convert("RGB"))
    if opaque:
        return image, []
    for top, strip in _strips(picture):
        image[top : top + _STRIP] = np.asarray(strip.convert("RGBA"))[..., :3]
    return image, ["all of it is transparent; its colours are read"]


def _is_srgb(profile: bytes) -> bool:
    # The profile's description is ASCII in version 2 and UTF-16 in version 4.
    return b"sRGB" in profile or "sRGB".encode("utf-16-be") in profile


def _to_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    try:
        return cast(Image.Image, ImageCms.applyTransform(picture, _transform(profile, picture.mode)))
    except (ImageCms.PyCMSError, ValueError, OSError):
        return picture  # a damaged profile costs some colour, not the picture


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform:
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
