"""How much does the service take, how even are its answers, what does it lose, and what brings it down?

One process of `mien serve` on this machine, with the client beside it on the same cores.

- throughput: 16 clients identify 640x480 drawn pictures among 100,000 made-up subjects; in turn with it the bare
  pipeline (`Analyzer.pictures`: decode, find, embed) on the same pictures. By the clock and by CPU seconds of the
  process.
- evenness: an open loop (arrivals at random, whatever is still waiting) at 70 % of that throughput.
- overload: the same at five times the throughput; who is refused counts as answered.
- start: from the command to the first answer, and to the first identification.
- crashes: enrolment by four clients, SIGKILL at a random moment, again and again; is every acknowledged picture there?
- mutations: requests made up from the OpenAPI document (schemathesis), and pictures with flipped, cut, doubled and
  inserted bytes.

    python benchmarks/service.py [--seconds 10] [--rounds 50] [--mutated 5000] [--fuzz-seconds 120] [--only PART]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, machine, write_result

from mien import zoo
from mien.analyzer import Analyzer
from mien.drawing import draw_face, draw_scene
from mien.gallery import Gallery
from mien.gallery.records import Entry
from mien.images import digest, encode_image
from mien.types import Box, Embedding, Face, Picture, Quality, as_unit

SUBJECTS, CLIENTS, PICTURES = 100_000, 16, 24
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


# The server ----------------------------------------------------------------------------------------------------------


@dataclass
class Server:
    """A running service."""

    process: subprocess.Popen[str]
    port: int

    def cpu_s(self) -> float:
        """Return the CPU seconds that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")")[1].split()
        return (int(fields[11]) + int(fields[12])) * TICK_S

    def memory_mb(self) -> float:
        """Return its resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def spawn(data: Path, *options: str) -> Server:
    """Start a service and return once it says where it listens."""
    command = [sys.executable, "-m", "mien", "--offline", "serve", "--port", "0", "--data", str(data), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r":(\d+) - ", line)
    if found is None:
        raise SystemExit(f"The service did not start: {line}{process.stderr.read()}")
    return Server(process, int(found[1]))


@contextmanager
def service(data: Path, *options: str) -> Iterator[Server]:
    """Run a service, ready to work, and end it."""
    server = spawn(data, *options)
    try:
        asyncio.run(ready(server.port))
        yield server
    finally:
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(60)


# The client: raw sockets, since it shares the cores ------------------------------------------------------------------


@dataclass
class Tally:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)  # of answers that were no refusal
    refused_s: list[float] = field(default_factory=list)
    lost: int = 0


def request(path: str, body: bytes = b"", *, method: str = "POST", headers: str = "") -> bytes:
    """Return a request as bytes."""
    kind = "Content-Type: application/octet-stream\r\n" if body else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-Mien: 1\r\n{kind}{headers}Content-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


async def ask(port: int, sent: bytes, connection: Any = None) -> tuple[int, bytes, Any]:
    """Send one request; return status, body, and the connection to use again."""
    reader, writer = connection or await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    writer.write(sent)
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    body = await reader.readexactly(int(length[1])) if length else b""
    if b"connection: close" in head.lower():
        writer.close()
        return int(head[9:12]), body, None
    return int(head[9:12]), body, (reader, writer)


async def ready(port: int) -> None:
    """Return once the service is ready."""
    for _ in range(1200):
        status, _, connection = await ask(port, request("/readyz", method="GET"))
        if connection:
            connection[1].close()
        if status == 200:
            return
        await asyncio.sleep(0.05)
    raise SystemExit("The service did not get ready.")


async def closed_loop(port: int, requests: Sequence[bytes], clients: int, seconds: float) -> Tally:
    """Let each client send its next request when the last one was answered."""
    tally, end = Tally(), time.monotonic() + seconds

    async def client(number: int) -> None:
        connection, turn = None, number
        while time.monotonic() < end:
            start = time.monotonic()
            status, _, connection = await ask(port, requests[turn % len(requests)], connection)
            tally.statuses[status] += 1
            tally.seconds.append(time.monotonic() - start)
            turn += clients
            if status == 429:  # as Retry-After says, and not all at once
                await asyncio.sleep(random.uniform(1, 2))

    await asyncio.gather(*map(client, range(clients)))
    return tally


async def open_loop(port: int, requests: Sequence[bytes], rate: float, seconds: float, seed: int = 0) -> Tally:
    """Send requests at random moments, at a rate, whatever is still waiting."""
    rng, tally, tasks, idle = random.Random(seed), Tally(), [], []

    async def one(sent: bytes) -> None:
        start = time.monotonic()
        old = idle.pop() if idle else None
        try:
            async with asyncio.timeout(20):
                try:
                    status, _, connection = await ask(port, sent, old)
                except (OSError, asyncio.IncompleteReadError):
                    if old is None:
                        raise
                    # The server closed a connection that nobody used for a while: every HTTP client asks on a new one.
                    status, _, connection = await ask(port, sent, None)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            tally.lost += 1
            return
        if connection:
            idle.append(connection)
        tally.statuses[status] += 1
        (tally.seconds if status == 200 else tally.refused_s).append(time.monotonic() - start)

    start = at = time.monotonic()
    while at < start + seconds:
        await asyncio.sleep(max(at - time.monotonic(), 0))
        tasks.append(asyncio.create_task(one(rng.choice(requests))))
        at += rng.expovariate(rate)
    await asyncio.gather(*tasks)
    return tally


# What is sent --------------------------------------------------------------------------------------------------------


def pictures(folder: Path) -> list[bytes]:
    """Draw the pictures that are identified, once."""
    folder.mkdir(exist_ok=True)
    found = []
    for number in range(PICTURES):
        path = folder / f"{number}.jpg"
        if not path.exists():
            image = draw_scene([18 + number], width=640, height=480, seed=number).image
            path.write_bytes(encode_image(image))
        found.append(path.read_bytes())
    return found


def make_gallery(path: Path) -> None:
    """Enrol made-up subjects, one template each."""
    if path.exists():
        return
    model, rng = zoo.card(zoo.default("embedder")).id, np.random.default_rng(0)
    (seen,) = Analyzer(expression=None).analyze(draw_face(18, side=160).image)
    assert seen.embedding is not None, "it was asked for"
    dimension = len(seen.embedding.vector)
    landmarks = np.zeros((5, 2), np.float32)
    with Gallery(path) as gallery:
        for start in range(0, SUBJECTS, 5000):
            vectors = as_unit(rng.standard_normal((5000, dimension)))
            gallery.enrol_many(
                Entry(
                    f"subject {start + i}",
                    Face(Box(0, 0, 50, 60), landmarks, 0.9, embedding=Embedding(model, vectors[i].copy())),
                    f"{start + i:064x}",
                )
                for i in range(5000)
            )
        gallery.search(Embedding(model, vectors[0].copy()))  # builds the index


def bare(folder: Path, seconds: float) -> None:
    """Run the bare pipeline for some time, and print how much it did (in a process of its own)."""
    analyzer, listed = Analyzer(expression=None), pictures(folder)
    list(analyzer.pictures(listed[:8]))
    done, clock, cpu = 0, time.monotonic(), time.process_time()

    def forever() -> Iterator[bytes]:
        while time.monotonic() - clock < seconds:
            yield from listed

    for _ in analyzer.pictures(forever()):
        done += 1
    print(json.dumps({"done": done, "seconds": time.monotonic() - clock, "cpu_s": time.process_time() - cpu}))


# The parts -----------------------------------------------------------------------------------------------------------


def throughput(server: Server, folder: Path, seconds: float) -> dict[str, Any]:
    """Compare the service with the bare pipeline, turn by turn."""
    requests = [request("/v1/identify", data) for data in pictures(folder)]
    asyncio.run(closed_loop(server.port, requests, CLIENTS, 3))
    turns = []
    for _ in range(4):
        command = [sys.executable, __file__, "--bare", str(folder), "--seconds", str(seconds)]
        alone = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        cpu, clock = server.cpu_s(), time.monotonic()
        tally = asyncio.run(closed_loop(server.port, requests, CLIENTS, seconds))
        took = time.monotonic() - clock
        if not tally.statuses[200]:
            raise SystemExit(f"Nothing was identified: {dict(tally.statuses)}")
        turns.append(
            {
                "bare_a_second": alone["done"] / alone["seconds"],
                "bare_a_cpu_second": alone["done"] / alone["cpu_s"],
                "service_a_second": tally.statuses[200] / took,
                "service_a_cpu_second": tally.statuses[200] / (server.cpu_s() - cpu),
                "refused": tally.statuses[429],
            }
        )
    middle = {key: float(np.median([turn[key] for turn in turns])) for key in turns[0]}
    return {
        "turns": turns,
        "median": middle,
        "ratio_by_clock": float(np.median([t["service_a_second"] / t["bare_a_second"] for t in turns])),
        "ratio_by_cpu": float(np.median([t["service_a_cpu_second"] / t["bare_a_cpu_second"] for t in turns])),
        "note": "By the clock the service shares the cores with its 16 clients; by CPU only its own process counts.",
    }


def load(server: Server, folder: Path, rate: float, factor: float, seconds: float) -> dict[str, Any]:
    """Send at a share of the throughput, or at a multiple of it."""
    requests = [request("/v1/identify", data) for data in pictures(folder)]
    before = server.memory_mb()
    tally = asyncio.run(open_loop(server.port, requests, factor * rate, seconds))
    every = np.array([*tally.seconds, *tally.refused_s])
    told: dict[str, Any] = {
        "sent_a_second": factor * rate,
        "statuses": {str(status): count for status, count in sorted(tally.statuses.items())},
        "lost": tally.lost,
        "within_1_s": float((every <= 1).sum() / max(len(every) + tally.lost, 1)),
        "slowest_s": float(every.max(initial=0)),
        "memory_mb": [before, server.memory_mb()],
        "alive": server.process.poll() is None,
    }
    if tally.seconds:
        p50, p99 = np.percentile(tally.seconds, [50, 99])
        told |= {"p50_s": float(p50), "p99_s": float(p99), "p99_over_p50": float(p99 / p50)}
    return told


def starts(folder: Path, gallery: Path, times: int = 3) -> dict[str, Any]:
    """Time the start of a service with the large gallery."""
    picture = pictures(folder)[0]
    rows = []
    for number in range(times):
        data, start = folder / f"start{number}", time.monotonic()
        server = spawn(data, "--gallery", str(gallery))
        asyncio.run(ask(server.port, request("/healthz", method="GET")))
        first = time.monotonic() - start
        status, *_ = asyncio.run(ask(server.port, request("/v1/identify", picture)))
        identified = time.monotonic() - start
        rows.append({"answer_s": first, "identified_s": identified, "cpu_s": server.cpu_s(), "status": status})
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(60)
    keys = ("answer_s", "identified_s", "cpu_s")
    return {"median": {key: float(np.median([row[key] for row in rows])) for key in keys}, "rows": rows}


class Stub:
    """Sees one face in every picture, without a network: what is tried here is what is kept, not what is seen."""

    def __init__(self) -> None:
        self.card = zoo.card(zoo.default("embedder"))

    def for_gallery(self, _: Gallery) -> Stub:
        """Return itself."""
        return self

    def pictures(self, images: Sequence[np.ndarray], **_: bool) -> Iterator[Picture]:
        """Yield a face that fills each picture."""
        for image in images:
            face = Face(Box(0, 0, 112, 112), np.zeros((5, 2), np.float32), 0.9, Quality(0.9), crop=image[:112, :112])
            yield Picture(None, image.shape[1], image.shape[0], (face,), digest=digest(image))

    def analyze(self, *_: object, **__: object) -> tuple[()]:
        """See nothing."""
        return ()

    def embed_crops(self, crops: np.ndarray) -> np.ndarray:
        """Return a vector that depends on the pixels."""
        seeds = [int(digest(np.ascontiguousarray(crop))[:8], 16) for crop in crops]
        return np.stack([as_unit(np.random.default_rng(seed).standard_normal(128)) for seed in seeds])


def fork_server(data: Path) -> tuple[int, int]:
    """Start a service on the stub in a fork, whose imports are done; return process and port."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        from mien.service.core import Core
        from mien.service.server import serve
        from mien.service.settings import Settings

        Core._analyzer = lambda *_: Stub()  # type: ignore[method-assign, assignment]
        try:
            serve(Settings(data=data, port=0), said=lambda place: os.write(writing, place.encode()) and None)
        finally:
            os._exit(0)
    os.close(writing)
    place = os.read(reading, 100).decode()
    os.close(reading)
    return child, int(place.rpartition(":")[2])


async def enrol_until_killed(
    child: int, port: int, base: np.ndarray, number: int, rng: random.Random
) -> dict[str, str]:
    """Enrol by four clients, kill the service meanwhile, and return what it acknowledged: subject by digest."""
    acknowledged: dict[str, str] = {}
    enough = asyncio.Event()
    wanted, delay_s = rng.randrange(1, 60), rng.uniform(0, 0.02)

    async def client(which: int) -> None:
        for turn in range(10_000):
            image = base.copy()
            image[0, :4] = np.array([number, which, turn], "<u4").view(np.uint8).reshape(4, 3)
            name = f"subject{turn % 20}"
            sent = request(f"/v1/subjects?name={name}", encode_image(image, suffix=".png"))
            try:
                status, _, connection = await ask(port, sent)
            except (OSError, asyncio.IncompleteReadError):
                return
            if connection:
                connection[1].close()
            if status == 201:
                acknowledged[digest(image)] = name
            if len(acknowledged) >= wanted:
                enough.set()

    clients = [asyncio.create_task(client(which)) for which in range(4)]
    await enough.wait()
    await asyncio.sleep(delay_s)
    os.kill(child, signal.SIGKILL)
    await asyncio.gather(*clients)
    return acknowledged


def crashes(folder: Path, rounds: int) -> dict[str, Any]:
    """Kill the service under enrolment; count acknowledged pictures that are not there afterwards."""
    import mien.service.server  # noqa: F401 - so that the forks have it

    data, rng = folder / "crash", random.Random(0)
    base = draw_face(18, side=160).image
    everything: dict[str, str] = {}
    lost = broken = 0
    for number in range(rounds):
        child, port = fork_server(data)
        everything |= asyncio.run(enrol_until_killed(child, port, base, number, rng))
        os.waitpid(child, 0)
        with Gallery(data / "collections/default.mien") as gallery:
            there = {
                sample.source_hash: subject.name
                for subject in gallery.subjects()
                for sample in gallery.samples(subject.name)
            }
            broken += not gallery.check(probes=10).ok
        lost = sum(there.get(key) != name for key, name in everything.items())
    return {
        "rounds": rounds,
        "acknowledged": len(everything),
        "lost": lost,
        "galleries_with_problems": broken,
        "note": "Faces come from a stub: what is tried is what is kept.",
    }


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Damage a picture as disks, networks and attackers do."""
    damaged = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        at = rng.randrange(len(damaged)) if rng.random() < 0.7 else rng.randrange(min(64, len(damaged)))
        kind = rng.randrange(5)
        if kind == 0:
            damaged[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            damaged[at] = rng.choice([0, 255, 127, 128])
        elif kind == 2:
            damaged[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 3:
            damaged[at : at + rng.randrange(1, 200)] = damaged[: rng.randrange(1, 200)]
        else:
            del damaged[max(at, 16) :]
    return bytes(damaged)


async def send_mutated(port: int, count: int) -> Counter[int]:
    """Send damaged pictures of all formats and count the statuses."""
    import io

    from PIL import Image

    rng, seeds = random.Random(0), []
    for number, kind in enumerate(("jpeg", "png", "webp", "gif", "bmp", "tiff", "ppm", "jpeg2000")):
        file = io.BytesIO()
        Image.fromarray(draw_face(18 + number, side=72).image).save(file, kind)
        seeds.append(file.getvalue())
    statuses: Counter[int] = Counter()
    turns = iter(range(count))

    async def client() -> None:
        connection = None
        for _ in turns:
            sent = request("/v1/identify", mutated(rng.choice(seeds), rng))
            status, _, connection = await ask(port, sent, connection)
            statuses[status] += 1
            while status == 429:
                await asyncio.sleep(0.2)
                status, _, connection = await ask(port, sent, connection)

    await asyncio.gather(*(client() for _ in range(4)))
    return statuses


def mutations(folder: Path, count: int, fuzz_s: int) -> dict[str, Any]:
    """Send damaged pictures, then requests made up from the OpenAPI document."""
    with service(folder / "mutated") as server:
        asyncio.run(send_mutated(server.port, 300))  # so that what is loaded once is loaded
        before = server.memory_mb()
        statuses = asyncio.run(send_mutated(server.port, count))
        told: dict[str, Any] = {
            "pictures": {
                "sent": count,
                "statuses": {str(status): number for status, number in sorted(statuses.items())},
                "server_errors": sum(number for status, number in statuses.items() if status >= 500),
                "memory_mb": [before, server.memory_mb()],
            }
        }
        if shutil.which("schemathesis", path=str(Path(sys.executable).parent)) and fuzz_s > 0:
            told["requests"] = made_up_requests(server, fuzz_s)
        return told


def made_up_requests(server: Server, seconds: int) -> dict[str, Any]:
    """Let schemathesis make up requests; count what was answered with 5xx."""
    asyncio.run(ask(server.port, request("/openapi.json", method="GET")))  # made at the first request
    before, first = server.memory_mb(), counted(server)
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(Path(sys.executable).with_name("schemathesis")), "--no-color", "run",
            f"http://127.0.0.1:{server.port}/openapi.json", "-H", "X-Mien: 1", "-c", "not_a_server_error", "-n", "1000",
            "--phases", "coverage,fuzzing", "--max-time", str(seconds), "--continue-on-failure", "--warnings", "off",
            "--no-shrink", "--request-timeout", "60", "--suppress-health-check", "all",
            "--exclude-path-regex", "/v1/jobs/.job_id./events|/v1/keys",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    counts = counted(server) - first
    if sum(counts.values()) < 100:
        raise SystemExit(f"schemathesis made up next to nothing: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return {
        "seconds": seconds,
        "sent": sum(counts.values()),
        "statuses": dict(sorted(counts.items())),
        "server_errors": sum(number for status, number in counts.items() if status in ("500", "502", "504")),
        "memory_mb": [before, server.memory_mb()],
    }


def counted(server: Server) -> Counter[str]:
    """Return how many requests the service has answered, by status, as its figures say."""
    _, text, _ = asyncio.run(ask(server.port, request("/metrics", method="GET")))
    counts: Counter[str] = Counter()
    for status, number in re.findall(r'mien_requests_total\{.*?status="(\d+)"\} ([\d.]+)', text.decode()):
        counts[status] += int(float(number))
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--mutated", type=int, default=5000)
    parser.add_argument("--fuzz-seconds", type=int, default=120)
    parser.add_argument("--folder", type=Path, help="keep drawn pictures and the large gallery here")
    parser.add_argument("--only", choices=("load", "start", "crashes", "mutations"))
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare is not None:
        bare(options.bare, options.seconds)
        return
    folder = options.folder or Path(tempfile.mkdtemp(prefix="mien-service-"))
    folder.mkdir(parents=True, exist_ok=True)
    parts = (options.only,) if options.only else ("load", "start", "crashes", "mutations")
    known = RESULTS / "service.json"
    result: dict[str, Any] = json.loads(known.read_text()) if options.only and known.exists() else {}
    result |= {"machine": machine(), "subjects": SUBJECTS, "clients": CLIENTS, "pictures": "drawn, 640x480, one face"}
    gallery = folder / "large.mien"
    if {"load", "start"} & set(parts):
        make_gallery(gallery)
    load_average = os.getloadavg()
    if "load" in parts:
        with service(folder / "load", "--gallery", str(gallery)) as server:
            result["throughput"] = throughput(server, folder, options.seconds)
            rate = result["throughput"]["median"]["service_a_second"]
            result["at_70_percent"] = load(server, folder, rate, 0.7, 3 * options.seconds)
            result["overload"] = load(server, folder, rate, 5.0, options.seconds)
    if "start" in parts:
        result["start"] = starts(folder, gallery)
    if "crashes" in parts:
        result["crashes"] = crashes(folder, options.rounds)
    if "mutations" in parts:
        result["mutations"] = mutations(folder, options.mutated, options.fuzz_seconds)
    result.setdefault("load_average", {}).update({part: [load_average, os.getloadavg()] for part in parts})
    write_result("service", result)
    if options.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
