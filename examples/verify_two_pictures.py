"""Are two pictures of one person? And how sure is the answer?

python examples/verify_two_pictures.py [A B]
"""

import sys
import tempfile
from pathlib import Path

import drawn_people

import mien


def main(a: Path, b: Path) -> mien.Comparison:
    answer = mien.verify(a, b, fmr=1e-3)
    point = answer.point
    print(
        f"{'one person' if answer.match else 'two people'}: score {answer.score:.3f}, threshold {point.threshold:.3f}"
    )
    print(f"probability of one person, at even odds: {answer.probability:.2%}")
    print(f"at this threshold {point.fmr:.1%} of different people are taken for one,")
    print(f"and {point.fnmr:.0%} of comparisons of one person are missed ({point.dataset})")
    return answer


if __name__ == "__main__":
    if len(sys.argv) == 3:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            people = drawn_people.people(Path(folder))
            main(people / "amber/0.jpg", people / "amber/2.jpg")
            main(people / "amber/0.jpg", people / "basil/0.jpg")
