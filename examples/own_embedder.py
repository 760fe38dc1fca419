"""Use your own ONNX embedder: add it with its convention, calibrate it on your people, then verify.

    python examples/own_embedder.py w600k_r50.onnx arcface-112 [PEOPLE]

Without arguments a toy takes its place that knows nothing but mean colours. It is refused where it does not fit its
convention, and it has no operating points, so a threshold comes from the people at hand.
"""

import sys
import tempfile
from pathlib import Path

import drawn_people
import numpy as np

import mien
from mien import zoo
from mien.analyzer import main_face
from mien.images import find_images
from mien.zoo.adding import add

NAME = "example-own"


def main(model: Path, convention: str, people: Path, gallery_file: Path) -> mien.OperatingPoint:
    card = add(model, name=NAME, role="embedder", convention_name=convention, licence="see its authors", replace=True)
    print(f"added {card.id}: {dict(card.convention)}")
    analyzer = mien.Analyzer(embedder=NAME)
    pictures = find_images([people])
    with mien.Gallery(gallery_file, model=card.id) as gallery:
        for picture in analyzer.pictures(pictures, digests=True):
            face = main_face(picture.faces, picture.width, picture.height)
            if face is not None:
                gallery.enrol(Path(picture.path).parent.name, face, source_hash=picture.digest)
        point = gallery.calibrate(0.1).point
    print(f"threshold {point.threshold:.3f} at FMR {point.fmr:.2g}, FNMR {point.fnmr:.2g}: {point.dataset}")
    answer = mien.verify(pictures[0], pictures[1], point=point, analyzer=analyzer)
    print(f"{pictures[0].name} and {pictures[1].name}: {'match' if answer.match else 'no match'}, {answer.score:.3f}")
    return point


def toy(path: Path) -> Path:
    """Write an ONNX file of ArcFace's shape: mean colours of 8 x 8 patches."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    floats = TensorProto.FLOAT
    nodes = [
        helper.make_node("AveragePool", ["picture"], ["patches"], kernel_shape=[14, 14], strides=[14, 14]),
        helper.make_node("Reshape", ["patches", "flat"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("picture", floats, ["n", 3, 112, 112])],
        [helper.make_tensor_value_info("embedding", floats, ["n", 192])],
        [numpy_helper.from_array(np.array([-1, 192], np.int64), "flat")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        if len(sys.argv) in (3, 4):
            mine = Path(sys.argv[3]) if len(sys.argv) == 4 else drawn_people.people(work / "people")
            main(Path(sys.argv[1]), sys.argv[2], mine, work / "own.mien")
        else:
            main(toy(work / "toy.onnx"), "arcface-112", drawn_people.people(work / "people"), work / "own.mien")
            zoo.remove(NAME)
