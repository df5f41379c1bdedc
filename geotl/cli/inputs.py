"""Inputs that cannot be used are refused before a command imports what it computes with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geotl.errors import ModelError

_EXPORTED = ".onnx"


def check_inputs(options: Mapping[str, Any]) -> None:
    """Make sure that the model of a command exists, and that its sensor is known.

    Args:
        options: of a command, by name.

    Raises:
        ModelError: there is no such file.
        DataError: there is no such sensor.
    """
    model = options.get("model")
    if isinstance(model, Path):
        _check_model(model)
    if isinstance(sensor := options.get("sensor"), str) and model is not None:
        from geotl.imagery.sensors import get_sensor

        get_sensor(sensor)


def _check_model(model: Path) -> None:
    """Make sure that a model is a file.

    Raises:
        ModelError: it is not.
    """
    if model.is_dir():
        raise ModelError(f"{model}: a folder; give the model file in it, such as model.safetensors")
    if model.exists():
        return
    if model.suffix.lower() == _EXPORTED:
        raise ModelError(f"{model}: no such file; export one with geotl export MODEL --format onnx")
    raise ModelError(f"{model}: no such model file; train one with geotl run")
