"""dlib's face recognition network with random weights, as its file and run the slow way."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mien.zoo.foreign.dlib import BLOCKS


def integer(value: int) -> bytes:
    size = max((value.bit_length() + 7) // 8, 1)
    return bytes([size]) + value.to_bytes(size, "little")


def text(value: str) -> bytes:
    return integer(len(value)) + value.encode()


def tensor(values: np.ndarray) -> bytes:
    shape = values.shape if values.ndim == 4 else (values.size, 1, 1, 1)
    return integer(2) + b"".join(map(integer, shape)) + values.astype("<f4").tobytes()


class Network:
    """dlib's network with random weights: as a `.dat` file, and run the slow and obvious way."""

    def __init__(self, rng):
        self.rng = rng
        self.stem = self.layer(3, 32, 7)
        channels, self.blocks = 32, []
        for out, _ in BLOCKS:
            self.blocks.append((self.layer(channels, out, 3), self.layer(out, out, 3)))
            channels = out
        self.matrix = rng.normal(0, 0.1, (256, 128)).astype(np.float32)

    def layer(self, channels, out, kernel):
        """Return filters, bias, gamma and beta; scaled so that activations neither die nor blow up."""
        filters = self.rng.normal(0, (1.0 / (channels * kernel**2)) ** 0.5, (out, channels, kernel, kernel))
        vectors = [self.rng.normal(0, 0.1, out), self.rng.uniform(0.5, 1.0, out), self.rng.normal(0, 0.1, out)]
        return [part.astype(np.float32) for part in (filters, *vectors)]

    def file(self) -> bytes:
        parts = [b"some header"]
        for filters, bias, gamma, beta in [self.stem, *(layer for block in self.blocks for layer in block)]:
            parts += [text("con_4"), tensor(np.concatenate([filters.ravel(), bias])), b"more"]
            parts += [text("affine_"), tensor(np.concatenate([gamma, beta])), b"\x00"]
        parts += [text("fc_2"), integer(128), integer(256), tensor(self.matrix.reshape(256, 128, 1, 1)), b"end"]
        return b"".join(parts)

    def run(self, image: np.ndarray) -> np.ndarray:
        x = (image - np.array([122.782, 117.001, 104.298])[:, None, None]) / 256
        x = np.maximum(affine_convolution(x, self.stem, stride=2, pad=0), 0)
        x = sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2].max(axis=(3, 4))
        for (first, second), (out, down) in zip(self.blocks, BLOCKS, strict=True):
            y = np.maximum(affine_convolution(x, first, stride=2 if down else 1, pad=0 if down else 1), 0)
            y = affine_convolution(y, second, stride=1, pad=1)
            if down:
                x = sliding_window_view(x, (2, 2), axis=(1, 2))[:, ::2, ::2].mean(axis=(3, 4))
            side = max(x.shape[1], y.shape[1])
            total = np.zeros((out, side, side))
            total[: len(x), : x.shape[1], : x.shape[2]] += x
            total[:, : y.shape[1], : y.shape[2]] += y
            x = np.maximum(total, 0)
        return x.mean(axis=(1, 2)) @ self.matrix


def affine_convolution(x, layer, *, stride, pad):
    filters, bias, gamma, beta = layer
    x = np.pad(x, [(0, 0), (pad, pad), (pad, pad)])
    windows = sliding_window_view(x, filters.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
    y = np.tensordot(filters.astype(np.float64), windows, axes=([1, 2, 3], [0, 3, 4])) + bias[:, None, None]
    return y * gamma[:, None, None] + beta[:, None, None]
