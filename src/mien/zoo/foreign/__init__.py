"""Readers and converters of weight files that are not ONNX, or not as ONNX Runtime likes them."""
