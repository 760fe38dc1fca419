import os

import numpy as np
import pytest

from mien.errors import ModelError, UsageError
from mien.zoo import session
from mien.zoo.session import make_session, providers, session_options, thread_count
from zoo import nets


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    """A cgroup folder of our own, on a machine of eight cores; write files into it."""
    monkeypatch.setattr(session, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("MIEN_THREADS", raising=False)

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    return write


# Threads


@pytest.mark.parametrize(
    ("limit", "threads"),
    [
        ("max 100000", 8),
        ("50000 100000", 1),
        ("100000 100000", 1),
        ("250000 100000", 2),
        ("3200000 100000", 8),
        ("50000 10000", 5),
        ("", 8),
        ("many 100000", 8),
    ],
)
def test_version_2_of_cgroups_limits_the_threads(cgroup, limit, threads):
    cgroup(cpu_dot_max=limit + "\n")

    assert thread_count() == threads


@pytest.mark.parametrize(("quota", "threads"), [("-1", 8), ("50000", 1), ("300000", 3), ("1600000", 8), ("none", 8)])
def test_version_1_of_cgroups_limits_the_threads(cgroup, quota, threads):
    cgroup(cpu__cpu_dot_cfs_quota_us=quota, cpu__cpu_dot_cfs_period_us="100000")

    assert thread_count() == threads


def test_without_a_quota_affinity_limits_the_threads(cgroup, monkeypatch):
    assert thread_count() == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 5, 7})
    assert thread_count() == 3


def test_without_affinity_the_cores_count(cgroup, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert thread_count() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert thread_count() == 1


def test_the_users_wish_comes_before_quota_and_affinity(cgroup, monkeypatch):
    cgroup(cpu_dot_max="50000 100000")
    monkeypatch.setenv("MIEN_THREADS", "12")

    assert thread_count() == 12


@pytest.mark.parametrize("wish", ["0", "-1", "two", "1.5", "²", " "])
def test_a_wish_that_is_no_number_of_threads_is_refused(monkeypatch, wish):
    monkeypatch.setenv("MIEN_THREADS", wish)

    with pytest.raises(UsageError, match=f"MIEN_THREADS should be a whole number from 1, got '{wish}'"):
        thread_count()


# Options


def test_threads_sleep_between_calls_unless_they_are_told_otherwise(cgroup):
    key = "session.intra_op.allow_spinning"

    assert session_options().get_session_config_entry(key) == "0"
    assert session_options(config={key: "1"}).get_session_config_entry(key) == "1"


def test_one_operator_runs_at_a_time_on_as_many_threads_as_there_are(cgroup):
    cgroup(cpu_dot_max="300000 100000")

    assert session_options().intra_op_num_threads == 3
    assert session_options(threads=2).intra_op_num_threads == 2
    assert session_options().inter_op_num_threads == 1


# Providers


@pytest.fixture
def build(monkeypatch):
    """Pretend that ONNX Runtime was built with these providers."""
    import onnxruntime

    monkeypatch.delenv("MIEN_DEVICE", raising=False)
    return lambda *names: monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: [f"{name}ExecutionProvider" for name in names]
    )


def test_the_best_provider_comes_first_and_the_cpu_last(build):
    build("Tensorrt", "CUDA", "OpenVINO", "CPU")

    assert providers() == ["CUDAExecutionProvider", "OpenVINOExecutionProvider", "CPUExecutionProvider"]
    assert providers("CPU") == ["CPUExecutionProvider"]
    assert providers("openvino") == ["OpenVINOExecutionProvider", "CPUExecutionProvider"]


def test_coreml_is_taken_only_where_it_is_asked_for(build):
    build("CoreML", "CPU")

    assert providers("auto") == ["CPUExecutionProvider"]
    assert providers("coreml") == ["CoreMLExecutionProvider", "CPUExecutionProvider"]


def test_the_environment_names_the_device_unless_the_caller_does(build, monkeypatch):
    build("CUDA", "CPU")
    monkeypatch.setenv("MIEN_DEVICE", "cpu")

    assert providers() == ["CPUExecutionProvider"]
    assert providers("cuda")[0] == "CUDAExecutionProvider"


def test_a_device_that_is_unknown_or_not_built_in_is_refused_with_the_cure(build):
    build("CPU")

    with pytest.raises(UsageError, match=r"--device should be auto or one of cuda, .*, cpu, got 'tpu'"):
        providers("tpu")
    with pytest.raises(UsageError, match=r"this build has CPUExecutionProvider\. Install .*onnxruntime-gpu"):
        providers("cuda")


# Sessions


def test_a_network_runs(tmp_path):
    opened = make_session(nets.embedder().save(tmp_path / "m.onnx"))

    (answer,) = opened.run(None, {"x": np.ones((2, 3, 112, 112), np.float32)})

    assert answer.shape == (2, 64)
    assert opened.get_providers()[-1] == "CPUExecutionProvider"


@pytest.mark.parametrize("content", [b"", b"a text\nof two lines", b"\x08\x08\x12\x02xx" * 50])
def test_what_is_no_network_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)

    with pytest.raises(ModelError, match=r"^'model\.onnx' is not a model .* mien models verify$") as caught:
        make_session(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_gone_is_refused_in_one_line(tmp_path):
    with pytest.raises(ModelError, match=r"'gone\.onnx' is not a model"):
        make_session(tmp_path / "gone.onnx")
