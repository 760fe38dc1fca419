"""Derive a threshold from your own people, and see what rates so many comparisons can support.

The model's threshold was measured on celebrities. Forty drawn people are another population: they look more alike to a
network that learned from photographs, so the same rate needs a higher threshold.

python examples/calibrate_gallery.py [PEOPLE]
"""

import sys
import tempfile
from pathlib import Path

import drawn_people

import mien
from mien.analyzer import main_face
from mien.errors import MienError
from mien.images import find_images
from mien.matching import operating_point


def main(people: Path, gallery_file: Path) -> dict[float, float]:
    analyzer = mien.Analyzer()
    thresholds = {}
    with mien.Gallery(gallery_file, model=analyzer.card.id) as gallery:
        for picture in analyzer.pictures(find_images([people]), digests=True):
            face = main_face(picture.faces, picture.width, picture.height)
            if face is not None:
                gallery.enrol(Path(picture.path).parent.name, face, source_hash=picture.digest)
        for fmr in (1e-1, 1e-2, 1e-3, 1e-5):
            try:
                point = gallery.calibrate(fmr).point
            except MienError as error:
                print(error)
                continue
            low, high = point.fmr_interval
            card = operating_point(analyzer.card, fmr).threshold
            print(f"FMR {fmr:g}: threshold {point.threshold:.3f} here, {card:.3f} on the model's card")
            print(f"    measured FMR {point.fmr:.2g} (95 %: {low:.2g} to {high:.2g}), FNMR {point.fnmr:.2g}")
            thresholds[fmr] = point.threshold
    return thresholds


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        crowd = {f"drawn {number}": number for number in range(40)}
        mine = Path(sys.argv[1]) if len(sys.argv) == 2 else drawn_people.people(work / "people", crowd, samples=2)
        main(mine, work / "club.mien")
