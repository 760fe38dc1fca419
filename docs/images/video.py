"""Make watched.png and watch-report.png, the pictures of docs/video.md, from a film of drawn people.

Everything on them is what `mien watch` answered while they were made. The page is photographed by chromium:

    python docs/images/video.py
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import av
from PIL import Image

from mien.drawing import draw_face
from mien.images import save_image
from mien.video.composing import draw_clip

HERE = Path(__file__).parent
ENROLLED = {"basil": 78, "dune": 64}
SECOND = 5.2


def main() -> None:
    """Draw, enrol, watch, photograph."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, subject in ENROLLED.items():
            for i in range(3):
                picture = draw_face(subject, side=320, seed=i, yaw=8 * i - 8).image
                (folder / "people" / name).mkdir(parents=True, exist_ok=True)
                save_image(folder / "people" / name / f"{i}.jpg", picture)
        draw_clip(folder / "clip.mp4")
        run = ["mien", "enroll", "people", "--gallery", "people.mien"]
        subprocess.run(run, cwd=folder, check=True)
        run = ["mien", "watch", "clip.mp4", "--gallery", "people.mien", "--save", "seen.mp4", "--report", "out"]
        subprocess.run(run, cwd=folder, check=True)
        with av.open(str(folder / "seen.mp4")) as film:
            shown = next(one for one in film.decode(video=0) if one.time is not None and one.time >= SECOND)
            Image.fromarray(shown.to_ndarray(format="rgb24")).save(HERE / "watched.png", optimize=True)
        shot = folder / "page.png"
        page = (folder / "out" / "report.html").as_uri()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1060,1300"]
        subprocess.run(["chromium", *options, f"--screenshot={shot}", page], check=True, capture_output=True)
        Image.open(shot).convert("P", palette=Image.Palette.ADAPTIVE, colors=192).save(
            HERE / "watch-report.png", optimize=True
        )


if __name__ == "__main__":
    main()
