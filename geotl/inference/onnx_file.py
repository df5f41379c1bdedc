"""ONNX files of geotl: their metadata, their checksum, and the checks of both.

Onnxruntime is imported only here, except for its quantiser in `export.quantise`; metadata are read
without any library, so that either engine is enough on a machine that serves. Opset 18 with IR
version 9 is what onnxruntime 1.17 still reads (QGIS's Deepness pins it).
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from geotl.arrays import Float32s
from geotl.errors import ModelError

# Images float32 [N,C,H,W] to probabilities and logits: [N,K] of tiles, [N,K,H,W] of pixels.
Runner = Callable[[Float32s], tuple[Float32s, Float32s]]
OPSET, IR_VERSION = 18, 9
INPUT, OUTPUTS = "image", ("probabilities", "logits")
PASSPORT, SEAL = "geotl", "geotl_seal"
PASSPORT_VERSION = 1
_BLANK = "0" * 64
_TAIL = 4 << 20  # bytes at the end, where the metadata stand
_METADATA_PROPS = 14  # field of onnx.ModelProto (onnx.proto)


def seal(proto: Any, path: Path, metadata: Mapping[str, Any], more: Mapping[str, str] = {}) -> None:
    """Write a model with its metadata, and the checksum of all its other bytes in the file itself.

    Args:
        proto: an onnx.ModelProto.
        path: path of the file to write.
        metadata: the metadata of the model.
        more: further metadata for other programs.
    """
    del proto.metadata_props[:]
    for key, value in {PASSPORT: json.dumps(metadata), **more, SEAL: _BLANK}.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    content = proto.SerializeToString(deterministic=True)
    path.write_bytes(_with_checksum(content))


def _with_checksum(content: bytes) -> bytes:
    blank = _place(content)
    digest = hashlib.sha256(content).hexdigest().encode()
    return content[:blank] + digest + content[blank + 64 :]


def _place(content: bytes) -> int:
    """Position of the checksum's 64 hexadecimal digits; -1 without one."""
    mark = SEAL.encode() + b"\x12\x40"  # the field that follows the key, and its length
    at = content.rfind(mark)
    return at + len(mark) if at >= 0 else -1


def read_passport(path: Path) -> dict[str, Any]:
    """The metadata of an ONNX file of geotl, after a check of its checksum.

    Raises:
        ModelError: not there, not ONNX, not exported by geotl, or altered since.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file; export one with geotl export MODEL --format onnx")
    _check_checksum(path)
    try:
        with (
            path.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as content,
        ):
            metadata = json.loads(_metadata(content)[PASSPORT])
    except (IndexError, KeyError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path}: its checksum is right, but its metadata cannot be read; export the model "
            "again"
        ) from error
    if not isinstance(metadata, dict):
        raise ModelError(f"{path}: its metadata are not an object; export the model again")
    return metadata


def _check_checksum(path: Path) -> None:
    """Compare a file with its checksum, block by block.

    Raises:
        ModelError: there is none near the file's end, or it is broken.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = max(0, size - _TAIL)
        stream.seek(start)
        tail = stream.read()
        at = _place(tail)
        if at < 0:
            raise ModelError(
                f"{path}: not an ONNX file that geotl exported; make one with geotl export MODEL "
                "--format onnx"
            )
        stream.seek(0)
        digest, left = hashlib.sha256(), start
        while left:
            block = stream.read(min(left, 1 << 20))
            digest.update(block)
            left -= len(block)
    digest.update(tail[:at] + _BLANK.encode() + tail[at + 64 :])
    if digest.hexdigest().encode() != tail[at : at + 64]:
        raise ModelError(
            f"{path}: its content is not what geotl wrote (its checksum is wrong): damaged in "
            "copying or altered; copy it again, or export the model again"
        )


def read_proto(path: Path) -> Any:
    """A file as an onnx.ModelProto, whoever wrote it."""
    import onnx

    return onnx.load(path)


def _metadata(content: bytes | mmap.mmap) -> dict[str, str]:
    """Metadata of a serialised onnx.ModelProto, without the library: field 14, key and value.

    Raises:
        IndexError: a truncated message.
        ValueError: not such a message.
    """
    entries = [_fields(value) for value in _values(content, _METADATA_PROPS)]
    return {entry[1].decode(): entry[2].decode() for entry in entries}


def _fields(content: bytes) -> dict[int, bytes]:
    return {number: content[start:end] for number, start, end in _walk(content)}


def _values(content: bytes | mmap.mmap, wanted: int) -> Iterator[bytes]:
    for number, start, end in _walk(content):
        if number == wanted:
            yield content[start:end]


def _walk(content: bytes | mmap.mmap) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of every field of a protobuf message that has a length."""
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        if tag & 7 == 2:
            length, at = _varint(content, at)
            yield tag >> 3, at, at + length
            at += length
        elif tag & 7 == 0:
            _, at = _varint(content, at)
        else:
            at += {1: 8, 5: 4}[tag & 7]


def _varint(content: bytes | mmap.mmap, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends.

    >>> _varint(bytes([0xAC, 0x02]), 0)
    (300, 2)
    """
    value, shift = 0, 0
    while True:
        value |= (content[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if not content[at - 1] & 128:
            return value, at


def open_session(path: Path, threads: int | None = None) -> Any:
    """An onnxruntime session on the CPU.

    Raises:
        ModelError: onnxruntime is not installed, or cannot read the file.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(
            f"{path}: running it needs onnxruntime; pip install 'geotl[onnx]'"
        ) from error
    options = onnxruntime.SessionOptions()
    if threads:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except session_faults() as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"{path}: onnxruntime {onnxruntime.__version__} cannot read it; export it again, or "
            f"update onnxruntime ({reason})"
        ) from error


def session_faults() -> tuple[type[Exception], ...]:
    """Exceptions of onnxruntime, which have no common base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as bindings

    errors = vars(bindings).values()
    return tuple(one for one in errors if isinstance(one, type) and issubclass(one, Exception))
