"""Models for other programs: ONNX, pt2, QGIS, STAC, hub folder."""
