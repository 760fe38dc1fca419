"""ONNX adapters: a detector finds faces, an embedder tells them apart, an expression network reads them.

There is no base class. A detector has ``detect(image) -> list[Detection]``; an embedder has ``card``, ``side`` and
``embed(crops)``; an expression reader has ``read(crops)``. What fits the protocol can stand in the slot.
"""
