"""Small data sets in every layout, of drawn faces."""

import csv
import zipfile
from functools import cache

import cv2

from mien.drawing import draw_face
from mien.images import encode_image


@cache
def picture(subject, expression="neutral", seed=0, side=40):
    """A drawn face as PNG, grey where ``side`` is 48."""
    image = draw_face(subject, side=side, expression=expression, seed=seed).image
    if side == 48:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return encode_image(image, suffix=".png")


def write(root, files):
    """Write files by name below a folder; None makes an empty folder."""
    for name, data in files.items():
        path = root / name
        if data is None:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return root


def packed(path, files, *, below=""):
    """Write files by name into a zip."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            if data is None:
                archive.writestr(f"{below}{name}/", b"")
            else:
                archive.writestr(below + name, data)
    return path


def table(rows):
    """Rows, the header first, as CSV text."""

    class Lines(list):
        write = list.append

    lines = Lines()
    csv.writer(lines, lineterminator="\n").writerows(rows)
    return "".join(lines)


CLASSES = {
    "happy/a.png": picture(0, "happiness"),
    "happy/b.png": picture(1, "happiness"),
    "Angry/a.png": picture(2, "anger"),
    "Angry/b.png": picture(3, "anger"),
}
"""Two classes of two pictures."""

VOTES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
