"""A model exported: written to a temporary file, run in its own runtime, compared, then kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from geotl.console import Log
from geotl.errors import ModelError, SettingError
from geotl.export.deployable import Deployed, deployed, folded, halved
from geotl.export.graphs import (
    LIMITS,
    Limits,
    Parity,
    Precision,
    compare,
    example_tiles,
    run_onnx,
    run_pt2,
    run_torchscript,
    running,
    write_onnx,
    write_pt2,
    write_torchscript,
)
from geotl.export.metadata import model_metadata
from geotl.export.quantise import Loss, halves, quantise, raw_batches, rounding_loss
from geotl.inference.onnx_file import Runner, read_proto, seal
from geotl.io.files import check_absent, scratch_folder, whole_file
from geotl.models.model_file import ModelFile, bare, load, save

GraphFormat = Literal["onnx", "pt2", "torchscript"]


@dataclass(frozen=True)
class Kind:
    """How a graph format is written and run, and what its files end in."""

    write: Callable[[Deployed, torch.Tensor, Path, Mapping[str, Any]], None]
    run: Callable[[Path], Runner]
    suffix: str


KINDS: dict[GraphFormat, Kind] = {
    "onnx": Kind(write_onnx, run_onnx, ".onnx"),
    "pt2": Kind(write_pt2, run_pt2, ".pt2"),
    "torchscript": Kind(write_torchscript, run_torchscript, ".pt"),
}


@dataclass(frozen=True)
class Rounding:
    """How a network is rounded.

    Attributes:
        precision: number format of the backbone; other than float32 in ONNX alone.
        tiles: labelled tiles to measure int8's ranges and its loss on.
        max_lost: percentage points of accuracy that int8 may cost.
    """

    precision: Precision = "float32"
    tiles: Path | None = None
    max_lost: float = 1.0

    def check(self, form: str) -> None:
        """Reject options that do not go together.

        Raises:
            SettingError: another format than ONNX, int8 without tiles, or tiles without int8.
        """
        if self.precision != "float32" and form != "onnx":
            raise SettingError(
                f"--precision {self.precision}: only for --format onnx; {form} is written in "
                "float32"
            )
        if self.precision == "int8" and self.tiles is None:
            raise SettingError(
                "--precision int8: give labelled tiles with --tiles DATA, to measure ranges on one "
                "half of them and what rounding costs on the other"
            )
        if self.precision != "int8" and self.tiles is not None:
            raise SettingError(f"--tiles: only for --precision int8, not {self.precision}")
        if not self.max_lost >= 0:
            raise SettingError(f"--max-loss: given {self.max_lost:g}; allowed: 0 or more")


@dataclass(frozen=True)
class Exported:
    """A finished file, how it compares with its model, and what rounding cost where measured."""

    path: Path
    parity: Parity
    loss: Loss | None = None


def export_graph(
    model: ModelFile,
    form: GraphFormat,
    path: Path,
    *,
    views: int | None = None,
    rounding: Rounding = Rounding(),
    overwrite: bool = False,
    log: Log = print,
) -> Exported:
    """Export a model as a graph from raw pixels to calibrated probabilities.

    Args:
        model: to export.
        form: which runtime's.
        path: to write to; it appears only after a run with the same predictions.
        views: flips and quarter turns averaged, None for the model's own.
        rounding: number format, and what int8 needs.
        overwrite: replace what is there.
        log: gets every line.

    Raises:
        SettingError: options that do not go together.
        DataError: tiles that cannot be used.
        OutputError: the file exists or cannot be written.
        ModelError: its predictions differ from the model's; no file is left.
    """
    rounding.check(form)
    check_absent(path, overwrite=overwrite)
    kind, module = KINDS[form], deployed(model, views)
    tiles = example_tiles(model)
    metadata = model_metadata(model, views=len(module.views), precision=rounding.precision)
    with whole_file(path) as part:
        loss = None
        if rounding.precision == "int8":
            loss = write_int8(model, module, part, metadata, rounding, log=log)
        else:
            deployed_module = halved(module) if rounding.precision == "float16" else module
            kind.write(deployed_module, torch.from_numpy(_several(tiles)), part, metadata)
        parity = compare(module, kind.run(part), tiles)
        log(str(parity))
        check_parity(path, parity, LIMITS[rounding.precision])
    log(f"{form.ljust(8)} {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return Exported(path, parity, loss)


def export_bare(
    model: ModelFile, path: Path, *, overwrite: bool = False, log: Log = print
) -> Exported:
    """Export a model as a safetensors file with nothing of its training tiles.

    Args:
        model: to export.
        path: to write to; it appears only after it was loaded with the same predictions.
        overwrite: replace what is there.
        log: gets every line.

    Raises:
        OutputError: the file exists or cannot be written.
        ModelError: its predictions differ from the model's; no file is left.
    """
    check_absent(path, overwrite=overwrite)
    with whole_file(path) as part:
        save(part, bare(model))
        parity = compare(deployed(model), running(deployed(load(part))), example_tiles(model))
        log(str(parity))
        check_parity(path, parity, LIMITS["float32"])
    log(f"safetensors {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return Exported(path, parity)


def check_parity(path: Path, parity: Parity, limits: Limits) -> None:
    """Reject a file with other predictions than its model.

    Raises:
        ModelError: a difference is beyond its limit.
    """
    fault = parity.fault(limits)
    if fault:
        raise ModelError(f"{path}: {fault}; nothing was kept")


def write_int8(
    model: ModelFile,
    module: Deployed,
    path: Path,
    metadata: Mapping[str, Any],
    rounding: Rounding,
    *,
    log: Log,
) -> Loss:
    """Write a rounded ONNX file, and compare its accuracy with the unrounded one.

    Args:
        model: its tiles are read.
        module: the model deployed.
        path: to write to; the metadata contain the loss.
        metadata: of the file.
        rounding: with tiles.
        log: gets the loss.

    Raises:
        DataError: tiles that cannot be used.
        ModelError: rounding costs more than it may.
    """
    contract = model.contract
    split = halves(contract, rounding.tiles or "")
    tiles = torch.from_numpy(_several(example_tiles(model)))
    with scratch_folder(path) as folder:
        full, rounded = folder / "full.onnx", folder / "int8.onnx"
        write_onnx(folded(module), tiles, full, metadata)
        quantise(full, rounded, raw_batches(contract, split.measured))
        loss = rounding_loss((run_onnx(full), run_onnx(rounded)), contract, split)
        log(str(loss))
        if loss.points.value > rounding.max_lost:
            raise ModelError(
                f"{rounding.tiles}: int8 costs {loss.points.value:.2f} percentage points of "
                f"accuracy, more than --max-loss {rounding.max_lost:g}; no file is written: export "
                "float16, or allow more"
            )
        seal(read_proto(rounded), path, {**metadata, "rounding": dataclasses.asdict(loss)})
    return loss


def _several(tiles: Any) -> Any:
    """Three tiles: a batch of one or two would be taken for a constant."""
    return tiles[[0, 0, 0]]
