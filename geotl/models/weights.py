"""Weight files: reading them safely, fitting their first convolution to other bands, the table.

Nothing here builds a network: `registry` does, and gets tensors by name from this module.
"""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from geotl.console import aligned
from geotl.errors import WeightsError
from geotl.imagery.sensors import sensor_from
from geotl.io.files import sha256_of
from geotl.language import joined, msg
from geotl.models.normalisation import Normalisation, from_dn

Status = Literal["loaded", "adapted", "fresh", "missing", "unused"]
Lineage = tuple[dict[str, Any], ...]

_PICKLED = (".pth", ".pt", ".ckpt", ".bin")
_PICKLE_START = b"\x80"  # the opcode that names the protocol
_REAL = ("weight", "bias", "running_mean", "running_var")
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_STANDARD = ("normalise.mean", "normalise.sd")
_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.", "net.")


@dataclass(frozen=True)
class WeightFile:
    """Content of a weight file: tensors by name, and the bands of its first convolution.

    `bands` and `wavelengths` (nm) are None where the file does not state them. `backbone` is the
    name in a geotl model file, `lineage` the provenance of the weights it was itself trained
    from, oldest first.
    """

    source: str
    sha256: str
    tensors: dict[str, Tensor]
    outside: tuple[str, ...] = ()
    backbone: str | None = None
    bands: tuple[str, ...] | None = None
    wavelengths: tuple[float | None, ...] | None = None
    normalisation: Normalisation | None = None
    notes: tuple[str, ...] = ()
    lineage: Lineage = ()


@dataclass(frozen=True)
class TensorRow:
    """One line of the table: a tensor's name, its fate, both shapes and its stage."""

    tensor: str
    status: Status
    file_shape: tuple[int, ...] | None
    network_shape: tuple[int, ...] | None
    stage: str | None


def _counted(status: Status, n: int) -> str:
    """Number of tensors of a fate."""
    if status == "loaded":
        return msg("{n} loaded", n=n)
    if status == "adapted":
        return msg("{n} adapted", n=n)
    if status == "fresh":
        return msg("{n} fresh", n=n)
    if status == "missing":
        return msg("{n} missing (not needed)", n=n)
    return msg("{n} unused", n=n)


@dataclass(frozen=True)
class WeightReport:
    """Where a backbone's weights came from and what became of each tensor.

    `normalisation` is what the file's own inputs were standardised with, if known. `lineage` is
    the provenance of the weights that the file was itself trained from, oldest first.
    `folded_batchnorm` states that batch normalisation was folded into the convolutions, so that
    it must stay in evaluation mode while training (see `backbone.hold_batchnorm`).
    """

    source: str
    sha256: str | None
    rows: tuple[TensorRow, ...]
    normalisation: Normalisation | None = None
    folded_batchnorm: bool = False
    notes: tuple[str, ...] = ()
    lineage: Lineage = ()

    def count(self, status: Status) -> int:
        """Number of tensors with this fate."""
        return sum(row.status == status for row in self.rows)

    def counted(self) -> str:
        """Number of tensors by fate; a missing tensor that is needed would be an error."""
        order: tuple[Status, ...] = ("loaded", "adapted", "fresh", "missing", "unused")
        return joined([_counted(one, self.count(one)) for one in order if self.count(one)])

    def summary(self) -> str:
        """Source, digest, counts and notes, in a few lines."""
        digest = f" (sha256 {self.sha256[:12]}…)" if self.sha256 else ""
        return "\n".join([f"weights {self.source}{digest}: {self.counted()}", *self.notes])

    def table(self) -> str:
        """Every tensor on a line: name, stage, status, shape in the file, shape here."""
        cells = [("tensor", "stage", "status", "in the file", "in the network")]
        cells += [
            (r.tensor, r.stage or "-", r.status, _shape(r.file_shape), _shape(r.network_shape))
            for r in self.rows
        ]
        return "\n".join(aligned(cells, left=range(5)))

    def provenance(self) -> dict[str, Any]:
        """The same as plain JSON values, to be kept in a model file.

        `chain` has every file that had a part in these weights, oldest first, this one last.
        """
        this_file = {
            "source": self.source,
            "sha256": self.sha256,
            "tensors": dict(Counter(row.status for row in self.rows)),
            "normalisation": None if self.normalisation is None else asdict(self.normalisation),
            "folded_batchnorm": self.folded_batchnorm,
            "notes": list(self.notes),
        }
        return {**this_file, "chain": [*self.lineage, this_file] if self.sha256 else []}


def _shape(shape: tuple[int, ...] | None) -> str:
    return "-" if shape is None else "x".join(map(str, shape)) or "scalar"


def read_weight_file(path: Path) -> WeightFile:
    """Read a .pth (weights_only: no code is run) or .safetensors file onto the CPU.

    Wrappers such as Lightning's "state_dict" and prefixes such as DataParallel's "module." are
    removed; a geotl model file gives only the tensors of its backbone.

    Raises:
        WeightsError: missing, empty, damaged, holding code, or of a format that is not read.
    """
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f"{path}: a folder; give the .pth or .safetensors file in it")
    if not path.is_file():
        raise WeightsError(
            f"{path}: no such weight file; give 'none', a published name such as "
            "ResNet18_Weights.IMAGENET1K_V1 or torchgeo:ResNet18_Weights.SENTINEL2_ALL_MOCO, "
            "'pretrained' for one of timm's networks, or a .pth or .safetensors file"
        )
    if path.stat().st_size == 0:
        raise WeightsError(f"{path}: the weight file is empty; fetch it again")
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    if path.suffix.lower() in _PICKLED:
        return _weight_file(path, read_pickled(path))
    raise WeightsError(
        f"{path}: weights are read from {', '.join(_PICKLED)} and .safetensors, "
        f"not {path.suffix or 'a file without a suffix'}; convert it to .safetensors"
    )


def read_pickled(path: Path) -> dict[str, Tensor]:
    """The tensors of a file written by torch.save, unpickled without running code.

    Raises:
        WeightsError: the file holds code, is damaged, or has no tensors by name.
    """
    try:
        with warnings.catch_warnings():
            # torch warns of pickles that it then rejects; the error below is enough
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged pickles raise errors of every kind; none may pass
        raise refusal(path, error) from error
    return tensors_of(path, content)


def refusal(path: Path, error: Exception) -> WeightsError:
    """Error for a pickle that torch does not read: code inside, or damage."""
    message = str(error)
    match = re.search(r"GLOBAL ([A-Za-z_]\w*(?:\.\w+)+)\s", message)
    bare = "Unsupported operand" in message and path.read_bytes()[:1] == _PICKLE_START
    if match or bare or "TorchScript" in message or "Trying to call reduce" in message:
        what = match.group(1) if match else "a TorchScript or pickle of its own kind"
        return WeightsError(
            f"{path}: contains Python code or objects ({what}), not only tensors; nothing was "
            "run: save only the state_dict, best as .safetensors"
        )
    return WeightsError(
        f"{path}: not a readable weight file ({type(error).__name__}); it may be truncated or "
        "damaged: fetch it again"
    )


def tensors_of(path: Path, content: Any) -> dict[str, Tensor]:
    """The named tensors in what was unpickled, out of any wrapper around them.

    Raises:
        WeightsError: there are none.
    """
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = (
        {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not tensors:
        raise WeightsError(f"{path}: has no tensors by name; save a model's state_dict")
    return tensors


def _check_numbers(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Reject weights that are not real numbers.

    Raises:
        WeightsError: complex numbers, or weights as integers.
    """
    for name, value in tensors.items():
        weight = name.rpartition(".")[2] in _REAL
        if value.is_complex() or value.is_quantized or (weight and not value.is_floating_point()):
            raise WeightsError(
                f"{path}: {name} has {str(value.dtype).removeprefix('torch.')} values; allowed: "
                "floating point, such as float32: save the weights before they are quantised"
            )


def _weight_file(path: Path, tensors: dict[str, Tensor]) -> WeightFile:
    """A foreign file's tensors under plain names."""
    _check_numbers(path, tensors)
    inside, outside = strip_prefixes(tensors)
    return WeightFile(str(path), sha256_of(path), inside, outside)


def strip_prefixes(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Take off the prefixes that wrappers add, where at least half of the names carry them.

    Returns the tensors under their plain names, and the names that lay outside the prefix.

    >>> inside, outside = strip_prefixes({"model.module.conv1.weight": torch.ones(1),
    ...     "model.module.fc.bias": torch.ones(1), "loss.weight": torch.ones(1)})
    >>> sorted(inside), outside
    (['conv1.weight', 'fc.bias'], ('loss.weight',))
    """
    inside: dict[str, Tensor] = dict(tensors)
    outside: list[str] = []
    while True:
        for prefix in _PREFIXES:
            carrying = [n for n in inside if n.startswith(prefix)]
            if carrying and 2 * len(carrying) >= len(inside):
                break
        else:
            return inside, tuple(outside)
        outside += [n for n in inside if not n.startswith(prefix)]
        inside = {n.removeprefix(prefix): inside[n] for n in carrying}


def _read_safetensors(path: Path) -> WeightFile:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            described = (file.metadata() or {}).get("geotl")
            names: list[str] = file.keys()
            prefixes = ("backbone.stages.", *_STANDARD)
            wanted = [n for n in names if described is None or n.startswith(prefixes)]
            tensors = {name: file.get_tensor(name) for name in wanted}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{path}: not a readable .safetensors file; it may be truncated or damaged: "
            "fetch it again"
        ) from error
    if described is None:
        return _weight_file(path, tensors)
    return _model_file(path, tensors, described)


def _model_file(path: Path, tensors: dict[str, Tensor], described: str) -> WeightFile:
    """A geotl model file as a source: its backbone's tensors, named from `stages.` on."""
    _check_numbers(path, tensors)
    figures = [tensors.pop(name).tolist() for name in _STANDARD if name in tensors]
    try:
        contract = json.loads(described)
        bands = tuple(str(b) for b in contract["bands"])
        nm = tuple(None if w is None else float(w) for w in contract["wavelengths"])
        backbone = str(contract["backbone"])
        sensor = sensor_from(contract["sensor"]) if len(figures) == len(_STANDARD) else None
        lineage = tuple(dict(entry) for entry in contract.get("weights", {}).get("chain", ()))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise WeightsError(
            f"{path}: a geotl model file with a header that does not name its backbone, bands and "
            "wavelengths; write it again with this version"
        ) from error
    return WeightFile(
        str(path),
        sha256_of(path),
        {n.removeprefix("backbone."): t for n, t in tensors.items()},
        backbone=backbone,
        bands=bands,
        wavelengths=nm,
        normalisation=from_dn(sensor, bands, *figures) if sensor else None,
        lineage=lineage,
    )


@dataclass(frozen=True)
class Slot:
    """A tensor the network would take: its name in weight files, its stage and shape.

    `fate` is that of the stage: loaded, started at random, or cut off. The first
    convolution's number of bands may differ (`any_bands`).
    """

    tensor: str
    stage: str
    shape: tuple[int, ...]
    fate: Literal["load", "fresh", "cut"] = "load"
    any_bands: bool = False

    def takes(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of this shape fits.

        >>> Slot("conv1.weight", "stem", (64, 3, 7, 7), any_bands=True).takes((64, 13, 7, 7))
        True
        """
        if self.any_bands and len(shape) == len(self.shape):
            return (shape[0], *shape[2:]) == (self.shape[0], *self.shape[2:])
        return tuple(shape) == self.shape


def table_rows(
    file: WeightFile, slots: Sequence[Slot], head: tuple[str, ...]
) -> tuple[tuple[TensorRow, ...], list[str]]:
    """The fate of every tensor, and the faults that make the file one of another architecture.

    `head` has the prefixes of the stock head's tensors, which are never used.
    """
    rows: list[TensorRow] = []
    faults: list[str] = []
    for slot in slots:
        value = file.tensors.get(slot.tensor)
        shape = None if value is None else tuple(value.shape)
        status: Status = "missing" if value is None else "unused"
        if slot.fate == "load" and value is not None:
            status = "loaded"
            if not slot.takes(value.shape):
                faults.append(f"{slot.tensor} is {_shape(shape)}, not {_shape(slot.shape)}")
        elif slot.fate == "fresh" and value is None:
            status = "fresh"
        rows.append(TensorRow(slot.tensor, status, shape, slot.shape, slot.stage))
    slot_names = {slot.tensor for slot in slots}
    for name, tensor in file.tensors.items():
        if name not in slot_names:
            rows.append(TensorRow(name, "unused", tuple(tensor.shape), None, None))
            if not name.startswith(head):
                faults.append(f"{name} has no place in it")
    return tuple(rows), faults


def lacking(rows: Sequence[TensorRow], slots: Sequence[Slot]) -> list[Slot]:
    """The slots to be loaded that the file leaves empty.

    Batch normalisation's count of batches is not among them: it plays no part in its result,
    and older files lack it.
    """
    empty = {row.tensor for row in rows if row.status == "missing"}
    return [
        slot
        for slot in slots
        if slot.fate == "load"
        and slot.tensor in empty
        and not slot.tensor.endswith("num_batches_tracked")
    ]


def check_values(file: WeightFile, names: Sequence[str]) -> None:
    """Reject tensors with NaN or infinity.

    Raises:
        WeightsError: one of the named tensors does.
    """
    for name in names:
        if not bool(torch.isfinite(file.tensors[name]).all()):
            raise WeightsError(
                f"{file.source}: tensor {name} has NaN or infinity; the training that wrote "
                "it failed or the file is damaged: use another file"
            )


def is_folded(file: WeightFile, names: Sequence[str]) -> bool:
    """Whether every batch normalisation among the named tensors has mean 0 and variance 1."""
    means = [file.tensors[n] for n in names if n.endswith("running_mean")]
    variances = [file.tensors[n] for n in names if n.endswith("running_var")]
    return bool(means) and (
        all(bool((mean == 0).all()) for mean in means)
        and all(bool(((v - 1).abs() < 1e-4).all()) for v in variances)
    )
