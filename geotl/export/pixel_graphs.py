"""Graphs of pixel models for images of any size; in ONNX forests are tree ensembles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geotl.export.graphs import onnx_of, program_of
from geotl.export.pixel_network import PixelNetwork, rows_of
from geotl.inference.onnx_file import INPUT, OUTPUTS
from geotl.models.forest import FLOOR, ForestMember
from geotl.models.pixel_model import PixelModel

ML_DOMAIN, ML_OPSET = "ai.onnx.ml", 3  # as onnxruntime 1.17 has it
FLOAT, DOUBLE = 1, 11  # of onnx.TensorProto
AXES = ("batch", "height", "width")
_OWN = "fusion."  # prefix of the names that are added to torch's graph
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
    if model.forests:
        before = onnx_of(pixel_program(BeforeForests(network), image), before_names(model))
        tail = Tail(before)
        for values, name in zip(tail.fused(model.forests), OUTPUTS, strict=True):
            tail.output("Cast", [values], name, to=FLOAT)
        proto = before
    else:
        proto = onnx_of(pixel_program(network, image), OUTPUTS)
    bands, classes = len(model.features.bands), len(model.classes)
    outputs = dict.fromkeys(OUTPUTS, (AXES[0], classes, *AXES[1:]))
    state_shapes(proto.graph, (AXES[0], bands, *AXES[1:]), outputs)
    return proto


def before_names(model: PixelModel) -> list[str]:
    """Names of the outputs of `BeforeForests`, which are the inputs of a `Tail`."""
    return [_SCORES, *(_ROWS.format(n) for n in range(len(model.forests)))]


def state_shapes(
    graph: Any, image: Sequence[int | str], outputs: Mapping[str, Sequence[int | str]]
) -> None:
    """State the shapes of input and outputs, free axes by name, and drop those in between."""
    from onnx import helper

    del graph.value_info[:], graph.input[:], graph.output[:]
    for values, shapes in ((graph.input, {INPUT: image}), (graph.output, outputs)):
        for name, shape in shapes.items():
            values.append(helper.make_tensor_value_info(name, FLOAT, [*shape]))


class Tail:
    """What follows torch's graph up to the forests: the forests, and the fusion of all members."""

    def __init__(self, proto: Any) -> None:
        """Go on from an onnx.ModelProto with the outputs of `BeforeForests`; it is changed."""
        self.graph = proto.graph
        proto.opset_import.add(domain=ML_DOMAIN, version=ML_OPSET)

    def constant(self, name: str, values: Any, dtype: Any) -> str:
        """Add a constant; returns its name in the graph."""
        from onnx import numpy_helper

        array = np.asarray(values, dtype)
        self.graph.initializer.append(numpy_helper.from_array(array, _OWN + name))
        return _OWN + name

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add an operation; returns the name of its output in the graph."""
        return self._add(kind, inputs, _OWN + output, attributes)

    def output(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        """Add an operation for an output of the graph."""
        self._add(kind, inputs, output, attributes)

    def _add(self, kind: str, inputs: Sequence[str], output: str, more: dict[str, Any]) -> str:
        from onnx import helper

        self.graph.node.append(helper.make_node(kind, [*inputs], [output], name=output, **more))
        return output

    def fused(self, forests: list[tuple[float, ForestMember]]) -> tuple[str, str]:
        """Add forests and fusion: names of probabilities and scores, float64 [N,K,H,W]."""
        total = self.node("Transpose", [_SCORES], "scores_last", perm=[0, 2, 3, 1])
        if forests:
            shape = self.node("Shape", [total], "shape_last")
            floor = self.constant("floor", FLOOR, np.float32)
            axis = self.constant("class_axis", [1], np.int64)
        for number, (share, forest) in enumerate(forests):
            part = self._forest(number, share, forest, (floor, axis))
            placed = self.node("Reshape", [part, shape], f"forest_{number}_placed")
            total = self.node("Add", [total, placed], f"forest_{number}_total")
        scores = self.node("Transpose", [total], "scores", perm=[0, 3, 1, 2])
        return self.node("Softmax", [scores], "softmax", axis=1), scores

    def _forest(
        self, number: int, share: float, forest: ForestMember, constants: tuple[str, str]
    ) -> str:
        """Add a forest: its log-probabilities times its share, float64 [N*H*W,K]."""
        prefix, (floor, axis) = f"forest_{number}_", constants
        rows, nodes = _ROWS.format(number), tree_attributes(forest)
        tree = self.node("TreeEnsembleRegressor", [rows], prefix + "shares", **nodes)
        least = self.node("Max", [tree, floor], prefix + "least")
        every = self.node("ReduceSum", [least, axis], prefix + "sum", keepdims=1)
        log = self.node(
            "Log", [self.node("Div", [least, every], prefix + "normed")], prefix + "log"
        )
        wide = self.node("Cast", [log], prefix + "double", to=DOUBLE)
        weight = self.constant(prefix + "weight", share, np.float64)
        return self.node("Mul", [wide, weight], prefix + "part")


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
        "nodes_modes": ["BRANCH_LEQ" if split else "LEAF" for split in inner],
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
