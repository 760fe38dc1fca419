"""A writer of small HDF5 files, and the mini-XCEPTION of random weights as such a file and in plain PyTorch."""

import struct

import numpy as np
import torch
from torch.nn import functional

from mien.zoo.foreign.xception import BLOCKS, CLASSES, STEM

UNDEFINED = 2**64 - 1


class Writer:
    """Grows from the front; groups and arrays are written before what holds them."""

    def __init__(self):
        self.data = bytearray(96)

    def put(self, item: bytes) -> int:
        self.data += bytes(-len(self.data) % 8)
        self.data += item
        return len(self.data) - len(item)

    def header(self, *messages: tuple[int, bytes], split=False) -> int:
        """Write an object header; ``split`` moves the last message into a continuation."""
        bodies = [struct.pack("<HHI", kind, len(body), 0) + body for kind, body in messages]
        if split:
            rest = bodies.pop()
            bodies.append(struct.pack("<HHIQQ", 0x10, 16, 0, self.put(rest), len(rest)))
        block = b"".join(bodies)
        return self.put(struct.pack("<BBHIII", 1, 0, len(messages) + split, 1, len(block), 0) + block)

    def array(self, values: np.ndarray, *, split=False, layout=(3, 1), kind=0x11) -> int:
        start = self.put(values.tobytes())
        space = struct.pack(f"<BBBBI{values.ndim}Q", 1, values.ndim, 0, 0, 0, *values.shape)
        number = struct.pack("<BBBBI", kind, 0x20, values.itemsize * 8 - 1, 0, values.itemsize) + bytes(12)
        place = struct.pack("<BBQQ", *layout, start, values.nbytes) + bytes(6)
        return self.header((0x01, space), (0x03, number), (0x08, place), split=split)

    def group(self, members: dict[str, int], *, a_node=4) -> int:
        names, offsets = bytearray(8), {}
        for name in sorted(members):
            offsets[name] = len(names)
            names += name.encode() + b"\0" + bytes(-(len(name) + 1) % 8)
        heap = self.put(b"HEAP" + struct.pack("<IQQQ", 0, len(names), UNDEFINED, self.put(bytes(names))))
        ordered = sorted(members)
        nodes = []
        for first in range(0, len(ordered), a_node):
            some = ordered[first : first + a_node]
            entries = b"".join(struct.pack("<QQII16x", offsets[name], members[name], 0, 0) for name in some)
            nodes.append(self.put(b"SNOD" + struct.pack("<BBH", 1, 0, len(some)) + entries))
        keys = b"".join(struct.pack("<QQ", 0, node) for node in nodes) + bytes(8)
        tree = self.put(b"TREE" + struct.pack("<BBHQQ", 0, 0, len(nodes), UNDEFINED, UNDEFINED) + keys)
        return self.header((0x11, struct.pack("<QQ", tree, heap)))

    def tree(self, paths: dict[str, np.ndarray]) -> int:
        """Write nested groups from paths."""
        below, here = {}, {}
        for path, values in paths.items():
            head, _, rest = path.partition("/")
            if rest:
                below.setdefault(head, {})[rest] = values
            else:
                here[head] = self.array(values)
        return self.group(here | {name: self.tree(some) for name, some in below.items()})

    def file(self, root: int) -> bytes:
        head = b"\x89HDF\r\n\x1a\n" + struct.pack("<BBBBBBBBHHI", 0, 0, 0, 0, 0, 8, 8, 0, 4, 16, 0)
        head += struct.pack("<QQQQ", 0, UNDEFINED, len(self.data), UNDEFINED) + struct.pack("<QQII16x", 0, root, 0, 0)
        self.data[:96] = head
        return bytes(self.data)


def random_weights(rng) -> dict[str, np.ndarray]:
    """Weights of mini-XCEPTION by Keras' paths."""
    weights = {}

    def put(layer, part, *shape, low=-0.3, high=0.3):
        weights[f"model_weights/{layer}/{layer}_1/{part}:0"] = rng.uniform(low, high, shape).astype(np.float32)

    def norm(number, size):
        for part, low, high in (("gamma", 0.7, 1.3), ("beta", -0.1, 0.1), ("moving_mean", -0.1, 0.1)):
            put(f"batch_normalization_{number}", part, size, low=low, high=high)
        put(f"batch_normalization_{number}", "moving_variance", size, low=0.5, high=1.5)

    put("conv2d_1", "kernel", 3, 3, 1, STEM)
    put("conv2d_2", "kernel", 3, 3, STEM, STEM)
    norm(1, STEM)
    norm(2, STEM)
    channels = STEM
    for number, out in enumerate(BLOCKS):
        put(f"conv2d_{number + 3}", "kernel", 1, 1, channels, out)
        for first, inputs in ((2 * number + 1, channels), (2 * number + 2, out)):
            put(f"separable_conv2d_{first}", "depthwise_kernel", 3, 3, inputs, 1)
            put(f"separable_conv2d_{first}", "pointwise_kernel", 1, 1, inputs, out)
        for index in range(3 * number + 3, 3 * number + 6):
            norm(index, out)
        channels = out
    put("conv2d_7", "kernel", 3, 3, channels, CLASSES)
    put("conv2d_7", "bias", CLASSES)
    return weights


def run(weights, images: np.ndarray) -> np.ndarray:
    """Run mini-XCEPTION layer by layer, as Keras does."""
    w = {f"{path.split('/')[1]}.{path.split('/')[-1][:-2]}": torch.from_numpy(a) for path, a in weights.items()}

    def norm(x, number):
        parts = (w[f"batch_normalization_{number}.{p}"] for p in ("moving_mean", "moving_variance", "gamma", "beta"))
        mean, variance, gamma, beta = parts
        return functional.batch_norm(x, mean, variance, gamma, beta, eps=1e-3)

    def convolution(x, name, **options):
        return functional.conv2d(x, w[name].permute(3, 2, 0, 1), **options)

    def separable(x, number):
        depth = w[f"separable_conv2d_{number}.depthwise_kernel"].permute(2, 3, 0, 1)
        x = functional.conv2d(x, depth, padding=1, groups=len(depth))
        return convolution(x, f"separable_conv2d_{number}.pointwise_kernel")

    x = torch.from_numpy(images)
    for number in (1, 2):
        x = torch.relu(norm(convolution(x, f"conv2d_{number}.kernel"), number))
    for block in range(len(BLOCKS)):
        y = norm(separable(x, 2 * block + 1), 3 * block + 4)
        y = norm(separable(torch.relu(y), 2 * block + 2), 3 * block + 5)
        # "same" with stride 2: what is missing to a whole window is added, the larger half right and below.
        missing = max((-(-y.shape[2] // 2) - 1) * 2 + 3 - y.shape[2], 0)
        y = functional.pad(y, (missing // 2, missing - missing // 2) * 2, value=-torch.inf)
        x = functional.max_pool2d(y, 3, 2) + norm(convolution(x, f"conv2d_{block + 3}.kernel", stride=2), 3 * block + 3)
    x = convolution(x, "conv2d_7.kernel", padding=1) + w["conv2d_7.bias"][:, None, None]
    return torch.softmax(x.mean(dim=(2, 3)), dim=1).numpy()
