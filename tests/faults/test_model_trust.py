"""What a model file says is checked when it is opened: numbers, contract, checksum."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.map_fixtures import made_model
from helpers.pixel_models import made_pixel_model, small_network
from safetensors import safe_open
from safetensors.numpy import save_file

from geotl.cli.main import main
from geotl.errors import ModelError
from geotl.models import model_file
from geotl.models.model_file import describe_file
from geotl.models.pixel_file import describe_pixel_file, load_pixel_model

Opened = Callable[[Path], Any]


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_pixel_model(tmp_path_factory.mktemp("pixels") / "pixels.safetensors")


def parts(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with safe_open(str(path), framework="numpy") as stream:
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        return tensors, json.loads(stream.metadata()["geotl"])


def written(path: Path, tensors: dict[str, np.ndarray], header: object) -> Path:
    """A file without a checksum, as earlier versions wrote it."""
    rest = {k: v for k, v in header.items() if k != "checksum"} if isinstance(header, dict) else 0
    save_file(tensors, path, metadata={"geotl": json.dumps(rest)})
    return path


def refused(path: Path, load: Opened = model_file.load) -> str:
    with pytest.raises(ModelError) as error:
        load(path)
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith(f"{path}: ")
    return text


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "name",
    [
        "head.weight",
        "head.bias",
        "normalise.mean",
        "normalise.sd",
        "feature_sd",
        "temperature",
        "backbone.stages.layer1.0.conv1.weight",
        "companions.features",
        "companions.examples",
    ],
)
def test_no_number_of_a_network_may_be_nan_or_infinite(
    name: str, value: float, model: Path, tmp_path: Path
) -> None:
    tensors, header = parts(model)
    held = tensors[name].astype(np.float32)
    held.flat[0] = value
    tensors[name] = held
    assert "NaN or infinite" in refused(written(tmp_path / "m.safetensors", tensors, header))


@pytest.mark.parametrize("name", ["log_priors", "members.bands.weight", "members.forest.shares"])
def test_no_number_of_a_pixel_model_may_be_nan(name: str, pixels: Path, tmp_path: Path) -> None:
    tensors, header = parts(pixels)
    tensors[name].flat[0] = np.nan
    path = written(tmp_path / "m.safetensors", tensors, header)
    assert "NaN or infinite" in refused(path, load_pixel_model)


@pytest.mark.parametrize("name", ["normalise.sd", "feature_sd", "temperature"])
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_what_is_divided_by_is_above_zero(
    name: str, value: float, model: Path, tmp_path: Path
) -> None:
    tensors, header = parts(model)
    tensors[name] = np.full_like(tensors[name], value)
    assert "above 0" in refused(written(tmp_path / "m.safetensors", tensors, header))


def test_a_model_with_nan_ends_with_code_2(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors, header = parts(model)
    tensors["head.weight"][:] = np.nan
    path = written(tmp_path / "m.safetensors", tensors, header)
    tile = tmp_path / "tile.npy"
    np.save(tile, tensors["companions.examples"][0])
    assert main(["predict", str(path), str(tile), "-o", str(tmp_path / "out.csv")]) == 2
    said = capsys.readouterr().err
    assert "NaN or infinite" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_of_a_tensor_is_seen(bit: int, model: Path, tmp_path: Path) -> None:
    content = bytearray(model.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    place = random.Random(bit).randrange(start, len(content))
    content[place] ^= 1 << bit
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    assert "checksum" in refused(path)


def test_a_flipped_bit_of_a_pixel_model_and_of_a_class_name_are_seen(
    pixels: Path, tmp_path: Path
) -> None:
    content = pixels.read_bytes()
    path = tmp_path / "m.safetensors"
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "checksum" in refused(path, load_pixel_model)
    path.write_bytes(content.replace(b"town", b"tovn"))
    assert "checksum" in refused(path, load_pixel_model)


def test_models_without_a_checksum_load(model: Path, pixels: Path, tmp_path: Path) -> None:
    for source, load in ((model, model_file.load), (pixels, load_pixel_model)):
        assert "checksum" in parts(source)[1]
        load(written(tmp_path / source.name, *parts(source)))


def set_at(header: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy of a header in which one place holds something else; "del" takes it away."""
    made = copy.deepcopy(header)
    *way, last = path.split(".")
    at: Any = made
    for key in way:
        at = at[int(key)] if isinstance(at, list) else at[key]
    if value == "del":
        del at[last]
    else:
        at[int(last) if isinstance(at, list) else last] = value
    return made


LIES: list[tuple[str, object]] = [
    ("classes", ["a", "a", "b"]),
    ("classes", ["a"]),
    ("classes", ["a", "b"]),
    ("classes", "abc"),
    ("colours", ["red", "#112233", "#112233"]),
    ("colours", []),
    ("bands", ["B02"] * 4),
    ("bands", []),
    ("bands", 7),
    ("wavelengths", [1, 2]),
    ("wavelengths", ["x"] * 4),
    ("tile_px", 0),
    ("tile_px", 10**9),
    ("tile_px", True),
    ("tile_px", 1.5),
    ("tile_px", "del"),
    ("spec", []),
    ("spec.stages", []),
    ("spec.stages", ["layer9"]),
    ("spec.views", 3),
    ("spec.pool", "max"),
    ("spec.input_px", [-1]),
    ("spec.padding", 1),
    ("spec.renderings", []),
    ("spec.renderings", ["given", "given"]),
    ("spec.renderings", ["given", "sorted"]),
    ("spec.renderings", ["given", "negative"]),  # whose tensors hold the features of one
    ("spec.statistics", True),  # whose tensors hold no statistics
    ("spec.statistics", "yes"),
    ("spec.stages", "del"),
    ("sensor", None),
    ("sensor.scale", 0),
    ("sensor.scale", 10**400),
    ("sensor.bands", []),
    ("sensor.bands.0", 3),
    ("sensor.limits", [1]),
    ("sensor.offset", "x"),
    ("sensor.nodata", {}),
    ("backbone", "resnet9000"),
    ("backbone", 18),
    ("cut_after", "nowhere"),
    ("fit", "stretch"),
    ("training", []),
    ("training.crs", 5),
    ("training.crs", ["EPSG:32633"]),
    ("metrics", 3),
    ("weights", "x"),
    ("versions", 1),
]


@pytest.mark.parametrize(("where", "value"), LIES)
def test_a_lie_of_a_contract_gives_one_line(
    where: str, value: object, model: Path, tmp_path: Path
) -> None:
    tensors, header = parts(model)
    refused(written(tmp_path / "m.safetensors", tensors, set_at(header, where, value)))


def test_a_header_that_is_no_object_is_refused(model: Path, tmp_path: Path) -> None:
    tensors, _ = parts(model)
    refused(written(tmp_path / "m.safetensors", tensors, 0))
    for text in ("{", "[" * 100_000, '{"format_version": ' + "1" * 5000 + "}"):
        save_file(tensors, tmp_path / "m.safetensors", metadata={"geotl": text})
        refused(tmp_path / "m.safetensors")


JUNK = [
    None,
    True,
    -1,
    0,
    1,
    3,
    1e308,
    float("nan"),
    10**400,
    2**63,
    "",
    "x",
    "\0",
    [],
    {},
    [[]],
    ["a"] * 5,
    {"a": 1},
    [None],
    [1e999],
]


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a header."""
    if way:
        yield way
    pairs: Any = value.items() if isinstance(value, dict) else ()
    pairs = enumerate(value) if isinstance(value, list) else pairs
    for key, inside in pairs:
        yield from places(inside, (*way, key))


def mutated(header: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """A header with something else at one place, or with one place less."""
    made = copy.deepcopy(header)
    *way, last = draw.choice([w for w in places(header) if w[0] != "format_version"])
    at: Any = made
    for key in way:
        at = at[key]
    if draw.random() < 0.2:
        del at[last]
    else:
        at[last] = draw.choice(JUNK)
    return made


@pytest.mark.parametrize("kind", ["tiles", "pixels"])
def test_mutated_contracts_load_or_give_one_line(
    kind: str, model: Path, pixels: Path, tmp_path: Path
) -> None:
    source, load, describe = (
        (model, model_file.load, describe_file)
        if kind == "tiles"
        else (pixels, load_pixel_model, describe_pixel_file)
    )
    tensors, header = parts(source)
    draw = random.Random(20)
    told = []
    for _ in range(120):
        path = written(tmp_path / "m.safetensors", tensors, mutated(header, draw))
        for call in (load, describe):
            try:
                call(path)
            except ModelError as error:
                told.append(str(error))
    assert len(told) > 60
    assert not [text for text in told if "\n" in text]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("log_priors", np.zeros(2)),
        ("members.bands.weight", np.zeros((3, 1))),
        ("members.forest.shares", np.zeros((4, 3), np.float32)),
        ("training.labels", np.full(300, 7)),
        ("training.places", np.zeros((2, 2))),
    ],
)
def test_arrays_of_a_pixel_model_go_together(
    name: str, value: np.ndarray, pixels: Path, tmp_path: Path
) -> None:
    tensors, header = parts(pixels)
    tensors[name] = value
    refused(written(tmp_path / "m.safetensors", tensors, header), load_pixel_model)


def test_composites_of_bands_that_are_not_there_are_refused(tmp_path: Path) -> None:
    deep = small_network(composites=((2, 1, 0), (3, 2, 1)))
    tensors, header = parts(made_pixel_model(tmp_path / "m.safetensors", deep=deep))
    header["network"]["composites"][1][0] = 17
    path = written(tmp_path / "lie.safetensors", tensors, header)
    assert "composites of bands not there" in refused(path, load_pixel_model)


def test_int8_weights_in_a_model_are_refused(model: Path, tmp_path: Path) -> None:
    tensors, header = parts(model)
    tensors["head.bias"] = tensors["head.bias"].astype(np.int8)
    assert "int8" in refused(written(tmp_path / "m.safetensors", tensors, header))


def test_a_bare_file_is_checked_too(tmp_path: Path) -> None:
    whole = model_file.load(made_model(tmp_path / "m.safetensors"))
    path = tmp_path / "bare.safetensors"
    model_file.save(path, model_file.bare(whole))
    tensors, header = parts(path)
    model_file.load(path)
    for where, value in (("bare.mean", [1.0]), ("bare.sd", "x"), ("bare", 1)):
        refused(written(path, tensors, set_at(header, where, value)))
