"""Readers of foreign weight files, and what makes ONNX of them, without the frameworks that wrote them."""
