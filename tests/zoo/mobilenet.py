"""MobileNetV2 with random weights, plainly in PyTorch and as the file that torchvision of 2020 offers."""

import io
from collections import OrderedDict

import torch
from torch import nn

from mien.zoo.foreign.mobilenet import INVERTED_BLOCKS, STEM, TOP


class Inverted(nn.Module):
    def __init__(self, channels, out, stride, widening):
        super().__init__()
        wide = channels * widening
        self.adds = stride == 1 and channels == out
        self.conv = nn.Sequential(
            *([layer(channels, wide, 1)] if widening > 1 else []),
            layer(wide, wide, 3, stride=stride, groups=wide),
            nn.Conv2d(wide, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNet(nn.Module):
    """Named as torchvision names its layers."""

    def __init__(self):
        super().__init__()
        parts, channels = [layer(3, STEM, 3, stride=2)], STEM
        for out, stride, widening in INVERTED_BLOCKS:
            parts.append(Inverted(channels, out, stride, widening))
            channels = out
        self.features = nn.Sequential(*parts, layer(channels, TOP, 1))
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight.data, module.running_var):
                    tensor.uniform_(0.7, 1.4)
                for tensor in (module.bias.data, module.running_mean):
                    tensor.normal_(0, 0.1)

    def maps(self, images):
        """Return what comes after each block, from pixels 0 to 255, and at last the pooled features."""
        mean, deviation = (torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        x, maps = (images / 255 - mean) / deviation, []
        for part in self.features:
            x = part(x)
            maps.append(x)
        return [*maps[1:-1], maps[-1].mean(dim=(2, 3))]


def layer(channels, out, kernel, *, stride=1, groups=1):
    convolution = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU6())


def legacy_file(state: OrderedDict) -> bytes:
    """Write a state dict as PyTorch did before 1.6."""
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def random_network() -> MobileNet:
    torch.manual_seed(0)
    return MobileNet().eval()
