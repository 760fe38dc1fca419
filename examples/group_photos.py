"""Who is on which photographs, how often, and with whom? Nobody has to be enrolled.

python examples/group_photos.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import drawn_people
import numpy as np

import mien
from mien.grouping import Grouping, group_faces
from mien.images import find_images
from mien.matching import operating_point


def main(folder: Path) -> Grouping:
    analyzer = mien.Analyzer()
    vectors, where, quality, names = [], [], [], []
    for number, picture in enumerate(analyzer.pictures(find_images([folder]))):
        names.append(Path(picture.path).name)
        for face in picture.faces:
            vectors.append(face.embedding.vector)
            where.append(number)
            quality.append(face.quality.score)
    threshold = operating_point(analyzer.card, fmr=1e-4).threshold
    found = group_faces(np.stack(vectors), where, threshold=threshold, quality=quality, min_quality=0.1)
    for person in found.people:
        print(f"person {person.id}: {', '.join(names[picture] for picture in person.pictures)}")
        for other, together in found.companions(person.id):
            print(f"    {together} x with person {other}")
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(sys.argv[1]) if len(sys.argv) == 2 else drawn_people.photos(Path(scratch)))
