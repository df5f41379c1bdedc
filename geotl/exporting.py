"""A model exported: written beside, run in its own runtime, compared with the model, then kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from geotl.deployed import Deployed, deployed
from geotl.engines import Runner
from geotl.errors import OutputError, UnfinishedError
from geotl.files import whole_file
from geotl.graphs import (
    run_onnx,
    run_pt2,
    run_torchscript,
    write_onnx,
    write_pt2,
    write_torchscript,
)  # fmt: skip
from geotl.modelfile import ModelFile
from geotl.parity import TOLERANCE, Parity, compare, example_tiles
from geotl.passports import passport

GraphFormat = Literal["onnx", "pt2", "torchscript"]
Say = Callable[[str], None]


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
class Exported:
    """A finished file and how it compares with its model."""

    path: Path
    parity: Parity


def export_graph(
    model: ModelFile, form: GraphFormat, path: Path, *, views: int | None = None,
    overwrite: bool = False, say: Say = print,
) -> Exported:  # fmt: skip
    """Export a model as a graph that takes raw pixels and gives calibrated probabilities.

    Args:
        model: to export.
        form: which runtime's.
        path: to write to; it appears only once it has been run and found to say the same.
        views: flips and quarter turns averaged, None for the model's own.
        overwrite: replace what is there.
        say: told every line.

    Raises:
        OutputError: the file exists or cannot be written.
        UnfinishedError: it does not say what the model says; nothing is left.
    """
    check_absent(path, overwrite=overwrite)
    kind, module = KINDS[form], deployed(model, views)
    tiles = example_tiles(model)
    told = passport(model, views=len(module.views), precision="float32")
    with whole_file(path) as part:
        kind.write(module, torch.from_numpy(_several(tiles)), part, told)
        found = compare(module, kind.run(part), tiles)
        say(str(found))
        if not found.logits <= TOLERANCE:
            raise UnfinishedError(
                f"{path}: logits {found.logits:.2g} from the model's, more than {TOLERANCE:.0e}; "
                "nothing was kept"
            )
    say(f"{form.ljust(8)} {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return Exported(path, found)


def check_absent(path: Path, *, overwrite: bool) -> None:
    """Refuse to replace a file unless told to.

    Raises:
        OutputError: it exists.
    """
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists; choose another path or give --overwrite")


def _several(tiles: Any) -> Any:
    """Three tiles: a batch of one or two would be taken for a constant."""
    return tiles[[0, 0, 0]]
