import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from mien.errors import UsageError
from mien.gallery import Gallery
from mien.gallery.cluster import run_on_ray, run_worker
from mien.gallery.work import Work

from .fake_analyzer import FakeAnalyzer, write_picture


def make(gallery):
    return FakeAnalyzer()


@pytest.fixture
def job(gallery, path, tmp_path):
    """A worker for four pictures that wait."""
    for number in range(4):
        write_picture(tmp_path / "people" / f"s{number}" / "a.png", number + 1)
    Work(gallery, "job").offer((f"s{number}/a.png", f"s{number}") for number in range(4))
    return partial(
        run_worker, make, str(path) if isinstance(path, Path) else path, None, "job", tmp_path / "people", {}
    )


def test_a_worker_does_what_waits_and_counts_it(job, gallery):
    assert job() == {"added": 4} and gallery.stats().samples == 4 and job() == {}


def test_without_ray_the_cure_is_named(job, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"needs Ray.*mien\[ray\]"):
        list(run_on_ray(job))


@pytest.mark.slow
@pytest.mark.on("postgres")
def test_workers_on_a_cluster_enrol_each_picture_once(job, path, monkeypatch):
    pytest.importorskip("ray", reason="SKIPPED, Ray is not installed: pip install 'mien[ray]'")
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    done = sum(run_on_ray(job, workers=2), start=Counter())
    assert done == {"added": 4}
    with Gallery(path) as gallery:
        assert gallery.stats().samples == 4
