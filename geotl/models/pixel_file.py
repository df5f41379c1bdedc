"""The file of a pixel model: arrays and a JSON contract in one safetensors file.

It has the same header key and format version as a network's model file, and `kind: pixels`.
Nothing is unpickled to load it, forests included.
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
from torch import nn

from geotl.arrays import Float32s, Float64s, Int64s
from geotl.errors import ModelError
from geotl.imagery.sensors import Sensor, sensor_from
from geotl.models.backbone import Backbone
from geotl.models.contract_checks import check_names, check_plain, demand
from geotl.models.deep_features import DeepFeatures
from geotl.models.forest import ForestMember
from geotl.models.input_domain import Range
from geotl.models.model_file import FORMAT_VERSION, read_header
from geotl.models.pixel_checks import check_features, check_header, check_members, check_tensors
from geotl.models.pixel_decoder import PixelDecoder
from geotl.models.pixel_features import PixelFeatures
from geotl.models.pixel_model import LinearMember, Member, PixelModel, members_line, title_of
from geotl.models.registry import get_backbone
from geotl.models.tensor_file import consistent, read_tensors, save_tensors
from geotl.models.timm_networks import check_installed

KIND = "pixels"
NETWORK, TRAINED = "network.", "decoder."  # how the names of the networks' tensors begin
MEMBERS: Mapping[str, type[LinearMember] | type[ForestMember]] = {
    "linear": LinearMember,
    "forest": ForestMember,
}


@dataclass(frozen=True)
class PixelContract:
    """Classes of a pixel model and the imagery it needs; new imagery is checked against it.

    Attributes:
        bands: names of the bands of a scene it takes, in order, and their `wavelengths` in nm.
        sensor: radiometry and band names of the scenes it was trained on.
        file_bands: names in file order, for files that name none.
        classes: names in the order of the probabilities, with their `colours` (#rrggbb).
        resolution_m: side of a training pixel in metres, None where unknown.
        extra_bands: names of the bands of extra rasters, which come behind the scene's.
        extra_files: name of the file that each of these came from.
    """

    bands: tuple[str, ...]
    wavelengths: tuple[float | None, ...]
    sensor: Sensor
    file_bands: tuple[str, ...] | None
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    resolution_m: float | None
    extra_bands: tuple[str, ...] = ()
    extra_files: tuple[str, ...] = ()

    @property
    def tile_px(self) -> int:
        """Side of what gets a class, in pixels: 1."""
        return 1


@dataclass(frozen=True)
class TrainingPixels:
    """The stored training pixels of a model.

    Attributes:
        features: standardised [m,D], all blocks one after the other, at most 2,000 pixels.
        labels: classes of the pixels [m].
        folds: the validation fold of each, -1 for none [m].
        places: x and y of their middles in the first scene's reference system [m,2].
    """

    features: Float32s
    labels: Int64s
    folds: Int64s
    places: Float64s


@dataclass(frozen=True)
class PixelModelFile:
    """A pixel model in memory: members and fusion, contract, training pixels, and notes.

    `notes` has recipe, metrics, versions, seed and training, as a network's model file does;
    `path` is the file it was loaded from.
    """

    model: PixelModel
    contract: PixelContract
    training: TrainingPixels
    notes: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None

    @property
    def seen(self) -> Range:
        """Mean and standard deviation of the scene's own bands over the training scene."""
        features = self.model.features
        scene_bands = slice(features.scene_band_count)
        return Range(np.array(features.mean[scene_bands]), np.array(features.sd[scene_bands]))

    @property
    def weights(self) -> Mapping[str, float]:
        """Weights of the members' log-probabilities, by name."""
        return self.model.weights

    @property
    def features(self) -> PixelFeatures:
        """Features of the pixels."""
        return self.model.features

    @property
    def resolution_m(self) -> float | None:
        """Side of a training pixel in metres, None where unknown."""
        return self.contract.resolution_m

    @property
    def ground(self) -> dict[str, list[list[float]]]:
        """Left, bottom, right, top of the kept training pixels, as points, by system."""
        systems = self.notes.get("training", {}).get("crs")
        crs = systems if isinstance(systems, str) else next(iter(systems or ()), None)
        places = self.training.places
        there = places[np.isfinite(places).all(axis=1)]
        return {crs: np.hstack([there, there]).tolist()} if crs and len(there) else {}


def member_file(file: PixelModelFile, name: str | None) -> PixelModelFile:
    """A pixel model, or (with a name) the one of a single member, with this member's accuracy.

    Raises:
        ModelError: there is no such member.
    """
    if name is None:
        return file
    notes = {**file.notes, "metrics": _member_metrics(file.notes.get("metrics", {}), name)}
    return dataclasses.replace(file, model=file.model.alone(name), notes=notes)


def _member_metrics(metrics: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What the folds showed of one member: its accuracy, no scores by class or calibration."""
    overall = metrics.get("race", {}).get(title_of(name))
    if overall is None:
        return {}
    between = f"[{overall['low']:.3f}, {overall['high']:.3f}]"
    known = {key: metrics[key] for key in ("task", "labels", "pixels", "kfold") if key in metrics}
    headline = f"{title_of(name)}: accuracy {overall['value']:.3f} {between}"
    return {**known, "headline": headline, "overall_accuracy": overall}


def save_pixel_model(path: Path, file: PixelModelFile) -> None:
    """Write the complete file or none.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    model = file.model
    tensors: dict[str, NDArray[Any]] = {"log_priors": model.log_priors}
    for name, member in model.members.items():
        tensors |= {f"members.{name}.{key}": value for key, value in _arrays(member).items()}
    for one in dataclasses.fields(TrainingPixels):
        tensors[f"training.{one.name}"] = getattr(file.training, one.name)
    if model.deep is not None:
        tensors |= _state(NETWORK, model.deep.backbone)
    if model.decoder is not None:
        tensors |= _state(TRAINED, model.decoder)
    header = {
        "format_version": FORMAT_VERSION,
        "kind": KIND,
        "contract": dataclasses.asdict(file.contract),
        "notes": file.notes,
        **model_header(model),
    }
    save_tensors(path, {k: np.ascontiguousarray(v) for k, v in tensors.items()}, header)


def model_header(model: PixelModel) -> dict[str, Any]:
    """The model part of a header: features, members, their fusion, and the networks if any."""
    return {
        "features": dataclasses.asdict(model.features),
        "members": {
            name: {"kind": _kind(member), "blocks": list(member.blocks)}
            for name, member in model.members.items()
        },
        "temperatures": dict(model.temperatures),
        "weights": dict(model.weights),
        **_networks_header(model),
    }


def _state(mark: str, network: nn.Module) -> dict[str, NDArray[Any]]:
    """A network's tensors by their names in the file."""
    return {f"{mark}{name}": value.numpy() for name, value in network.state_dict().items()}


def _networks_header(model: PixelModel) -> dict[str, Any]:
    """The part of a header on networks, if the model has any."""
    networks, deep, decoder = dict[str, dict[str, Any]](), model.deep, model.decoder
    if deep is not None:
        networks["network"] = {"backbone": deep.backbone.name, "stages": list(deep.stages)}
        if deep.composites:
            networks["network"]["composites"] = [list(bands) for bands in deep.composites]
    if decoder is not None:
        stages = list(decoder.backbone.stage_names)
        decoder_fields = {"kind": decoder.kind, "backbone": decoder.backbone.name, "stages": stages}
        networks["decoder"] = decoder_fields
    return networks


def is_pixel_model(path: Path) -> bool:
    """Whether a model file has a pixel model; false for a header that cannot be read."""
    try:
        return read_header(path).get("kind") == KIND
    except ModelError:
        return False


def describe_pixel_file(path: Path) -> str:
    """A description of a pixel model's file, in a few lines."""
    header = read_pixel_header(path)
    with consistent(path):
        return describe_pixels(f"{path} (format {header['format_version']}, of pixels)", header)


def read_pixel_header(path: Path) -> dict[str, Any]:
    """The JSON header of a pixel model's file, without its tensors.

    Raises:
        ModelError: as `read_header`; a network's file, or an impossible header.
    """
    header = read_header(path)
    if header.get("kind") != KIND:
        raise ModelError(f"{path}: a model of tiles, not of pixels")
    with consistent(path):
        check_pixel_contract(header["contract"])
        check_header(header)
    return header


def check_pixel_contract(contract: Any) -> None:
    """Make sure that plain values are a contract of pixels.

    Raises:
        ValueError: they are not.
    """
    check_plain(PixelContract, contract, "contract")
    check_names(contract)
    side = contract["resolution_m"]
    demand(side is None or side > 0, f"pixels of {side} m")
    extras = [len(contract.get(name, ())) for name in ("extra_bands", "extra_files")]
    demand(extras[0] == extras[1], "extra_bands and extra_files differ in number")


def describe_pixels(name: str, header: Mapping[str, Any]) -> str:
    """A pixel model's contract, members and notes, as plain values, in a few lines for people."""
    contract, sensor = header["contract"], header["contract"]["sensor"]
    sides = header["features"]["windows_px"]
    members = [f"{member} ({one['kind']})" for member, one in header["members"].items()]
    around = f"and windows of {', '.join(map(str, sides))} px around it" if sides else "only"
    side, trained = contract["resolution_m"], header["notes"].get("training", {})
    lines = {
        "model": name,
        "members": ", ".join(members),
        "weights": members_line(header["weights"]) or "none",
        "sees": f"a pixel's bands {around}",
        **_network_words(header),
        "bands": ", ".join(contract["bands"]),
        **_extra_lines(contract),
        "sensor": f"{sensor['title']}: {sensor.get('measures', 'reflectance')} = "
        f"DN * {sensor['scale']:g} + {sensor['offset']:g}",
        "pixels": f"{side:g} m" if side else "of unknown size",
        "classes": ", ".join(contract["classes"]),
        "trained": f"on {trained.get('labels', '?')} labels, {trained.get('pixels', '?')} pixels",
        "result": header["notes"].get("metrics", {}).get("headline", "not tested"),
        **({"estimate": trained["accuracy"]} if "accuracy" in trained else {}),
    }
    return "\n".join(f"{key.ljust(8)} {text}" for key, text in lines.items())


def _extra_lines(contract: Mapping[str, Any]) -> dict[str, str]:
    """The lines on extra rasters, if the model needs any."""
    bands, files = contract.get("extra_bands"), contract.get("extra_files", ())
    if not bands:
        return {}
    several = (f"{band} ({file})" for band, file in zip(bands, files, strict=True))
    return {"extra": ", ".join(several)}


def _network_words(header: Mapping[str, Any]) -> dict[str, str]:
    """A line for each network of a file."""
    words, network, decoder = {}, header.get("network"), header.get("decoder")
    if network:
        words["network"] = f"{network['backbone']}, read after {', '.join(network['stages'])}"
        if network.get("composites"):
            words["network"] += f", of {len(network['composites'])} colour composites"
    if decoder:
        stages = ", ".join(decoder["stages"])
        words["decoder"] = f"{decoder['kind']} on {decoder['backbone']} with {stages}, trained"
    return words


def load_pixel_model(path: Path) -> PixelModelFile:
    """Rebuild a pixel model from its file.

    Raises:
        ModelError: as `read_header`; a network's file, tensors that do not fit the contract, or a
            network of a library that is not installed.
    """
    header = read_pixel_header(path)
    for part in (header.get("network"), header.get("decoder")):
        check_installed(str((part or {}).get("backbone")))
    tensors = read_tensors(path, header)
    with consistent(path):
        check_tensors(tensors, len(header["contract"]["classes"]))
        file = _rebuilt(path, header, tensors)
        check_members(file.model)
        return file


def _rebuilt(
    path: Path, header: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]
) -> PixelModelFile:
    features = features_from(header["features"])
    contract = pixel_contract_from(header["contract"])
    members: dict[str, Member] = {}
    for name, one in header["members"].items():
        mark = f"members.{name}."
        arrays = {k.removeprefix(mark): v for k, v in tensors.items() if k.startswith(mark)}
        members[name] = MEMBERS[one["kind"]](blocks=tuple(one["blocks"]), **arrays)
    names = [one.name for one in dataclasses.fields(TrainingPixels)]
    return PixelModelFile(
        PixelModel(
            features,
            contract.classes,
            members,
            header["temperatures"],
            header["weights"],
            tensors["log_priors"],
            _network(header.get("network"), features, tensors),
            _decoder(header, features, tensors),
        ),
        contract,
        TrainingPixels(**{name: tensors[f"training.{name}"] for name in names}),
        header["notes"],
        path,
    )


def features_from(fields: Mapping[str, Any]) -> PixelFeatures:
    """Features of the pixels, from plain values.

    Raises:
        ValueError: they cannot be those of a model.
    """
    check_features(fields)
    return PixelFeatures(**{k: _tupled(v) for k, v in fields.items()})


def pixel_contract_from(fields: Mapping[str, Any]) -> PixelContract:
    """A contract from its plain values, as `dataclasses.asdict` and JSON make them.

    Raises:
        ValueError: they cannot be those of a model.
    """
    check_pixel_contract(fields)
    values = {k: _tupled(v) for k, v in fields.items() if k != "sensor"}
    return PixelContract(sensor=sensor_from(fields["sensor"]), **values)


def _network(
    given: Mapping[str, Any] | None, features: PixelFeatures, tensors: Mapping[str, NDArray[Any]]
) -> DeepFeatures | None:
    """The network of a file, with its tensors; None where it has none."""
    if given is None:
        return None
    backbone, stages = _backbone(given, features), tuple(given["stages"])
    _fill(backbone, NETWORK, tensors)
    return DeepFeatures.of(backbone, stages, _composites(given))


def _composites(given: Mapping[str, Any]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(bands) for bands in given.get("composites", ()))


def _decoder(
    header: Mapping[str, Any], features: PixelFeatures, tensors: Mapping[str, NDArray[Any]]
) -> PixelDecoder | None:
    """The decoder of a file, with its tensors; None where it has none."""
    given = header.get("decoder")
    if given is None:
        return None
    classes = len(header["contract"]["classes"])
    network = PixelDecoder(_backbone(given, features), given["kind"], classes)
    _fill(network, TRAINED, tensors)
    return network.settle()


def _backbone(given: Mapping[str, Any], features: PixelFeatures) -> Backbone:
    """The backbone that a header names, its tensors still to be filled."""
    spec, last = get_backbone(given["backbone"]), given["stages"][-1]
    taken = next(iter(_composites(given)), range(features.scene_band_count))
    bands, nm = [features.bands[i] for i in taken], [features.wavelengths[i] for i in taken]
    return Backbone(spec, bands, nm, cut_after=last, seed=None)


def _fill(network: nn.Module, mark: str, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Load the tensors with a name prefix into a network.

    Raises:
        ValueError: they do not fit.
    """
    state = {k: v for k, v in tensors.items() if k.startswith(mark)}
    values = {k.removeprefix(mark): torch.from_numpy(v).clone() for k, v in state.items()}
    try:
        network.load_state_dict(values, assign=True)
    except RuntimeError as error:
        raise ValueError(str(error).partition("\n")[2].strip() or str(error)) from error


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _kind(member: Member) -> str:
    return next(name for name, kind in MEMBERS.items() if isinstance(member, kind))


def _arrays(member: Member) -> dict[str, NDArray[Any]]:
    """A member's arrays by the names of its fields."""
    names = [one.name for one in dataclasses.fields(MEMBERS[_kind(member)]) if one.name != "blocks"]
    return {name: getattr(member, name) for name in names}
