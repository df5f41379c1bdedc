"""A deployed network as a file of another runtime, and those files run.

torch.export's graph is made once; ONNX is translated from it. Nothing here knows geotl's recipes or
model files: a module and example tiles go in.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geotl.deployed import INPUT, OUTPUTS, Deployed
from geotl.onnxfiles import IR_VERSION, OPSET, open_session, seal

Floats = NDArray[np.float32]
Runner = Callable[[Floats], tuple[Floats, Floats]]  # tiles [N,C,S,S] to probabilities and logits
PASSPORT_FILE = "geotl.json"


def exported(module: Deployed, tiles: Tensor) -> torch.export.ExportedProgram:
    """torch.export's graph for any batch size, of tiles [N,C,S,S] with N >= 2."""
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        graph = torch.export.export(module, (tiles,), dynamic_shapes={INPUT: {0: batch}})
    for part in graph.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # folders of this machine, in every file made of it
    return graph


def write_pt2(module: Deployed, tiles: Tensor, path: Path, told: Mapping[str, Any]) -> None:
    """Write torch.export's format; `geotl.json` inside it says what the model is."""
    extra = {PASSPORT_FILE: json.dumps(told)}
    torch.export.save(exported(module, tiles), path, extra_files=extra)


def write_torchscript(module: Deployed, tiles: Tensor, path: Path, told: Mapping[str, Any]) -> None:
    """Write TorchScript, for those who still deploy it in C++."""
    with warnings.catch_warnings():
        # That TorchScript is deprecated is known, and said in the documentation; what the tracer
        # warns of are sizes that are fixed on purpose: all but the batch's.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        with torch.no_grad():
            traced = torch.jit.trace(module, (tiles,), check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, str(path), _extra_files={PASSPORT_FILE: json.dumps(told)})


def write_onnx(module: Deployed, tiles: Tensor, path: Path, told: Mapping[str, Any]) -> None:
    """Write one ONNX file for any batch size, that says what it is and is sealed with its hash."""
    graph = exported(module, tiles)
    program = torch.onnx.export(
        graph, dynamo=True, opset_version=OPSET, input_names=[INPUT], output_names=list(OUTPUTS),
        verbose=False,
    )  # fmt: skip
    if program is None:
        raise RuntimeError("torch.onnx.export gave nothing")
    proto = program.model_proto
    proto.ir_version = IR_VERSION
    seal(proto, path, told)


def run_pt2(path: Path) -> Runner:
    """Run a file of torch.export."""
    module = torch.export.load(path).module()
    return _of_torch(module)


def run_torchscript(path: Path) -> Runner:
    """Run a file of TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # as in write_torchscript
        return _of_torch(torch.jit.load(str(path), map_location="cpu"))  # type: ignore[no-untyped-call]


def run_onnx(path: Path) -> Runner:
    """Run an ONNX file in onnxruntime on the CPU."""
    session = open_session(path)

    def run(tiles: Floats) -> tuple[Floats, Floats]:
        chances, logits = session.run(list(OUTPUTS), {INPUT: tiles})
        return np.asarray(chances, np.float32), np.asarray(logits, np.float32)

    return run


def _of_torch(module: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Runner:
    def run(tiles: Floats) -> tuple[Floats, Floats]:
        with torch.no_grad():
            chances, logits = module(torch.from_numpy(tiles))
        return chances.numpy(), logits.numpy()

    return run
