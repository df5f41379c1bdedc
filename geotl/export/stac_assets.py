"""The files of a model's STAC item: what each is, its size and its checksum."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from geotl.errors import ModelError, OutputError
from geotl.inference.onnx_file import read_passport
from geotl.io.files import sha256_of

_PASSPORT = "geotl.json"  # the name that `graphs` uses inside the archives of torch
_BYTES = "application/octet-stream"
_RUNS = ("mlm:model", "mlm:compiled", "model", "data")


@dataclass(frozen=True)
class ModelAsset:
    """One file of a model.

    Attributes:
        key: its name in the item; `path`, where it lies; `href`, how the item calls it.
        title, media, roles: what it is; `more`, further fields.
    """

    key: str
    path: Path
    href: str
    title: str
    media: str
    roles: tuple[str, ...]
    size: int
    sha256: str
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_model(self) -> bool:
        """Whether it is the model in some format."""
        return "mlm:model" in self.roles

    def entry(self) -> dict[str, Any]:
        """As the item lists it; a multihash begins with the code and the length of sha2-256."""
        return {
            "href": self.href,
            "type": self.media,
            "title": self.title,
            "roles": list(self.roles),
            "file:size": self.size,
            "file:checksum": f"1220{self.sha256}",
            **self.more,
        }


@dataclass(frozen=True)
class _Sort:
    key: str
    title: str
    media: str
    roles: tuple[str, ...]
    more: Mapping[str, Any] = field(default_factory=dict)


_SORTS = {
    ".safetensors": _Sort(
        "model",
        "The model: weights, contract and samples of the training data, for geotl",
        _BYTES,
        ("mlm:model", "mlm:weights", "model", "weights", "data"),
        {"mlm:artifact_type": "safetensors.torch.save_file"},
    ),
    ".onnx": _Sort(
        "model-onnx",
        "The model as ONNX: raw pixels in, calibrated probabilities out",
        f"{_BYTES}; application=onnx",
        _RUNS,
        {"mlm:artifact_type": "onnx", "mlm:framework": "ONNX"},
    ),
    ".pt2": _Sort(
        "model-pt2",
        "The model as torch.export's program",
        f"{_BYTES}; framework=pytorch",
        _RUNS,
        {"mlm:artifact_type": "torch.export.save"},
    ),
    ".pt": _Sort(
        "model-torchscript",
        "The model as TorchScript",
        f"{_BYTES}; framework=pytorch",
        _RUNS,
        {"mlm:artifact_type": "torch.jit.save", "mlm:compile_method": "jit"},
    ),
    ".npy": _Sort("array", "An array of raw pixel values", _BYTES, ("data",)),
    ".tif": _Sort("raster", "Raw pixel values", "image/tiff; application=geotiff", ("data",)),
    ".json": _Sort("facts", "Facts", "application/json", ("metadata",)),
    ".md": _Sort("readme", "The model card", "text/markdown", ("metadata",)),
    ".html": _Sort("report", "The report of the run", "text/html", ("metadata",)),
    ".yaml": _Sort("recipe", "The recipe of the run", "application/yaml", ("metadata",)),
    ".png": _Sort("picture", "A picture", "image/png", ("overview",)),
}
_OTHER = _Sort("file", "A further file", _BYTES, ("data",))


def assets_of(model: Path, others: Sequence[Path], item: Path) -> list[ModelAsset]:
    """A model's file and others, as an item at a path would name them.

    Args:
        model: the model's own file.
        others: further files; what is a model must be an export of this very file.
        item: the item's path, which hrefs are relative to.

    Raises:
        ModelError: a file is missing, twice there, or an export of another model.
    """
    digest = sha256_of(model)
    assets = [described(model, item, set())]
    for path in others:
        if path.resolve() in {one.path.resolve() for one in assets}:
            raise ModelError(f"{path}: given twice as an asset; name each file once")
        one = described(path, item, {had.key for had in assets})
        if one.is_model:
            _check_origin(path, model, digest)
        assets.append(one)
    return assets


def described(path: Path, item: Path, used: set[str]) -> ModelAsset:
    """One file as an item at `item` would name it, under a key that is not among those used.

    Raises:
        ModelError: it is not there.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file; give assets that exist with --asset")
    sort = _SORTS.get(path.suffix.lower(), _OTHER)
    key, again = sort.key, 1
    while key in used:
        again += 1
        key = f"{sort.key}-{again}"
    return ModelAsset(
        key,
        path,
        _href(path, item),
        sort.title,
        sort.media,
        sort.roles,
        path.stat().st_size,
        sha256_of(path),
        sort.more,
    )


def _href(path: Path, item: Path) -> str:
    """A file's address relative to an item's.

    Raises:
        OutputError: there is none, as between two drives.
    """
    try:
        way = os.path.relpath(path.resolve(), item.resolve().parent)
    except ValueError as error:
        raise OutputError(
            f"{item}: cannot name {path}, which lies on another drive; write beside it"
        ) from error
    steps = quote(Path(way).as_posix())
    return steps if steps.startswith("../") else f"./{steps}"


def _check_origin(path: Path, model: Path, digest: str) -> None:
    """Reject an export of another model.

    Raises:
        ModelError: it is none of geotl's, or of another model.
    """
    made_from = _metadata_in(path).get("model_sha256")
    if made_from != digest:
        raise ModelError(
            f"{path}: exported from another model than {model} (sha256 "
            f"{str(made_from)[:12]}…, here {digest[:12]}…); export it again, or leave it out"
        )


def _metadata_in(path: Path) -> Mapping[str, Any]:
    """The metadata of an export.

    Raises:
        ModelError: nothing.
    """
    if path.suffix.lower() == ".onnx":
        return read_passport(path)
    if path.suffix.lower() == ".safetensors":
        raise ModelError(f"{path}: a second model; an item describes one, with its exports")
    try:
        with zipfile.ZipFile(path) as archive:
            inside = [n for n in archive.namelist() if n.rpartition("/")[2] == _PASSPORT]
            metadata: Mapping[str, Any] = json.loads(archive.read(inside[0]))
    except (zipfile.BadZipFile, IndexError, ValueError) as error:
        raise ModelError(
            f"{path}: not a file that geotl exported; make one with geotl export MODEL"
        ) from error
    return metadata
