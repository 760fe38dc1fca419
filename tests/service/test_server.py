import contextlib
import datetime
import socket
import ssl
import threading
import time

import httpx
import pytest

from gallery.fake_analyzer import FakeAnalyzer
from mien.errors import MienError, UsageError
from mien.service import server as servers
from mien.service.core import Core
from mien.service.settings import Limits, Settings, is_loopback

from .conftest import WRITE, picture


@pytest.fixture
def start(tmp_path):
    """Run a server on a free port in a thread; return its core and its address."""
    running = []

    def make(*, certificate=None, private_key=None, **limits):
        core = Core(
            Settings(data=tmp_path / "service", port=0, limits=Limits(**limits)), make_analyzer=lambda _: FakeAnalyzer()
        )
        told, place = threading.Event(), []
        said = lambda line: (place.append(line), told.set())  # noqa: E731
        server = servers.make_server(core, certificate, private_key, said)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        running.append((server, thread))
        assert told.wait(20)
        return core, place[0], server, thread

    yield make
    for server, thread in running:
        server.should_exit = True
        thread.join(20)


def closed_after(place, *parts):
    """Send parts with pauses and return after how many seconds the other side closed."""
    host, port = place.removeprefix("http://").split(":")
    begun = time.monotonic()
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        with contextlib.suppress(OSError):
            for part in parts:
                connection.sendall(part)
                time.sleep(0.05)
            while connection.recv(4096):
                pass
        return time.monotonic() - begun


def test_heads_that_trickle_are_cut_also_on_a_connection_that_was_used(start):
    _, place, _, _ = start(head_s=0.3)
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"

    assert closed_after(place, b"GET /hea") < 5
    assert closed_after(place, head + b"\r\n", head, *[b"X: y\r\n"] * 20) < 5


def test_what_was_accepted_is_answered_before_the_end(start, monkeypatch):
    _, place, server, thread = start()
    begun = threading.Event()

    def slowly(*arguments, **options):
        begun.set()
        time.sleep(0.15)
        return analyse(*arguments, **options)

    from mien.service.faces import analyse

    monkeypatch.setattr("mien.service.faces.analyse", slowly)
    answers = []
    asking = threading.Thread(
        target=lambda: answers.append(
            httpx.post(f"{place}/v1/analyze", content=picture(1), headers=WRITE | {"Content-Type": "image/png"})
        )
    )
    asking.start()
    assert begun.wait(10)
    server.handle_exit(15, None)
    asking.join(10)
    thread.join(20)

    assert [answer.status_code for answer in answers] == [200] and not thread.is_alive()


def test_tls_comes_from_files(start, tmp_path):
    certificate, key = self_signed(tmp_path)
    _, place, _, _ = start(certificate=certificate, private_key=key)
    context = ssl.create_default_context(cafile=str(certificate))

    assert place.startswith("https://")
    assert httpx.get(f"{place}/healthz", verify=context).json()["status"] == "ok"


def test_an_address_in_use_is_said_in_a_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = Settings(data=tmp_path / "other", port=taken.getsockname()[1])
        with pytest.raises(MienError, match="Choose another --port"):
            servers.serve(settings)
    with pytest.raises(UsageError, match="0 to 65535"):
        Settings(data=tmp_path, port=70_000)


@pytest.mark.parametrize(
    ("host", "only_here"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False),
     ("::", False), ("192.168.1.5", False), ("localhost.example.org", False)],
)  # fmt: skip
def test_loopback_is_what_others_cannot_reach(host, only_here):
    assert is_loopback(host) is only_here


def self_signed(folder):
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, private = folder / "c.pem", folder / "k.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, private
