"""The conversions that the catalogue may name."""

from __future__ import annotations

from collections.abc import Callable

from mien.zoo.foreign.blazeface import blazeface
from mien.zoo.foreign.dlib import dlib_resnet
from mien.zoo.foreign.facemesh import facemesh, iris
from mien.zoo.foreign.fused import sface_with_student
from mien.zoo.foreign.mobilenet import mobilenet
from mien.zoo.foreign.onnxfile import dynamic_size
from mien.zoo.foreign.sface import sface
from mien.zoo.foreign.xception import mini_xception

__all__ = ["CONVERSIONS"]

CONVERSIONS: dict[str, Callable[[bytes], bytes]] = {
    "dynamic-size": dynamic_size,
    "dlib-resnet": dlib_resnet,
    "dlib-resnet-fp16": lambda data: dlib_resnet(data, half=True),
    "blazeface": blazeface,
    "facemesh": facemesh,
    "iris": iris,
    "mobilenet": mobilenet,
    "mini-xception": mini_xception,
    "sface": sface,
    "sface-with-student": sface_with_student,
}
