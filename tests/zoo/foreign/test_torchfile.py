import contextlib
import io
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest
import torch

from mien.errors import ModelError
from mien.zoo.foreign.torchfile import read_state_dict

from ..mobilenet import legacy_file


@pytest.fixture
def state():
    return OrderedDict(
        weight=torch.arange(24, dtype=torch.float32).reshape(2, 3, 4),
        empty=torch.zeros(0, 3),
        count=torch.tensor(7),
        part=torch.arange(10, dtype=torch.float32)[4:8],
    )


def test_what_pytorch_wrote_is_read_to_the_bit(state):
    read = read_state_dict(legacy_file(state))

    assert list(read) == list(state)
    for name, tensor in state.items():
        assert read[name].dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(read[name], tensor.numpy())


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the file was executed",))


@pytest.mark.parametrize(
    "thing",
    [Bomb(), {"weight": Bomb()}, {"function": print}],
    ids=["instead of the dict", "inside it", "a function"],
)
def test_nothing_that_a_file_asks_for_is_called_or_imported(thing):
    whole = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, thing, []):
        pickle.dump(part, whole, protocol=2)

    with pytest.raises(ModelError, match=r"which no tensor needs: it is not read"):
        read_state_dict(whole.getvalue())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "cannot be read"),
        (lambda data: b"PK\x03\x04" + data, "opcode|cannot be read"),
        (lambda data: data[: len(data) // 2], "cannot be read"),
        (lambda data: data[:-3], "cannot be read"),
        (lambda data: data.replace(struct.pack("<q", 24), struct.pack("<q", 23)), "storage .* has 23 numbers"),
        (lambda data: data.replace(b"\x80\x02M\xe9\x03.", b"\x80\x02M\xe8\x03.", 1), "PyTorch before 1.6"),
    ],
    ids=["empty", "a zip", "half", "three bytes short", "another count", "another version"],
)
def test_a_damaged_file_is_one_clear_line(state, damage, message):
    with pytest.raises(ModelError, match=message):
        read_state_dict(damage(legacy_file(state)))


def test_tensors_that_lie_elsewhere_in_memory_are_refused(state):
    state["weight"] = state["weight"].transpose(0, 1)

    with pytest.raises(ModelError, match=r"shape \(3, 2, 4\) does not lie whole"):
        read_state_dict(legacy_file(state))


def test_every_byte_turned_gives_an_array_or_one_clear_line(state):
    data = legacy_file(state)
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(data), 300):
        turned = bytearray(data)
        turned[at] ^= int(rng.integers(1, 256))
        with contextlib.suppress(ModelError):
            read_state_dict(bytes(turned))
