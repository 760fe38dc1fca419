"""Train a small expression network on drawn faces, then read a drawn face with it.

    python examples/train_expression.py [DATA]

DATA is a folder an expression, `DATA/happy/*.jpg`, ...; without it faces are drawn. The sizes are a toy's, for half a
minute: on photographs leave them out, and let it learn for hours. Needs `pip install 'mien[train]'`.
"""

import sys
import tempfile
from pathlib import Path

import mien
from mien.data.drawn import draw_samples
from mien.data.transforms import Variation
from mien.drawing import draw_face
from mien.networks import ExpressionNetConfig
from mien.training.expression import ExpressionConfig, train

NET = ExpressionNetConfig(side=32, stem=16, widths=(16, 32, 64), blocks=(1, 1, 1), drop=0)
VARIATION = Variation(erase=0, blur=0, jpeg=0, noise=2, rotate=5, scale=0.05, shift=0.03, contrast=0.2)


def main(data: Path, out: Path, *, images: int = 10_000) -> mien.Expression:
    config = ExpressionConfig(
        data=data,
        out=out,
        net=NET,
        augment=VARIATION,
        images=images,
        batch_size=16,
        optimizer="adamw",
        learning_rate=3e-3,
    )
    trained = train(config)
    for name in trained.heads:
        print(f"{name}: macro-F1 {trained.summary[name]['macro_f1']:.2f} on validation pictures")
    analyzer = mien.Analyzer(expression=str(out))
    face = analyzer.analyze(draw_face(7, side=320, expression="happiness").image, embed=False)[0]
    assert face.expression is not None
    print(face.expression.label, "uncertain" if face.expression.uncertain else "sure", face.expression.probabilities)
    return face.expression


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / "faces"
        if len(sys.argv) == 1:
            draw_samples(drawn, per_class=25, split=True)
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else drawn, Path(folder) / "run")
