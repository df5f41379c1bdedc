"""A model exported: written beside, run in its own runtime, compared with the model, then kept."""

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
from geotl.export.metadata import passport
from geotl.export.quantise import Loss, halves, judge, quantise, raw_batches
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
        most_lost: percentage points of accuracy that int8 may cost.
    """

    precision: Precision = "float32"
    tiles: Path | None = None
    most_lost: float = 1.0

    def check(self, form: str) -> None:
        """Refuse what does not go together.

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
        if not self.most_lost >= 0:
            raise SettingError(f"--max-loss: given {self.most_lost:g}; allowed: 0 or more")


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
    say: Log = print,
) -> Exported:
    """Export a model as a graph that takes raw pixels and gives calibrated probabilities.

    Args:
        model: to export.
        form: which runtime's.
        path: to write to; it appears only once it has been run and found to say the same.
        views: flips and quarter turns averaged, None for the model's own.
        rounding: number format, and what int8 needs.
        overwrite: replace what is there.
        say: told every line.

    Raises:
        SettingError: options that do not go together.
        DataError: tiles that cannot be used.
        OutputError: the file exists or cannot be written.
        ModelError: it does not say what the model says; nothing is left.
    """
    rounding.check(form)
    check_absent(path, overwrite=overwrite)
    kind, module = KINDS[form], deployed(model, views)
    tiles = example_tiles(model)
    told = passport(model, views=len(module.views), precision=rounding.precision)
    with whole_file(path) as part:
        loss = None
        if rounding.precision == "int8":
            loss = write_int8(model, module, part, told, rounding, say=say)
        else:
            made = halved(module) if rounding.precision == "float16" else module
            kind.write(made, torch.from_numpy(_several(tiles)), part, told)
        found = compare(module, kind.run(part), tiles)
        say(str(found))
        check_parity(path, found, LIMITS[rounding.precision])
    say(f"{form.ljust(8)} {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return Exported(path, found, loss)


def export_bare(
    model: ModelFile, path: Path, *, overwrite: bool = False, say: Log = print
) -> Exported:
    """Export a model as a safetensors file with nothing of its training tiles.

    Args:
        model: to export.
        path: to write to; it appears only once it has been loaded and found to say the same.
        overwrite: replace what is there.
        say: told every line.

    Raises:
        OutputError: the file exists or cannot be written.
        ModelError: it does not say what the model says; nothing is left.
    """
    check_absent(path, overwrite=overwrite)
    with whole_file(path) as part:
        save(part, bare(model))
        found = compare(deployed(model), running(deployed(load(part))), example_tiles(model))
        say(str(found))
        check_parity(path, found, LIMITS["float32"])
    say(f"safetensors {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return Exported(path, found)


def check_parity(path: Path, found: Parity, limits: Limits) -> None:
    """Refuse a file that is not what its model is.

    Raises:
        ModelError: a difference is beyond its limit.
    """
    fault = found.fault(limits)
    if fault:
        raise ModelError(f"{path}: {fault}; nothing was kept")


def write_int8(
    model: ModelFile,
    module: Deployed,
    path: Path,
    told: Mapping[str, Any],
    rounding: Rounding,
    *,
    say: Log,
) -> Loss:
    """Write a rounded ONNX file, and judge it beside the unrounded one.

    Args:
        model: whose tiles are read.
        module: the model deployed.
        path: to write to; the passport tells the loss.
        told: the passport.
        rounding: with tiles.
        say: told the loss.

    Raises:
        DataError: tiles that cannot be used.
        ModelError: rounding costs more than it may.
    """
    contract = model.contract
    found = halves(contract, rounding.tiles or "")
    tiles = torch.from_numpy(_several(example_tiles(model)))
    with scratch_folder(path) as folder:
        full, made = folder / "full.onnx", folder / "int8.onnx"
        write_onnx(folded(module), tiles, full, told)
        quantise(full, made, raw_batches(contract, found.measured))
        loss = judge((run_onnx(full), run_onnx(made)), contract, found)
        say(str(loss))
        if loss.points.value > rounding.most_lost:
            raise ModelError(
                f"{rounding.tiles}: int8 costs {loss.points.value:.2f} percentage points of "
                f"accuracy, more than --max-loss {rounding.most_lost:g}; nothing was kept: export "
                "float16, or allow more"
            )
        seal(read_proto(made), path, {**told, "rounding": dataclasses.asdict(loss)})
    return loss


def _several(tiles: Any) -> Any:
    """Three tiles: a batch of one or two would be taken for a constant."""
    return tiles[[0, 0, 0]]
