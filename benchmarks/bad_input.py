"""Give `mien analyze` one folder of everything that goes wrong with pictures, and see that each is handled or refused.

    python benchmarks/bad_input.py

The inputs are made here from drawn faces. Each must show the faces that are there or be refused in one line, the rest
of the folder must be done, the counts must be right, and the exit status must be 1. The process ends with status 1 if
anything is otherwise.
"""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from common import machine, write_result
from PIL import Image

from mien.drawing import draw_face

SIDE = 240


@dataclass(frozen=True)
class Case:
    """One input: what it is, how it is made, and what should come of it.

    ``expected`` is the least and the greatest number of faces, or part of the message that refuses it.
    """

    name: str
    what: str
    make: Callable[[Path], None]
    expected: tuple[int, int] | str


def face(subject: int = 1, side: int = SIDE) -> np.ndarray:
    return draw_face(subject, side=side).image


def picture(subject: int = 1, side: int = SIDE) -> Image.Image:
    return Image.fromarray(face(subject, side))


def shown(image: np.ndarray, kind: str) -> Callable[[Path], None]:
    return saved(Image.fromarray(image), kind)


def encoded(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture().save(buffer, kind, **options)
    return buffer.getvalue()


def written(data: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data) and None


def saved(image: Image.Image, kind: str, **options: object) -> Callable[[Path], None]:
    return lambda path: image.save(path, kind, **options)


def grid(columns: int, rows: int, *, side: int = SIDE, width: int = 0, height: int = 0, gap: int = 0) -> np.ndarray:
    """Put drawn subjects into rows and columns, on grey up to a wanted size."""
    cell = side + gap
    image = np.full((max(height, rows * cell), max(width, columns * cell), 3), 120, np.uint8)
    for i in range(rows * columns):
        top, left = i // columns * cell, i % columns * cell
        image[top : top + side, left : left + side] = face(i, side)
    return image


def blank(width: int, height: int) -> Callable[[Path], None]:
    return lambda path: Image.new("L", (width, height), 128).save(path, "PNG")


def rotated(orientation: int) -> Callable[[Path], None]:
    """Store the face so that only its EXIF note makes it upright."""
    transpose = Image.Transpose
    undo = {
        2: transpose.FLIP_LEFT_RIGHT, 3: transpose.ROTATE_180, 4: transpose.FLIP_TOP_BOTTOM, 5: transpose.TRANSPOSE,
        6: transpose.ROTATE_90, 7: transpose.TRANSVERSE, 8: transpose.ROTATE_270,
    }  # fmt: skip

    def make(path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture().transpose(undo[orientation]).save(path, "JPEG", exif=exif)

    return make


def animated(kind: str) -> Callable[[Path], None]:
    frames = [picture(subject) for subject in range(3)]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:])


def sixteen_bits(path: Path) -> None:
    cv2.imwrite(str(path), face()[..., ::-1].astype(np.uint16) * 257)


def sixteen_bits_of_grey(path: Path) -> None:
    Image.fromarray(np.asarray(picture().convert("L")).astype(np.uint16) * 257).save(path, "PNG")


def spoiled(path: Path) -> None:
    data = bytearray(encoded("JPEG"))
    for place in range(len(data) // 3, len(data) // 3 + 40):
        data[place] ^= 0x5A
    path.write_bytes(bytes(data))


def transparent() -> Image.Image:
    image = picture().convert("RGBA")
    alpha = np.full((SIDE, SIDE), 255, np.uint8)
    alpha[:20] = 0
    image.putalpha(Image.fromarray(alpha))
    return image


def not_utf8(path: Path) -> None:
    name = os.fsencode(path.parent) + b"/caf\xe9-\xff.jpg"
    Path(os.fsdecode(name)).write_bytes(encoded("JPEG"))


def noise() -> np.ndarray:
    return cv2.resize(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8), (640, 480))


def cases() -> list[Case]:
    jpeg, png = encoded("JPEG"), encoded("PNG")
    crowd, panorama = grid(20, 10, side=120), grid(5, 1, width=20_000, height=300)
    huge = grid(4, 3, side=2250, width=12_000, height=9000)
    one, any_number = (1, 1), (0, 10_000)
    found = [
        Case("good.jpg", "one face, for comparison", written(jpeg), one),
        Case("truncated.jpg", "the first half of a JPEG", written(jpeg[: len(jpeg) // 2]), "damaged or cut short"),
        Case("truncated.png", "the first half of a PNG", written(png[: len(png) // 2]), "damaged or cut short"),
        Case("head.jpg", "the first 20 bytes of a JPEG", written(jpeg[:20]), "damaged or cut short"),
        Case("zero.jpg", "no bytes", written(b""), "is empty (0 bytes)"),
        Case("text.jpg", "text", written(b"I am no picture.\n" * 40), "is no picture"),
        Case("page.png", "HTML", written(b"<!doctype html><html></html>"), "is no picture"),
        Case("spoiled.jpg", "a JPEG with 40 changed bytes", spoiled, any_number),
        Case("garbage-after.jpg", "a JPEG with other data after its end", written(jpeg + b"\0" * 4096), one),
        Case("png-named.jpg", "a PNG under a JPEG's name", written(png), one),
        Case("photo.heic", "HEIC without a reader", written(b"\0\0\0\x18ftypheic" + b"\0" * 64), "HEIC"),
        Case("wide.png", "20,000 x 300 px, 5 faces", shown(panorama, "PNG"), (5, 5)),
        Case("large.jpg", "12,000 x 9,000 px, 12 faces", shown(huge, "JPEG"), (12, 12)),
        Case("square.png", "20,000 x 20,000 px", blank(20_000, 20_000), "larger than 178 Mpx"),
        Case("bomb.png", "150 Mpx in some hundred kB", blank(15_000, 10_000), "decompression bomb"),
        Case("dot.png", "1 x 1 px", saved(Image.new("RGB", (1, 1)), "PNG"), (0, 0)),
        Case("line.png", "1 x 3,000 px", saved(Image.new("RGB", (1, 3000)), "PNG"), (0, 0)),
        Case("cmyk.jpg", "CMYK", saved(picture().convert("CMYK"), "JPEG"), one),
        Case("grey.jpg", "grey", saved(picture().convert("L"), "JPEG"), one),
        Case("grey16.png", "grey, 16 bits", sixteen_bits_of_grey, one),
        Case("rgb16.png", "RGB, 16 bits", sixteen_bits, one),
        Case("float.tif", "floating-point pixels", shown(np.ones((9, 9), np.float32), "TIFF"), "floating-point"),
        Case("bilevel.png", "1 bit", saved(picture().convert("1"), "PNG"), any_number),
        Case("palette.png", "palette", saved(picture().quantize(128), "PNG"), one),
        Case("palette-alpha.gif", "transparent palette", saved(picture().quantize(128), "GIF", transparency=0), one),
        Case("alpha.png", "RGB with alpha", saved(transparent(), "PNG"), one),
        Case("grey-alpha.png", "grey with alpha", saved(transparent().convert("LA"), "PNG"), one),
        Case("animated.gif", "an animation: its first frame", animated("GIF"), one),
        Case("animated.webp", "an animation: its first frame", animated("WEBP"), one),
        *(Case(f"exif-{k}.jpg", f"EXIF orientation {k}", rotated(k), one) for k in range(2, 9)),
        Case("nobody.png", "no face", shown(noise(), "PNG"), (0, 0)),
        Case("crowd.jpg", "200 faces of 50 px", saved(Image.fromarray(crowd), "JPEG", quality=92), (190, 200)),
        Case("tiny.png", "24 faces of 12 px", shown(grid(6, 4, side=29, gap=40), "PNG"), (0, 24)),
        Case("pipe.jpg", "a named pipe", lambda path: os.mkfifo(path), "not a regular file"),
        Case("device.jpg", "a link to /dev/zero", lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        Case("dangling.jpg", "a link to nothing", lambda path: path.symlink_to("nowhere"), "does not exist"),
        Case("loop.jpg", "a link to itself", lambda path: path.symlink_to(path.name), "leads to itself"),
        Case("caf\udce9-\udcff.jpg", "a name that is not UTF-8", not_utf8, one),
        Case("two\nlines.jpg", "a name of two lines", written(jpeg), one),
        Case("-dash.jpg", "a name that looks like an option", written(jpeg), one),
    ]  # fmt: skip
    if os.geteuid() != 0:

        def locked(path: Path) -> None:
            path.write_bytes(jpeg)
            path.chmod(0)

        found.append(Case("locked.jpg", "a file that may not be read", locked, "may not be read"))
    return found


def mien(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mien", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]


def judge(case: Case, facts: dict[str, object]) -> bool:
    if isinstance(case.expected, str):
        message = str(facts.get("error", ""))
        return case.expected in message and "\n" not in message
    return "faces" in facts and case.expected[0] <= len(facts["faces"]) <= case.expected[1]  # type: ignore[arg-type]


def analyze_all(folder: Path, made: list[Case]) -> tuple[list[dict[str, object]], dict[str, object]]:
    """Run the whole folder at once; return a row a case and a summary."""
    start = time.perf_counter()
    done = mien("analyze", "--jsonl", str(folder))
    seconds = time.perf_counter() - start
    by_name = {}
    for line in done.stdout.splitlines():
        facts = json.loads(line)
        raw = base64.b64decode(facts["path_bytes"]) if "path_bytes" in facts else facts["path"].encode()
        by_name[Path(os.fsdecode(raw)).name] = facts
    rows = []
    for case in made:
        facts = by_name.get(case.name, {})
        outcome = f"{len(facts['faces'])} faces" if "faces" in facts else "refused" if "error" in facts else "missing"
        said = str(facts.get("error", "")).replace(f"{folder}/", "")
        name = case.name.encode("utf-8", "backslashreplace").decode()
        rows.append({"input": name, "what": case.what, "outcome": outcome, "said": said, "ok": judge(case, facts)})
    failed = sum("error" in facts for facts in by_name.values())
    faces = sum(len(facts.get("faces", ())) for facts in by_name.values())
    nobody = sum(facts.get("faces") == [] for facts in by_name.values())
    counts = f"{len(made)} pictures: {faces} faces, {nobody} without a face, {failed} failed"
    last = done.stderr.splitlines()[-1]
    summary = {
        "exit_status": done.returncode,
        "last_line": last,
        "seconds": round(seconds, 1),
        "lines_on_stderr": len(done.stderr.splitlines()),
        "ok": done.returncode == 1
        and len(by_name) == len(made)
        and last == counts
        and len(done.stderr.splitlines()) == failed + 1,
    }
    return rows, summary


def others(folder: Path) -> list[dict[str, object]]:
    """Run what is not one file of a folder."""
    (folder / "empty").mkdir()
    (folder / "good").mkdir()
    (folder / "good" / "a.jpg").write_bytes(encoded("JPEG"))
    (folder / "dir.jpg").mkdir()
    Image.fromarray(grid(6, 4, side=29, gap=40)).save(folder / "tiny.png")
    good = str(folder / "good" / "a.jpg")
    trials = [
        ("an empty folder", [str(folder / "empty")], {}, 1, "holds no pictures"),
        ("an empty folder and a good picture", [str(folder / "empty"), good], {}, 1, "2 pictures: 1 face, 1 failed"),
        ("a folder named like a picture", [str(folder / "dir.jpg")], {}, 1, "holds no pictures"),
        ("a file that is not there", [str(folder / "nix.jpg")], {}, 1, "does not exist"),
        ("a file that is not there and a good one", ["nix.jpg", good], {}, 1, "2 pictures: 1 face, 1 failed"),
        ("a pattern that matches nothing", [str(folder / "*.webp")], {}, 1, "No picture matches"),
        ("nothing on stdin", ["-"], {"input": ""}, 1, "is empty (0 bytes)"),
        ("text on stdin", ["-"], {"input": "text"}, 1, "is no picture"),
        ("a name with a null byte", ["--", good, "x"], {}, 1, "does not exist"),
        ("24 faces of 12 px with --min-face 10", [str(folder / "tiny.png"), "--min-face", "10"], {}, 0, "1 picture: "),
        ("a folder without a fault", [str(folder / "good")], {}, 0, "1 picture: 1 face"),
    ]
    rows = []
    for what, arguments, options, status, said in trials:
        done = mien("analyze", *arguments, **options)
        lines = done.stderr.splitlines()
        short = " / ".join(lines).replace(f"{folder}/", "")
        ok = done.returncode == status and said in done.stderr and "Traceback" not in done.stderr
        rows.append({"input": what, "exit_status": done.returncode, "said": short, "ok": ok})
    return rows


def main() -> None:
    made = cases()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "pictures"
        folder.mkdir()
        for case in made:
            case.make(folder / case.name)
        rows, summary = analyze_all(folder, made)
    with tempfile.TemporaryDirectory() as name:
        more = others(Path(name))
    for row in [*rows, *more]:
        print(
            "ok   " if row["ok"] else "WRONG",
            *(str(row.get(key, "")) for key in ("input", "outcome", "said")),
            sep="  ",
        )
    print(summary)
    write_result("bad_input", {"machine": machine(), "folder": summary, "pictures": rows, "other": more})
    sys.exit(0 if all(row["ok"] for row in [*rows, *more, summary]) else 1)


if __name__ == "__main__":
    main()
