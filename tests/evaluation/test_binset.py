import os
import pickle
import pickletools
import struct

import numpy as np
import pytest

from mien.errors import EvaluationError
from mien.evaluation.binset import read_bin
from mien.evaluation.pairs import read_pairs
from mien.images import encode_image

PICTURES = [b"\xff\xd8 one", b"\xff\xd8 two", b"\xff\xd8 three", b"\xff\xd8 one"]
LABELS = [True, False]


def write(folder, data):
    path = folder / "set.bin"
    path.write_bytes(data if isinstance(data, bytes) else pickle.dumps(data, protocol=4))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", ["bytes", "arrays", "truth values"])
def test_reads_what_every_protocol_of_python_3_writes(tmp_path, protocol, kind):
    pictures, labels = PICTURES, LABELS
    if kind == "arrays":
        pictures = [np.frombuffer(picture, dtype=np.uint8).copy() for picture in PICTURES]
    if kind == "truth values":
        labels = np.array(LABELS)
    path = write(tmp_path, pickle.dumps((pictures, labels), protocol=protocol))

    assert read_bin(path) == (PICTURES, LABELS)


def test_reads_numpys_scalars_and_an_old_numpys_names(tmp_path):
    data = pickle.dumps(([np.frombuffer(p, np.uint8).copy() for p in PICTURES], [np.True_, np.False_]), protocol=2)
    old = data.replace(b"cnumpy._core.", b"cnumpy.core.")
    assert old != data

    assert read_bin(write(tmp_path, old)) == (PICTURES, LABELS)


def test_reads_what_python_2_wrote(tmp_path):
    # Protocol 2 as cPickle writes it: pictures are str (SHORT_BINSTRING).
    def text(value):
        return b"U" + struct.pack("<B", len(value)) + value

    body = b"](" + b"".join(text(p) for p in PICTURES) + b"e" + b"](\x88\x89e" + b"\x86."
    assert [op.name for op, *_ in pickletools.genops(b"\x80\x02" + body)][-2:] == ["TUPLE2", "STOP"]

    assert read_bin(write(tmp_path, b"\x80\x02" + body)) == (PICTURES, LABELS)


class Evil:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_set_that_asks_for_code_is_refused_and_nothing_runs(tmp_path, protocol):
    target = tmp_path / "made"
    path = write(tmp_path, pickle.dumps(([Evil(os.mkdir, str(target))], [True]), protocol=protocol))

    with pytest.raises(EvaluationError, match=r"asks for '\w+'\.'mkdir'") as caught:
        read_bin(path)

    assert not target.exists()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "stream",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"(S'1'\nibuiltins\neval\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x09dtype.mro\x93.",
        b"\x80\x02cnumpy\nload\n.",
        b"\x80\x02c_codecs\ndecode\n.",
    ],
    ids=["global", "inst", "dotted", "numpy.load", "codecs.decode"],
)
def test_no_other_global_is_reachable(tmp_path, stream):
    with pytest.raises(EvaluationError, match="asks for"):
        read_bin(write(tmp_path, stream))


@pytest.mark.parametrize(
    "stream",
    [
        b"c_codecs\nencode\n(S'aGk='\nS'base64'\ntR.",
        b"\x80\x02cnumpy\ndtype\n(U\x02O8K\x00K\x01tR.",
        b"\x80\x02B\xff\xff\xff\x7f.",
        b"\x80\x02Pname\n.",
        b"\x80\x02c_codecs\nencode\nN}U\x0c__defaults__K\x01s\x86b.",
        b"\x80\x04\x95",
        b"not a pickle",
        b"",
        pickle.dumps((PICTURES, LABELS))[:-20],
    ],
    ids=["codec", "dtype alone", "long", "persistent id", "write to a stand-in", "frame", "text", "empty", "cut short"],
)
def test_broken_streams_are_refused_in_one_line(tmp_path, stream):
    with pytest.raises(EvaluationError, match=r"set\.bin") as caught:
        read_bin(write(tmp_path, stream))

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2, 3], "holds a list. Expected a pair"),
        ("text", "holds a str"),
        ((1, 2), "Expected a list of pictures and a list of labels"),
        (([b"one"], [True]), "holds 1 pictures and 1 labels. Expected two a label"),
        (([], []), "holds 0 pictures and 0 labels"),
        ((["text", b"two"], [True]), "not encoded bytes"),
        (([np.array([True]), b"two"], [True]), "not encoded bytes"),
        (([b"one", b"two"], [2]), "labels other than true and false"),
        (([b"one", b"two"], [None]), "labels other than true and false"),
        (([np.zeros(3), b"two"], [True]), "is no .bin set"),
        (([np.zeros((2, 2), np.uint8), b"two"], [True]), "is no .bin set"),
        (([b"one", b"two"], [np.int64(1)]), "is no .bin set"),
    ],
)
def test_a_pickle_of_something_else_is_refused(tmp_path, content, message):
    with pytest.raises(EvaluationError, match=message):
        read_bin(write(tmp_path, content))


def test_an_array_that_lies_about_its_shape_is_refused(tmp_path):
    honest = pickle.dumps(([np.zeros(3, np.uint8), b"two"], [True]), protocol=2)
    lying = honest.replace(b"K\x03\x85", b"K\x63\x85", 1)
    assert lying != honest

    with pytest.raises(EvaluationError, match=r"is no \.bin set"):
        read_bin(write(tmp_path, lying))


def test_the_same_picture_in_two_pairs_is_one_picture(tmp_path):
    pairs = read_pairs(write(tmp_path, (PICTURES, LABELS)))

    assert len(pairs.pictures) == 3 and pairs.aligned
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([0, 2], [1, 0])
    assert pairs.subjects[0] == pairs.subjects[1] != pairs.subjects[2]


def test_a_set_without_its_suffix_is_known_by_its_first_byte(tmp_path):
    crop = encode_image(np.zeros((112, 112, 3), np.uint8), suffix=".png")
    (tmp_path / "lfw").write_bytes(pickle.dumps(([crop, b"a", crop, b"b"], LABELS)))

    assert read_pairs(tmp_path / "lfw").sources[0] == crop
