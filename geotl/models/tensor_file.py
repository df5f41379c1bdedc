"""Safetensors files with a JSON header: written with a checksum, and checked when they are read."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from geotl.errors import GeoTLError, ModelError
from geotl.io.files import whole_file

KEY = "geotl"
CHECKSUM = "checksum"  # of the rest of the header and all tensors; earlier files have none
Arrays = Mapping[str, NDArray[Any]]
_WRONG = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def save_tensors(path: Path, tensors: Arrays, header: Mapping[str, Any]) -> None:
    """Write tensors and header with their checksum, as a complete file or none.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    text = json.dumps({**header, CHECKSUM: checksum(header, tensors)}, sort_keys=True)
    with whole_file(path) as part:
        try:
            save_file(dict(tensors), part, metadata={KEY: text})
        except SafetensorError as error:  # a full disk, in its own words
            raise OSError(str(error)) from error


def checksum(header: Mapping[str, Any], tensors: Arrays) -> str:
    """CRC-32 of a header without its checksum, and of the tensors by name, as 8 hex digits."""
    rest = {key: value for key, value in header.items() if key != CHECKSUM}
    total = zlib.crc32(json.dumps(rest, sort_keys=True, allow_nan=False).encode())
    for name in sorted(tensors):
        value = np.ascontiguousarray(tensors[name])
        total = zlib.crc32(f"{name} {value.dtype} {value.shape}".encode(), total)
        total = zlib.crc32(value.reshape(-1).view(np.uint8).data, total)
    return f"{total:08x}"


def read_json_header(path: Path) -> dict[str, Any]:
    """The JSON header of a file, without its tensors.

    Raises:
        ModelError: damaged, or not a geotl model.
    """
    with _reading(path), safe_open(str(path), framework="numpy") as stream:
        metadata = stream.metadata() or {}
    if KEY not in metadata:
        raise ModelError(
            f"{path}: a safetensors file, but not a geotl model; give model.safetensors"
        )
    try:
        header = json.loads(metadata[KEY])
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: {_LIES} (its header is no JSON); {_AGAIN}") from error
    if not isinstance(header, dict):
        raise ModelError(f"{path}: {_LIES} (its header is no object); {_AGAIN}")
    return header


def read_tensors(path: Path, header: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """All tensors of a file, as they were written.

    Raises:
        ModelError: damaged, or not those that the header was written with.
    """
    with _reading(path), safe_open(str(path), framework="numpy") as stream:
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    if CHECKSUM in header and header[CHECKSUM] != checksum(header, tensors):
        raise ModelError(
            f"{path}: its content is not what geotl wrote (its checksum differs): damaged in "
            f"copying or altered; {_AGAIN}"
        )
    return tensors


_LIES = "its header or tensors cannot be those of a model"
_AGAIN = "copy it again, train again, or export the model again"


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"{path}: not a readable safetensors file ({reason}); copy it again or train again"
        ) from error


def check_finite(tensors: Arrays) -> None:
    """Make sure that no number is NaN or infinite.

    Raises:
        ValueError: some are, or numbers are complex.
    """
    for name, value in tensors.items():
        if value.dtype.kind not in "fiub":
            raise ValueError(f"{name} has {value.dtype} values")
        # both are NaN where a value is; faster than to test every value
        if value.dtype.kind == "f" and value.size:
            ends = value.min(), value.max()
            if not np.isfinite(ends).all():
                raise ValueError(f"{name} has NaN or infinite values")


@contextmanager
def consistent(path: Path | None) -> Iterator[None]:
    """Turn errors of a file with inconsistent parts into one line.

    Raises:
        ModelError: in place of whatever building the model from them raised.
    """
    try:
        yield
    except (*_WRONG, GeoTLError) as error:
        if isinstance(error, ModelError) and str(error).startswith(f"{path}: "):
            raise
        reason = str(error).strip().splitlines() or [type(error).__name__]
        text = f"lacks {error}" if isinstance(error, KeyError) else " ".join(reason[:2])
        raise ModelError(f"{path}: {_LIES} ({text[:300]}); {_AGAIN}") from error
