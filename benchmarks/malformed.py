"""How many drawn faces are plainly wrong, counted by eye on sheets where nobody knows which face is of which kind?

    MIEN_DATA=... python benchmarks/malformed.py sheets face-gan-64 --look 1 --out looks --cache crops
    MIEN_DATA=... python benchmarks/malformed.py count looks

`sheets` mixes faces drawn from the mixture, faces drawn from the flow (both of seed 7, none chosen) and photographs
that the model did not learn from, and numbers them; each look has another order. Who looks writes the numbers of
plainly wrong faces (smeared or missing features, two of one, a torn outline: what no photograph shows) into a file
beside the sheets, `MODEL-LOOK.wrong`, separated by blanks. `count` adds up what all looks say. `--beside OTHER` shows
the flow of another model in place of the mixture: how strict a rater is changes from day to day, so that two models are
compared on the same sheets. What such a folder says stands under `beside`.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import data_folder, machine, read_result, write_result

from mien.data.pictures import read_pictures
from mien.images import save_image
from mien.metrics.intervals import wilson
from mien.reporting.pictures import contact_sheet
from mien.vision.generator import Generator

SEED = 7
COLUMNS, ROWS = 10, 7
FLOW_OF = "flow of "
REFERENCE = {"face-64": "celeba10k", "fer-48": "fer2013plus"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    sheets = commands.add_parser("sheets")
    sheets.add_argument("models", nargs="+", help="With a flow beside the mixture.")
    sheets.add_argument("--look", type=int, required=True)
    sheets.add_argument("--out", type=Path, required=True)
    sheets.add_argument("--cache", type=Path)
    sheets.add_argument("--reference", help="Data set of the photographs; default by template.")
    sheets.add_argument("--beside", metavar="OTHER", help="A model whose faces are mixed with this one's.")
    sheets.add_argument("--drawn", type=int, default=100, help="Faces of each prior.")
    sheets.add_argument("--real", type=int, default=60, help="Photographs.")
    commands.add_parser("count").add_argument("folder", type=Path)
    args = parser.parse_args()
    if args.command == "count":
        result, before = counted(args.folder), read_result("malformed")
        if any(has_other(model) for model in result["models"].values()):
            before["beside"] = {**before.get("beside", {}), **result["models"]}
            write_result("malformed", before)
            return
        # Counts of other models stand, those of earlier versions apart.
        counts = {**before.get("models", {}), **result["models"]}
        known = {name_of(model) for model in result["models"]}
        gone = {model for model in counts if name_of(model) in known} - set(result["models"])
        result["models"] = {model: count for model, count in counts.items() if model not in gone}
        result |= {key: before[key] for key in ("beside", "samples_as_of") if key in before}
        result["earlier"] = {**before.get("earlier", {}), **{model: counts[model] for model in sorted(gone)}}
        write_result("malformed", result)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    for model in args.models:
        draw_sheets(model, args)


def name_of(model: str) -> str:
    """Return the name in a model's id, which ends in version and hash."""
    return model.rsplit("-", 2)[0]


def has_other(kinds: Mapping[str, object]) -> bool:
    """Return whether another model's faces stood on the sheets."""
    return any(kind.startswith(FLOW_OF) for kind in kinds)


def draw_sheets(model: str, args: argparse.Namespace) -> None:
    generator = Generator(model)
    template = generator.convention.template
    reference = args.reference or REFERENCE[template]
    pictures = read_pictures(
        data_folder() / reference, template=template, side=generator.side,
        colour=not generator.convention.grey, splits=("test",), cache=args.cache,
    )  # fmt: skip
    real = pictures.rgb()
    real = real[np.linspace(0, len(real) - 1, args.real).astype(int)]
    kinds = {"flow": generator.generate(args.drawn, seed=SEED, prior="flow")}
    if args.beside is None:
        kinds = {"mixture": generator.generate(args.drawn, seed=SEED, prior="mixture"), **kinds}
    else:
        other = Generator(args.beside)
        kinds[f"{FLOW_OF}{other.card.id}"] = other.generate(args.drawn, seed=SEED, prior="flow")
    kinds["photographs"] = real
    faces = np.concatenate(list(kinds.values()))
    names = [name for name, some in kinds.items() for _ in some]
    name = f"{Path(model).name}-{args.look}"
    order = np.random.default_rng(zlib.crc32(name.encode())).permutation(len(faces))
    for start in range(0, len(order), COLUMNS * ROWS):
        shown = order[start : start + COLUMNS * ROWS]
        numbers = [str(start + place) for place in range(len(shown))]
        sheet = contact_sheet(list(faces[shown]), columns=COLUMNS, side=96, captions=numbers)
        save_image(args.out / f"{name}-{start // (COLUMNS * ROWS)}.png", sheet)
    key = {"model": generator.card.id, "photographs": reference, "kinds": [names[place] for place in order]}
    key["faces"] = order.tolist()
    (args.out / f"{name}.json").write_text(json.dumps(key))


def counted(folder: Path) -> dict[str, Any]:
    """Return shares of wrong faces by model and kind; a face's share is that of the looks that call it wrong."""
    models: dict[str, dict[str, object]] = {}
    for marks in sorted(folder.glob("*.wrong")):
        key = json.loads(marks.with_suffix(".json").read_text())
        wrong = {int(number) for number in marks.read_text().split()}
        votes = models.setdefault(key["model"], {"looks": [], "photographs": key["photographs"]})
        looks = votes["looks"]
        assert isinstance(looks, list)
        looks.append(
            {(kind, face): n in wrong for n, (kind, face) in enumerate(zip(key["kinds"], key["faces"], strict=True))}
        )
    result: dict[str, object] = {}
    for model, votes in models.items():
        looks = votes["looks"]
        assert isinstance(looks, list)
        shares = {}
        for kind in sorted({kind for kind, _ in looks[0]}):
            faces = [key for key in looks[0] if key[0] == kind]
            each = [sum(look[key] for key in faces) for look in looks]
            called = sum(each)
            shares[kind] = {
                "faces": len(faces),
                "wrong_by_look": each,
                "wrong_in_all_looks": sum(all(look[key] for look in looks) for key in faces),
                "share": called / (len(looks) * len(faces)),
                # Looks at one face are not independent: the interval is that of the faces.
                "interval": list(wilson(round(called / len(looks)), len(faces))),
            }
        result[model] = {"looks": len(looks), "seed": SEED, "photographs_of": votes["photographs"], **shares}
    return {"by": "one rater, blind to the kind", "models": result, "machine": machine()}


if __name__ == "__main__":
    main()
