"""Exported encoders: ONNX file and manifest of each entry. Installed as `mizoo.exported`."""
