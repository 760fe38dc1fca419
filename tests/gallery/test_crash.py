"""Other processes: killed at work, at work at the same time, out of disk."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from mien.gallery import Gallery
from mien.types import Embedding, as_unit

from .made_up import MODEL, People, enrol

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "crash.py"


@pytest.mark.slow
def test_what_was_acknowledged_before_a_kill_is_kept(tmp_path):
    out = tmp_path / "crash.json"
    done = subprocess.run(
        [sys.executable, BENCHMARK, "--rounds", "3", "--out", out], capture_output=True, text=True, timeout=120
    )
    result = json.loads(out.read_text())
    assert done.returncode == 0, done.stderr
    assert result["killed_at_work"] >= 1 and result["acknowledged"] > 50 and result["missing"] == 0


ENROL = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path({tests!r})))
from gallery.made_up import People, enrol
from mien.gallery import Gallery
name, path = sys.argv[1:]
people = People(seed=len(name))
with Gallery(path) as gallery:
    print("open", flush=True)
    sys.stdin.readline()
    for number in range(40):
        enrol(gallery, people, f"{{name}} {{number % 5}}", crop=False)
"""


def start(name, path):
    script = ENROL.format(tests=str(Path(__file__).parents[1]))
    return subprocess.Popen(
        [sys.executable, "-c", script, name, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_two_processes_enrol_at_once_and_both_succeed(path):
    writers = [start("a", path), start("bb", path)]
    for writer in writers:
        assert writer.stdout.readline() == "open\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [writer.wait(60) for writer in writers] == [0, 0]
    with Gallery(path) as gallery:
        assert gallery.stats().samples == 80 and len(gallery) == 10
        assert gallery.check().ok


def test_two_processes_may_make_a_gallery_at_once(path):
    makers = [start(name, path) for name in ("a", "bb", "ccc")]
    assert [maker.communicate("go\n", timeout=60) and maker.returncode for maker in makers] == [0, 0, 0]
    with Gallery(path) as gallery:
        assert len(gallery) == 15


FILL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, str(Path({tests!r})))
from gallery.made_up import People, enrol
from mien.errors import GalleryError
from mien.gallery import Gallery
limit = 600_000
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
people = People()
with Gallery(sys.argv[1]) as gallery:
    try:
        for number in range(1000):
            enrol(gallery, people, f"s{{number}}")
            print(number, flush=True)
    except GalleryError as error:
        print(error, file=sys.stderr)
        sys.exit(7)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit on file sizes")
@pytest.mark.on("sqlite")
def test_a_disk_that_takes_no_more_is_one_line_and_loses_nothing(path):
    script = FILL.format(tests=str(Path(__file__).parents[1]))
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=60)
    acknowledged = done.stdout.splitlines()
    assert done.returncode == 7, done.stderr
    assert done.stderr.count("\n") == 1 and "What was acknowledged is kept" in done.stderr
    with Gallery(path) as gallery:
        assert len(gallery) == len(acknowledged) > 3
        assert gallery.check().ok
        assert gallery.search(Embedding(MODEL, as_unit(gallery.vectors("s0")[0])))[0].subject == "s0"
        enrol(gallery, People(seed=1), "afterwards")
