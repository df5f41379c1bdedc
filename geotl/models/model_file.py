"""The single-file model: tensors and a JSON contract in one safetensors file.

Nothing is unpickled to load it. Besides the network it carries example tiles with their
logits, a coreset of training features, and the training tiles' footprints.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geotl.arrays import Bools, Float32s, Float64s, Int64s
from geotl.data.read_tile import Fit
from geotl.errors import ModelError
from geotl.evaluation.metrics import Interval
from geotl.evaluation.prediction_sets import HELD_OUT
from geotl.imagery.sensors import Sensor, sensor_from
from geotl.models.backbone import skeleton, stage_position
from geotl.models.classifier import VIEWS, FeatureSpec, Normalise, TileClassifier
from geotl.models.contract_checks import (
    Bare,
    check_above_zero,
    check_labels,
    check_names,
    check_notes,
    check_plain,
    check_shape,
    check_sizes,
    demand,
)
from geotl.models.input_domain import Range, range_of, training_resolution_m
from geotl.models.registry import Backbone, get_backbone
from geotl.models.renderings import GIVEN
from geotl.models.tensor_file import (
    CHECKSUM,
    Arrays,
    check_finite,
    consistent,
    read_json_header,
    read_tensors,
    save_tensors,
)
from geotl.models.timm_networks import check_installed

FORMAT_VERSION = 1
BARE = "bare"
MARKS = "marks"  # of the training tiles' pixels, in the note `training`; earlier files have none
EXAMPLES, CORESET = 32, 2000


@dataclass(frozen=True)
class Contract:
    """Classes of a model and the imagery it needs; new imagery is checked against it.

    Attributes:
        backbone: name, with `cut_after` its last stage kept.
        bands: names of its input bands, in order, and their `wavelengths` in nm.
        sensor: radiometry and band names of the tiles it was trained on.
        file_bands: names in file order, for files that name none.
        tile_px: side of a tile in pixels; `fit`, what happens to others.
        classes: names in the order of the logits, with their `colours` (#rrggbb).
        spec: features that the head uses.
    """

    backbone: str
    cut_after: str | None
    frozen_until: str | None
    bands: tuple[str, ...]
    wavelengths: tuple[float | None, ...]
    sensor: Sensor
    file_bands: tuple[str, ...] | None
    tile_px: int
    fit: Fit
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    spec: FeatureSpec


@dataclass(frozen=True)
class TrainingSamples:
    """Arrays that later work draws on: export parity, applicability, metadata.

    Attributes:
        examples: raw tiles [n, C, S, S] in their native type, at most 32.
        example_valid: valid pixels of the examples, bool of the same shape.
        example_logits: [n, K], float32, averaged over the model's views.
        features: standardised training features [m, D], at most 2,000, averaged over views.
        labels: classes of the features [m].
        folds: the validation fold of each, -1 for none [m].
        footprints: left, bottom, right, top of each training tile, NaN if unknown [N, 4].
    """

    examples: NDArray[Any]
    example_valid: Bools
    example_logits: Float32s
    features: Float32s
    labels: Int64s
    folds: Int64s
    footprints: Float64s


@dataclass(frozen=True)
class ModelFile:
    """A model in memory: network, contract, training samples, and notes (recipe, metrics, …).

    `stored_samples` is None in a bare file, which has no data of the training tiles; `path` is the
    file it was loaded from, None for one that was not.
    """

    network: TileClassifier
    contract: Contract
    stored_samples: TrainingSamples | None
    notes: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None

    @property
    def training_samples(self) -> TrainingSamples:
        """The training samples in the file.

        Raises:
            ModelError: the file is bare.
        """
        if self.stored_samples is None:
            raise ModelError(
                f"{self.path}: a bare file, without example tiles, features and footprints of the "
                "training tiles, which this needs; give the model.safetensors it was exported from"
            )
        return self.stored_samples

    @property
    def resolution_m(self) -> float | None:
        """Side of a training pixel in metres, None where unknown."""
        if self.stored_samples is None:
            given: float | None = self.notes[BARE]["resolution_m"]
            return given
        return training_resolution_m(
            self.stored_samples.footprints, self._systems, self.contract.tile_px
        )

    @property
    def seen(self) -> Range:
        """Mean and standard deviation of the example tiles' bands."""
        if self.stored_samples is None:
            ranges = self.notes[BARE]
            return Range(np.array(ranges["mean"]), np.array(ranges["sd"]))
        return range_of(self.stored_samples.examples, self.stored_samples.example_valid)

    @property
    def ground(self) -> dict[str, list[list[float]]]:
        """Boxes (left, bottom, right, top) of located training tiles, by reference system."""
        by_system: dict[str, list[list[float]]] = {}
        boxes = [] if self.stored_samples is None else self.stored_samples.footprints.tolist()
        for box, crs in zip(boxes, self._systems, strict=False):
            if crs and np.isfinite(box).all():
                by_system.setdefault(crs, []).append(box)
        return by_system

    @property
    def _systems(self) -> list[str | None]:
        return list(self.notes.get("training", {}).get("crs", []))


def bare(model: ModelFile) -> ModelFile:
    """A model without anything of its training tiles: what `geotl predict` and `map` need.

    Left are the network, the contract, the headline of its accuracy, versions and the digests of
    its weights' files; size of a training pixel, and mean and sd of the bands, by which a scene is
    checked. No tile, feature, footprint, date, recipe or path.
    """
    seen, notes = model.seen, model.notes
    stated = {
        "versions": notes.get("versions", {}),
        "metrics": {
            "headline": notes.get("metrics", {}).get("headline", "not evaluated"),
            **{k: v for k, v in notes.get("metrics", {}).items() if k == "estimate"},
        },
        "weights": _nameless(notes.get("weights", {})),
        **{key: notes[key] for key in (HELD_OUT,) if key in notes},
        BARE: {
            "resolution_m": model.resolution_m,
            "mean": seen.mean.tolist(),
            "sd": seen.sd.tolist(),
        },
    }
    return ModelFile(model.network, model.contract, None, stated)


def _nameless(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Weight files by their own names, without folders, and digests."""
    files = weights.get("chain") or ([weights] if weights else [])
    nameless = [
        {"source": Path(str(file.get("source"))).name, "sha256": file.get("sha256")}
        for file in files
    ]
    return {"chain": nameless} if nameless else {}


def save(path: Path, model: ModelFile) -> None:
    """Write the complete file or none.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    tensors = {
        name: value.detach().cpu().contiguous().numpy()
        for name, value in model.network.state_dict().items()
    }
    for name in (
        f.name for f in dataclasses.fields(TrainingSamples) if model.stored_samples is not None
    ):
        tensors[f"companions.{name}"] = np.ascontiguousarray(getattr(model.stored_samples, name))
    header = {"format_version": FORMAT_VERSION, **dataclasses.asdict(model.contract), **model.notes}
    save_tensors(path, tensors, header)


def read_header(path: Path) -> dict[str, Any]:
    """The JSON contract and notes of a model file, without its tensors.

    Raises:
        ModelError: not there, damaged, not a geotl model, or of a newer format.
    """
    if path.is_dir():
        raise ModelError(f"{path}: a folder; give the model file in it, such as model.safetensors")
    if not path.is_file():
        raise ModelError(f"{path}: no such model file; train one with geotl run")
    if path.suffix.lower() == ".onnx":
        raise ModelError(
            f"{path}: an exported file, which geotl map, predict, evaluate and inspect take; this "
            "needs the model itself: give the model.safetensors it was exported from"
        )
    header = read_json_header(path)
    if header.get("format_version") != FORMAT_VERSION:
        raise ModelError(
            f"{path}: format version {header.get('format_version')}, this geotl reads "
            f"{FORMAT_VERSION}; install the geotl that wrote it ({header.get('versions', {})})"
        )
    if "kind" not in header:
        with consistent(path):
            _check_header(header)
    return header


def _check_header(header: Mapping[str, Any]) -> None:
    """Check that the header of a file of tiles is possible.

    Raises:
        ValueError: it cannot.
    """
    check_contract(header)
    check_notes(header)
    if BARE in header:
        check_plain(Bare, header[BARE], BARE)
        for name in ("mean", "sd"):
            count = len(header[BARE][name])
            demand(count == len(header["bands"]), f"{BARE}.{name} has {count} bands")


def check_contract(header: Mapping[str, Any]) -> None:
    """Make sure that plain values are a contract.

    Raises:
        ValueError: they are not.
    """
    check_plain(Contract, header)
    check_names(header)
    spec = header["spec"]
    check_sizes([header["tile_px"], *spec.get("input_px", ())])
    demand(len(spec["stages"]) > 0, "spec.stages is empty")
    demand(spec.get("views", VIEWS) in (1, 2, 4, 8), "spec.views; allowed: 1, 2, 4, 8")


def load(path: str | Path) -> ModelFile:
    """Rebuild a model from its file.

    Raises:
        ModelError: as `read_header`, tensors that do not fit the contract, or a network of a
            library that is not installed.
    """
    path = Path(path)
    header = read_header(path)
    if "kind" in header:
        raise not_of_tiles(path, header["kind"])
    check_installed(header["backbone"])
    tensors = read_tensors(path, header)
    with consistent(path):
        contract = contract_from(header)
        training_samples = None if BARE in header else _companions(tensors, contract, header)
        network = _filled(contract, tensors)
    fields = {f.name for f in dataclasses.fields(Contract)} | {"format_version", CHECKSUM}
    notes = {key: value for key, value in header.items() if key not in fields}
    return ModelFile(network.eval(), contract, training_samples, notes, path)


def not_of_tiles(path: Path | None, kind: str) -> ModelError:
    """The error for a file with another kind of model, where a network of tiles is needed."""
    return ModelError(
        f"{path}: a model of {kind}, which is not supported here; map scenes with it (geotl map), "
        "assess the map (geotl accuracy), or train a model of tiles (a recipe with task: tiles)"
    )


def contract_from(header: Mapping[str, Any]) -> Contract:
    """A contract from its plain values, as `dataclasses.asdict` and JSON make them.

    Raises:
        ValueError: they cannot be those of a model.
    """
    check_contract(header)
    fields = {f.name: header[f.name] for f in dataclasses.fields(Contract)}
    for name in ("bands", "wavelengths", "classes", "colours"):
        fields[name] = tuple(fields[name])
    if fields["file_bands"] is not None:
        fields["file_bands"] = tuple(fields["file_bands"])
    fields["sensor"], spec = sensor_from(fields["sensor"]), fields["spec"]
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in spec.items()}
    fields["spec"] = FeatureSpec(**plain)  # earlier files do not state the padding
    return Contract(**fields)


def _companions(
    tensors: dict[str, NDArray[Any]], contract: Contract, header: Mapping[str, Any]
) -> TrainingSamples:
    """Take the training samples out of a file's tensors.

    Raises:
        KeyError: some are not there.
        ValueError: they do not fit the contract, or each other.
    """
    names = [f.name for f in dataclasses.fields(TrainingSamples)]
    samples = {name: tensors.pop(f"companions.{name}") for name in names}
    count, bands, classes = len(samples["examples"]), len(contract.bands), len(contract.classes)
    rows = len(samples["features"])
    check_shape(samples, "examples", (count, bands, contract.tile_px, contract.tile_px))
    check_shape(samples, "example_valid", samples["examples"].shape)
    check_shape(samples, "example_logits", (count, classes))
    check_shape(samples, "features", (rows, None))
    check_shape(samples, "labels", (rows,))
    check_shape(samples, "folds", (rows,))
    check_shape(samples, "footprints", (None, 4))
    check_labels(samples["labels"], classes)
    check_finite({k: v for k, v in samples.items() if k not in ("examples", "footprints")})
    demand(samples["example_valid"].dtype == bool, "example_valid does not hold true and false")
    check_finite({"examples": np.where(samples["example_valid"], samples["examples"], 0)})
    systems = header.get("training", {}).get("crs")
    if systems:
        demand(len(systems) == len(samples["footprints"]), "training.crs and footprints differ")
    return TrainingSamples(**samples)


def _filled(contract: Contract, tensors: Arrays) -> TileClassifier:
    """The network of a contract, with its tensors.

    Raises:
        KeyError: some are not there.
        ValueError: they do not fit, or hold numbers that no network has.
    """
    check_finite({k: v for k, v in tensors.items() if k != "normalise.nodata"})
    bands, classes = len(contract.bands), len(contract.classes)
    check_shape(tensors, "normalise.sd", (bands,))
    check_shape(tensors, "head.weight", (classes, None))
    for name in ("normalise.sd", "feature_sd", "temperature"):
        check_above_zero(name, tensors[name])
    _check_backbone(contract, tensors)
    network = _network(contract)
    for name, target in network.state_dict().items():
        same = name not in tensors or str(tensors[name].dtype) == str(target.dtype).split(".")[-1]
        demand(same, f"{name} has {tensors[name].dtype if name in tensors else ''} values")
    network.load_state_dict({name: _own(value) for name, value in tensors.items()}, assign=True)
    return network


def _own(value: NDArray[Any]) -> Tensor:
    """An array as a tensor in torch's own memory, kernels channels last."""
    shared = torch.from_numpy(value)
    placed = shared.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else shared
    return placed.clone() if placed.data_ptr() == shared.data_ptr() else placed


def _check_backbone(contract: Contract, tensors: Arrays) -> None:
    """Make sure that the tensors are those of the backbone named, before it takes any memory.

    Raises:
        KeyError: some are not there.
        ValueError: they do not fit.
        ModelError: there is no such backbone or stage.
    """
    spec = get_backbone(contract.backbone)
    last = stage_position(spec.stages, contract.cut_after or spec.stages[-1])
    first, *rest = (
        (f"backbone.{tensor_name}", shape)
        for tensor_name, _, stage, shape in skeleton(spec)
        if stage in spec.stages[: last + 1]
    )
    check_shape(tensors, first[0], (first[1][0], len(contract.bands), *first[1][2:]))
    for name, shape in rest:
        check_shape(tensors, name, shape)


def _network(contract: Contract) -> TileClassifier:
    """The network of a contract, its tensors still to be filled."""
    spec = get_backbone(contract.backbone)
    backbone = Backbone(
        spec, contract.bands, contract.wavelengths, cut_after=contract.cut_after, seed=None
    )
    blank = [0.0] * len(contract.bands)
    return TileClassifier(
        backbone,
        Normalise(blank, blank),
        contract.spec,
        len(contract.classes),
        frozen_until=contract.frozen_until,
    )


def describe_file(path: Path) -> str:
    """A description of a model file, in a few lines."""
    header = read_header(path)
    if "kind" in header:
        raise not_of_tiles(path, str(header["kind"]))
    with consistent(path):
        return describe(f"{path} (format {header['format_version']})", header)


def describe(name: str, header: Mapping[str, Any]) -> str:
    """A contract and notes, as plain values, in a few lines for people."""
    sensor, spec = header["sensor"], header["spec"]
    stages, renderings = " + ".join(spec["stages"]), spec.get("renderings", GIVEN)
    if spec.get("inner"):
        stages += ", with the last one's inner activations"
    lines = {
        "model": name,
        "network": f"{header['backbone']} up to {header['cut_after'] or 'its last stage'}, "
        f"pooled after {stages}, {spec['views']} views"
        + (f", renderings {', '.join(renderings)}" if len(renderings) > 1 else "")
        + (", fused with statistics of the bands" if spec.get("statistics") else ""),
        "bands": ", ".join(header["bands"]),
        "sensor": f"{sensor['title']}: {sensor.get('measures', 'reflectance')} = "
        f"DN * {sensor['scale']:g} "
        f"+ {sensor['offset']:g}",
        "tiles": f"{header['tile_px']} px",
        "classes": ", ".join(header["classes"]),
        "weights": _ancestry(header.get("weights", {})),
        "result": result_lines(header.get("metrics", {})),
        **({"bare": "nothing of the training tiles is in it"} if BARE in header else {}),
    }
    return "\n".join(f"{name.ljust(8)} {text}" for name, text in lines.items())


def result_lines(metrics: Mapping[str, Any]) -> str:
    """Result of a run, and of the saved model, where these differ.

    >>> repeats = {"network": {"overall": {"mean": 0.938, "sd": 0.06, "draws": 3}}}
    >>> own = {"overall_accuracy": {"value": 0.867, "low": 0.621, "high": 0.963}}
    >>> print(result_lines({"headline": "0.938 (3 draws)", "draws": repeats, **own}))
    0.938 (3 draws)
             the saved model, of the first repeat: overall accuracy 0.867 [0.621, 0.963]
    """
    headline = str(metrics.get("headline", "not evaluated"))
    if estimate := metrics.get("estimate"):
        return f"{headline}\n{' ' * 9}{estimate}"
    repeats = metrics.get("draws", {}).get("network", {}).get("overall", {}).get("draws", 1)
    if metrics.get("kfold"):
        return f"{headline}; the saved model is the first fold's"
    if repeats < 2 or "overall_accuracy" not in metrics:
        return headline
    interval = Interval(**metrics["overall_accuracy"])
    return f"{headline}\n{' ' * 9}the saved model, of the first repeat: overall accuracy {interval}"


def _ancestry(weights: Mapping[str, Any]) -> str:
    """Every file that had a part in a model's weights, oldest first, one a line.

    >>> files = [{"source": "a.pth", "sha256": "01"}, {"source": "b", "sha256": "02"}]
    >>> print(_ancestry({"chain": files}))
    a.pth (sha256 01)
             then b (sha256 02)
    """
    files = weights.get("chain") or [weights]
    files_listed = [
        f"{file.get('source', 'unknown')} (sha256 {file.get('sha256')})" for file in files
    ]
    return f"\n{' ' * 9}then ".join(files_listed)
