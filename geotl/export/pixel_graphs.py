"""Graphs of pixel models for images of any size; in ONNX forests are tree ensembles."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geotl.export.graphs import onnx_of, program_of
from geotl.export.pixel_network import PixelNetwork, rows_of
from geotl.inference.onnx_file import INPUT, OUTPUTS
from geotl.models.pixel_model import FLOOR, ForestMember, PixelModel

ML_DOMAIN, ML_OPSET = "ai.onnx.ml", 3  # as onnxruntime 1.17 has it
AXES = ("batch", "height", "width")
_OWN = "fusion."  # how the names of what is added to torch's graph begin
_SCORES, _ROWS = _OWN + "linear", _OWN + "features_{}"


class BeforeForests(nn.Module):
    """A pixel model up to its forests: scores of the linear members, and each forest's features."""

    def __init__(self, network: PixelNetwork) -> None:
        """Stop before the forests."""
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Scores float64 [N,K,H,W], and features [N*H*W,D] of each forest."""
        scores, blocks = self.network.linear_scores(image)
        return scores, *(rows_of(blocks, names) for names in self.network.forest_blocks)


def pixel_program(module: nn.Module, image: Tensor) -> torch.export.ExportedProgram:
    """torch.export's graph for any number of images of any size, from [N,C,H,W] with N >= 2."""
    free = torch.export.Dim.DYNAMIC  # what strides make of a size has no name
    return program_of(module, image, {0: torch.export.Dim("batch", min=1), 2: free, 3: free})


def pixel_onnx(model: PixelModel, network: PixelNetwork, image: Tensor) -> Any:
    """An onnx.ModelProto with free batch, height and width, of the outputs of a `PixelNetwork`."""
    if not model.forests:
        proto = onnx_of(pixel_program(network, image), OUTPUTS)
    else:
        rows = [_ROWS.format(n) for n in range(len(model.forests))]
        proto = onnx_of(pixel_program(BeforeForests(network), image), [_SCORES, *rows])
        _add_forests(proto.graph, model.forests)
        proto.opset_import.add(domain=ML_DOMAIN, version=ML_OPSET)
    _name_axes(proto.graph, (len(model.features.bands), len(model.classes)))
    return proto


def _name_axes(graph: Any, sizes: tuple[int, int]) -> None:
    """State shapes of input and outputs, with the free axes by name; drop those in between."""
    from onnx import TensorProto, helper

    del graph.value_info[:]
    del graph.input[:], graph.output[:]
    for held, names, size in (
        (graph.input, (INPUT,), sizes[0]),
        (graph.output, OUTPUTS, sizes[1]),
    ):
        shape: list[str | int | None] = [AXES[0], size, *AXES[1:]]
        held.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in names)


def _add_forests(graph: Any, forests: list[tuple[float, ForestMember]]) -> None:
    """Add each forest's part to the linear scores, and what makes probabilities of them."""
    from onnx import TensorProto, helper, numpy_helper

    def constant(name: str, values: Any, dtype: Any) -> str:
        graph.initializer.append(numpy_helper.from_array(np.asarray(values, dtype), _OWN + name))
        return _OWN + name

    def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        output = output if output in OUTPUTS else _OWN + output
        graph.node.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    floor, axis = constant("floor", FLOOR, np.float32), constant("class_axis", [1], np.int64)
    total = node("Transpose", [_SCORES], "scores_last", perm=[0, 2, 3, 1])
    shape = node("Shape", [total], "shape_last")
    for number, (share, forest) in enumerate(forests):
        own = f"forest_{number}_"
        rows, nodes = _ROWS.format(number), tree_attributes(forest)
        tree = node("TreeEnsembleRegressor", [rows], own + "shares", **nodes)
        least = node("Max", [tree, floor], own + "least")
        every = node("ReduceSum", [least, axis], own + "sum", keepdims=1)
        log = node("Log", [node("Div", [least, every], own + "normed")], own + "log")
        wide = node("Cast", [log], own + "double", to=TensorProto.DOUBLE)
        weight = constant(own + "weight", share, np.float64)
        part = node("Mul", [wide, weight], own + "part")
        placed = node("Reshape", [part, shape], own + "placed")
        total = node("Add", [total, placed], own + "total")
    scores = node("Transpose", [total], "scores", perm=[0, 3, 1, 2])
    shares = node("Softmax", [scores], "softmax", axis=1)
    for values, name in zip((shares, scores), OUTPUTS, strict=True):
        node("Cast", [values], name, to=TensorProto.FLOAT)


def tree_attributes(forest: ForestMember) -> dict[str, Any]:
    """A forest as attributes of a TreeEnsembleRegressor that gives the trees' mean shares."""
    trees, nodes = _positions(forest)
    inner = forest.feature >= 0
    first = forest.roots[trees]
    leaves, classes = np.nonzero(~inner[:, None] & (forest.shares > 0))
    return {
        "domain": ML_DOMAIN,
        "n_targets": forest.shares.shape[1],
        "aggregate_function": "AVERAGE",
        "nodes_treeids": trees,
        "nodes_nodeids": nodes,
        "nodes_modes": ["BRANCH_LEQ" if own else "LEAF" for own in inner],
        "nodes_featureids": np.where(inner, forest.feature, 0),
        "nodes_values": np.where(inner, forest.threshold, 0).astype(np.float32),
        "nodes_truenodeids": np.where(inner, forest.left - first, 0),
        "nodes_falsenodeids": np.where(inner, forest.right - first, 0),
        "target_treeids": trees[leaves],
        "target_nodeids": nodes[leaves],
        "target_ids": classes,
        "target_weights": forest.shares[leaves, classes],
    }


def _positions(forest: ForestMember) -> tuple[Any, Any]:
    """The tree that each node belongs to, and its number in the tree, the root's being 0."""
    counts = np.diff(np.append(forest.roots, len(forest.feature)))
    trees = np.repeat(np.arange(len(counts)), counts)
    return trees, np.arange(len(trees)) - forest.roots[trees]
