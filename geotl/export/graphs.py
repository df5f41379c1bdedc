"""A deployed network as a file of another runtime, and those files run.

torch.export's graph is made once; ONNX is translated from it. Nothing here knows geotl's recipes or
model files: a module and example tiles go in.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geotl.arrays import Float32s
from geotl.export.deployable import Deployed
from geotl.inference.engines import Runner, open_runner
from geotl.inference.onnx_file import INPUT, IR_VERSION, OPSET, OUTPUTS, seal

PASSPORT_FILE = "geotl.json"
_WRITTEN_BY_ITSELF = ("version", ".data/version", ".data/serialization_id")


def exported(module: Deployed, tiles: Tensor) -> torch.export.ExportedProgram:
    """torch.export's graph for any batch size, of tiles [N,C,S,S] with N >= 2."""
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        graph = torch.export.export(module, (tiles,), dynamic_shapes={INPUT: {0: batch}})
    for part in graph.graph_module.modules():
        if isinstance(part, torch.fx.GraphModule):
            for node in part.graph.nodes:  # where the code lay is nobody's business
                node.meta.pop("stack_trace", None)
    return graph


def write_pt2(module: Deployed, tiles: Tensor, path: Path, told: Mapping[str, Any]) -> None:
    """Write torch.export's format; `geotl.json` inside it says what the model is."""
    extra = {PASSPORT_FILE: json.dumps(told)}
    held = io.BytesIO()  # a path would give its name, a temporary one, to the archive's root
    torch.export.save(exported(module, tiles), held, extra_files=extra)
    path.write_bytes(held.getbuffer())


def write_torchscript(module: Deployed, tiles: Tensor, path: Path, told: Mapping[str, Any]) -> None:
    """Write TorchScript, for those who still deploy it in C++."""
    with warnings.catch_warnings():
        # That TorchScript is deprecated is known, and said in the documentation; what the tracer
        # warns of are sizes that are fixed on purpose: all but the batch's.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        with torch.no_grad():
            traced = torch.jit.trace(module, (tiles,), check_trace=False)  # type: ignore[no-untyped-call]
        held = io.BytesIO()
        torch.jit.save(traced, held, _extra_files={PASSPORT_FILE: json.dumps(told)})
    path.write_bytes(_without_debugging(held))


def _without_debugging(archive: io.BytesIO) -> bytes:
    """TorchScript's archive without the places of the source on the machine it was made on."""
    archive.seek(0)
    reader, made = torch._C.PyTorchFileReader(archive), io.BytesIO()
    writer = torch._C.PyTorchFileWriter(made)
    for name in reader.get_all_records():
        if not name.endswith(".debug_pkl") and name not in _WRITTEN_BY_ITSELF:
            content = reader.get_record(name)
            writer.write_record(name, content, len(content))
    writer.write_end_of_file()
    return made.getvalue()


def write_onnx(module: Deployed, tiles: Tensor, path: Path, told: Mapping[str, Any]) -> None:
    """Write one ONNX file for any batch size, that says what it is and is sealed with its hash."""
    seal(onnx_of(exported(module, tiles), OUTPUTS), path, told)


def onnx_of(graph: torch.export.ExportedProgram, outputs: Sequence[str]) -> Any:
    """An onnx.ModelProto that onnxruntime 1.17 still reads, of a graph with one input."""
    program = torch.onnx.export(
        graph,
        dynamo=True,
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=list(outputs),
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export gave nothing")
    proto = program.model_proto
    proto.ir_version = IR_VERSION
    for node in proto.graph.node:  # where in PyTorch's graph it came from
        del node.metadata_props[:]
    return proto


def run_pt2(path: Path) -> Runner:
    """Run a file of torch.export."""
    module = torch.export.load(path).module()
    return running(module)


def run_torchscript(path: Path) -> Runner:
    """Run a file of TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # as in write_torchscript
        return running(torch.jit.load(str(path), map_location="cpu"))  # type: ignore[no-untyped-call]


def run_onnx(path: Path) -> Runner:
    """Run an ONNX file in onnxruntime on the CPU."""
    return open_runner(path, "onnxruntime", precision="float32", threads=torch.get_num_threads())


def running(module: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Runner:
    """Run a module of PyTorch's, a deployed network or one that was loaded."""

    def run(tiles: Float32s) -> tuple[Float32s, Float32s]:
        with torch.no_grad():
            chances, logits = module(torch.from_numpy(tiles))
        return chances.numpy(), logits.numpy()

    return run
