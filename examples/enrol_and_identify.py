"""Make a gallery from a folder a subject, then say who is on a picture.

python examples/enrol_and_identify.py [PEOPLE PICTURE]
"""

import sys
import tempfile
from pathlib import Path

import drawn_people

import mien
from mien.analyzer import main_face
from mien.images import find_images
from mien.matching import operating_point


def main(people: Path, picture: Path, gallery_file: Path) -> list[str]:
    analyzer = mien.Analyzer()
    point = operating_point(analyzer.card, fmr=1e-3)
    names = []
    with mien.Gallery(gallery_file, model=analyzer.card.id) as gallery:
        for folder in sorted(path for path in people.iterdir() if path.is_dir()):
            for sample in analyzer.pictures(find_images([folder]), crops=True, digests=True):
                face = main_face(sample.faces, sample.width, sample.height)
                if face is None:
                    print(f"{sample.path}: {sample.error or 'no face'}")
                    continue
                done = gallery.enrol(folder.name, face, source_hash=sample.digest, min_quality=0.3)
                print(f"{sample.path}: {done.status} {', '.join(done.reasons)}")

        for face in analyzer.analyze(mien.load_image(picture)):
            candidates = gallery.identify(face.embedding, point.threshold)
            names.append(candidates[0].subject if candidates else "unknown")
            score = f"score {candidates[0].score:.3f}" if candidates else "nobody is similar enough"
            print(f"face of {face.box.side:.0f} px: {names[-1]}, {score}")
    return names


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        if len(sys.argv) == 3:
            main(Path(sys.argv[1]), Path(sys.argv[2]), work / "club.mien")
        else:
            main(
                drawn_people.people(work / "people"), drawn_people.photos(work / "photos") / "3.jpg", work / "club.mien"
            )
