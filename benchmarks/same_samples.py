"""Carry figures of samples over to a newer version of a generator that draws the same ones, to the bit.

    python benchmarks/same_samples.py OLD NEW results/generation_NAME.json ... [--published ID]

A mapper is a part of the file that sampling, encoding and decoding do not touch. OLD and NEW are names or run folders;
the two have to draw the same 4,096 pictures (eight seeds; of every expression, by every prior), decode the same latents
alike and have the same encoder, or nothing is written. Then every place in the files that names OLD names NEW (or
`--published`, the id that it gets in the catalogue), and `samples_as_of` says whose figures they were.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from mien import zoo
from mien.vision.generator import Generator

SEEDS, EACH = 8, 512
APART = ("edits", "edit_losses")  # what the cards may say otherwise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--published", metavar="ID")
    parser.add_argument("--was", metavar="ID", help="What the files call OLD; default: its id.")
    args = parser.parse_args()
    old, new = Generator(args.old, threads=1), Generator(args.new, threads=1)
    compare(old, new)
    before, after = args.was or old.card.id, args.published or new.card.id
    digests = {old.card.source.sha256: new.card.source.sha256}
    for file in args.files:
        text = file.read_text()
        record = renamed(json.loads(text), {before: after, **digests})
        record["samples_as_of"] = {after: before, **record.get("samples_as_of", {})}  # figures from before keep theirs
        second = text.splitlines()[1]
        file.write_text(json.dumps(record, indent=len(second) - len(second.lstrip())) + "\n")
        print(f"{file}: {before} is {after}")


def compare(old: Generator, new: Generator) -> None:
    """Refuse models that do not draw, decode and encode alike."""
    facts = [
        {key: value for key, value in one.card.convention.items() if key not in (*APART, "encoder")}
        for one in (old, new)
    ]
    assert facts[0] == facts[1], "the cards say other things"
    digests = [zoo.companion(one.card, "encoder").source.sha256 for one in (old, new)]
    assert digests[0] == digests[1], "the encoders differ"
    priors = ("fitted", "mixture", "normal")
    for seed in range(SEEDS):
        prior = priors[seed % len(priors)]
        expression = old.labels or None
        drawn = [one.generate(EACH, seed=seed, prior=prior, expression=expression) for one in (old, new)]
        assert np.array_equal(*drawn), f"seed {seed} draws other pictures"
    latents = np.random.default_rng(0).standard_normal((64, old.latents)).astype(np.float32)
    assert np.array_equal(old.decode(latents), new.decode(latents)), "latents are decoded otherwise"


def renamed(value: Any, names: dict[str, str]) -> Any:
    """Return a record with some strings in place of others."""
    if isinstance(value, dict):
        return {names.get(key, key): renamed(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [renamed(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


if __name__ == "__main__":
    main()
