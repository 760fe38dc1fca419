"""A store of its own for each test, and package indexes made of tiny wheels."""

import contextlib
import hashlib
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


def make_wheel(folder: Path, package: str, members: dict[str, bytes], version: str = "1.0") -> Path:
    """Write the smallest wheel that pip takes."""
    module = package.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def package_card(
    data: bytes,
    package: str = "tiny-model",
    member: str = "tiny/model.bin",
    version: str = "1.0",
    convert: str = "",
    converted: str = "",
) -> str:
    """Return the card of a model that lies in a package, as an operator with an index of their own writes it."""
    return f"""
role = "detector"
version = "1"
summary = "A tiny model."
licence = "CC0"
training_data = "none"
[source]
kind = "package"
package = "{package}"
package_version = "{version}"
member = "{member}"
sha256 = "{hashlib.sha256(data).hexdigest()}"
convert = "{convert}"
converted = "{converted}"
size_bytes = {len(data)}
[convention]
kind = "centerface"
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty store; pip knows no index unless the test names one."""
    home = tmp_path / "home"
    (home / "models.d").mkdir(parents=True)
    monkeypatch.setenv("MIEN_HOME", str(home))
    monkeypatch.delenv("MIEN_OFFLINE", raising=False)
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return home


@pytest.fixture
def register(home):
    """Put a model into the catalogue of this store."""

    def put(name: str, data: bytes, **facts: str) -> None:
        (home / "models.d" / f"{name}.toml").write_text(package_card(data, **facts))

    return put


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """A folder of wheels that pip uses instead of any index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


class Index:
    """A package index on this machine that can hold a wheel back half-way, and counts how often it was fetched."""

    def __init__(self, wheel: Path) -> None:
        self.fetched = 0
        self.started, self.go_on = threading.Event(), threading.Event()
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                if not self.path.endswith(".whl"):
                    page = f'<a href="/{wheel.name}">{wheel.name}</a>'.encode()
                    self._begin("text/html", len(page))
                    self.wfile.write(page)
                    return
                data = wheel.read_bytes()
                index.fetched += 1
                self._begin("application/octet-stream", len(data))
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                index.started.set()
                index.go_on.wait(30)
                with contextlib.suppress(OSError):  # The client was stopped.
                    self.wfile.write(data[len(data) // 2 :])

            def _begin(self, kind, size):
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(size))
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/simple"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.go_on.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def index(home, register, tmp_path, monkeypatch):
    """An index with one wheel of half a megabyte that holds the model `tiny`."""
    data = bytes(range(256)) * 2048
    register("tiny", data)
    index = Index(make_wheel(tmp_path, "tiny-model", {"tiny/model.bin": data}))
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    yield index
    index.close()
