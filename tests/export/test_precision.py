"""float16 and int8 ONNX files: what is rounded, what it costs, what is refused."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.map_fixtures import BANDS, CLASSES, PX, made_pixels
from helpers.tiles import write_tile

from geotl.cli.main import main
from geotl.errors import DataError, ModelError
from geotl.export import exporter
from geotl.export.deployable import deployed
from geotl.export.exporter import Rounding, export_graph
from geotl.export.graphs import LIMITS, compare, example_tiles, run_onnx
from geotl.export.quantise import MAX_CALIBRATING, halves, points_lost, raw_batches, rounding_loss
from geotl.inference.onnx_file import read_passport
from geotl.models.model_file import load

HALF, SINGLE, INT8 = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT, onnx.TensorProto.INT8
RUNNER = """
import sys
import numpy as np, onnxruntime
print(onnxruntime.__version__)
for path in sys.argv[2:]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    tiles = np.load(sys.argv[1])
    found = [session.run(["probabilities"], {"image": t})[0] for t in (tiles, tiles[:1])]
    assert abs(found[0][:1] - found[1]).max() < 1e-4
    np.save(path + ".npy", found[0])
"""


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of 12 tiles a class, one with a hole."""
    root = tmp_path_factory.mktemp("labelled")
    for label, name in enumerate(CLASSES):
        for number in range(12):
            pixels = made_pixels(np.array([[label]]), PX, noise=80, seed=100 + number)
            pixels[:, :3] = 0
            write_tile(root / name / f"{number}.tif", pixels, names=list(BANDS))
    return root


@pytest.fixture(scope="module")
def files(model, labelled, tmp_path_factory) -> dict[str, Path]:
    """The three precisions."""
    folder = tmp_path_factory.mktemp("files")
    made = {}
    for precision, tiles in (("float32", None), ("float16", None), ("int8", labelled)):
        made[precision] = folder / f"{precision}.onnx"
        rounding = Rounding(precision, tiles)
        export_graph(load(model), "onnx", made[precision], rounding=rounding, log=lambda _: None)
    return made


def weights(path: Path, of: str = "Conv") -> list[int]:
    """Types of the kernels of a file's convolutions; through the rounding, of an int8 file."""
    graph = onnx.load(path).graph
    kinds = {entry.name: entry.data_type for entry in graph.initializer}
    source = {out: node for node in graph.node for out in node.output}

    def kind(name: str) -> int:
        return kinds[name] if name in kinds else kind(source[name].input[0])

    return [kind(node.input[1]) for node in graph.node if node.op_type == of]


def test_float16_halves_the_convolutions_alone(files):
    assert set(weights(files["float16"])) == {HALF}
    assert weights(files["float16"], "Gemm") == [SINGLE]
    proto = onnx.load(files["float16"])
    kinds = {entry.name: entry.data_type for entry in proto.graph.initializer}
    assert all(kinds[name] == SINGLE for name in kinds if "normalise" in name)
    for value in (*proto.graph.input, *proto.graph.output):
        assert value.type.tensor_type.elem_type == SINGLE
    assert not [n for n in proto.graph.node if n.op_type == "BatchNormalization"]
    assert files["float16"].stat().st_size < 0.65 * files["float32"].stat().st_size


def test_high_numbers_keep_their_digits_in_float16(model, files):
    """DN one apart near 10,000 are one number in half precision: the cast must come later."""
    tiles = example_tiles(load(model)) * 0 + 9000
    near = tiles + 1  # half precision counts in eights here
    run = run_onnx(files["float16"])
    wanted = deployed(load(model))
    found = compare(wanted, run, np.concatenate([tiles[:3], near[:3]]))
    assert found.fault(LIMITS["float16"]) is None
    graph = onnx.load(files["float16"]).graph
    first = next(i for i, n in enumerate(graph.node) if n.op_type == "Cast")
    assert {"Sub", "Div", "Where"} <= {node.op_type for node in graph.node[:first]}


def test_int8_rounds_the_convolutions_alone(files):
    assert set(weights(files["int8"])) == {INT8}
    assert weights(files["int8"], "Gemm") == [SINGLE]
    scales = [n for n in onnx.load(files["int8"]).graph.node if n.op_type == "DequantizeLinear"]
    assert scales
    assert files["int8"].stat().st_size < 0.4 * files["float32"].stat().st_size


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_rounded_files_are_read_by_onnxruntime_1_17(files, precision):
    proto = onnx.load(files[precision])
    assert proto.ir_version == 9
    assert [(o.domain, o.version) for o in proto.opset_import if o.domain == ""] == [("", 18)]
    history = onnx.defs.get_all_schemas_with_history()
    known = {schema.name for schema in history if schema.since_version <= 18}
    assert {node.op_type for node in proto.graph.node} <= known
    assert {node.domain for node in proto.graph.node} <= {"", "ai.onnx"}


@pytest.mark.skipif(
    not os.environ.get("GEOTL_ORT117"),
    reason="no environment with onnxruntime 1.17 (its python in GEOTL_ORT117)",
)
def test_onnxruntime_1_17_itself_says_the_same(model, files, tmp_path):
    tiles = example_tiles(load(model))[:7]
    np.save(tmp_path / "tiles.npy", tiles)
    told = subprocess.run(
        [os.environ["GEOTL_ORT117"], "-c", RUNNER, tmp_path / "tiles.npy", *files.values()],
        check=True,
        capture_output=True,
        text=True,
    )
    assert told.stdout.startswith("1.17.")
    for path in files.values():
        wanted = run_onnx(path)(tiles)[0]
        np.testing.assert_allclose(np.load(f"{path}.npy"), wanted, atol=0.01)


def test_openvino_says_the_same(model, files):
    openvino = pytest.importorskip("openvino")
    tiles, core = example_tiles(load(model)), openvino.Core()
    exact = {"INFERENCE_PRECISION_HINT": "f32"}  # it rounds to bfloat16 of its own where it gains
    for precision, path in files.items():
        compiled = core.compile_model(str(path), "CPU", exact)
        found = compare(deployed(load(model)), lambda t, c=compiled: tuple(c(t).values()), tiles)
        assert found.fault(LIMITS[precision]) is None, (precision, found)


def test_the_passport_tells_precision_and_loss(files):
    assert read_passport(files["float16"])["precision"] == "float16"
    told = read_passport(files["int8"])
    assert told["precision"] == "int8"
    assert told["rounding"]["tiles"] == 18
    assert told["rounding"]["calibrated"] == 18


def test_the_command_prints_what_int8_costs(model, labelled, tmp_path, capsys):
    out = tmp_path / "m.onnx"
    given = ["export", str(model), "--format", "onnx", "-o", str(out), "--precision", "int8"]
    assert main([*given, "--tiles", str(labelled)]) == 0
    printed = capsys.readouterr().out
    assert "accuracy on 18 tiles: float32 1.000" in printed
    assert "difference +0.00 points [" in printed
    assert "% with the same class" in printed
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_the_same_tiles_give_the_same_bytes(model, labelled, files, tmp_path):
    again = tmp_path / "again.onnx"
    rounding = Rounding("int8", labelled)
    export_graph(load(model), "onnx", again, rounding=rounding, log=lambda _: None)
    assert again.read_bytes() == files["int8"].read_bytes()


def test_too_large_a_loss_is_refused(model, labelled, tmp_path, monkeypatch, capsys):
    real = exporter.quantise

    def ruined(full: Path, path: Path, batches) -> None:
        real(full, path, batches)
        proto = onnx.load(path)
        for entry in proto.graph.initializer:  # every kernel the same: all tiles look alike
            if entry.data_type == INT8 and len(entry.dims) == 4:
                entry.raw_data = bytes(len(entry.raw_data))
        onnx.save(proto, path)

    monkeypatch.setattr(exporter, "quantise", ruined)
    out = tmp_path / "m.onnx"
    given = ["export", str(model), "--format", "onnx", "-o", str(out), "--precision", "int8"]
    given += ["--tiles", str(labelled)]
    assert main([*given, "--max-loss", "5"]) == 2
    told = capsys.readouterr()
    assert "more than --max-loss 5; no file is written" in told.err
    assert "difference -66.67 points" in told.out
    assert not list(tmp_path.iterdir())
    with pytest.raises(ModelError, match=r"probabilities|the model.s class"):
        export_graph(load(model), "onnx", out, rounding=Rounding("int8", labelled, 100.0))
    assert not list(tmp_path.iterdir())  # the loss allowed, parity is not


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--precision", "int8"], "give labelled tiles with --tiles"),
        (["--precision", "int8", "--tiles", "nowhere"], "nowhere"),
        (["--precision", "float16", "--tiles", "nowhere"], "only for --precision int8"),
        (["--precision", "float16", "--format", "pt2"], "only for --format onnx"),
        (["--precision", "int8", "--tiles", "x", "--max-loss", "-1"], "allowed: 0 or more"),
        (["--precision", "int8", "--tiles", "x", "--max-loss", "nan"], "allowed: 0 or more"),
    ],
)
def test_what_does_not_go_together_is_one_line(given, told, model, tmp_path, capsys):
    out = tmp_path / "m.onnx"
    assert main(["export", str(model), "--format", "onnx", "-o", str(out), *given]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_halves_share_no_tile_and_no_group(model, labelled, tmp_path):
    contract = load(model).contract
    found = halves(contract, labelled)
    assert len(found.measured) == len(found.tested) == 18
    assert not {*found.measured} & {*found.tested}
    assert np.bincount(found.truth).tolist() == [6, 6, 6]
    rows = ["path,label,group"]
    tiles = [t for name in CLASSES for t in sorted((labelled / name).iterdir())]
    rows += [f'"{t}","{t.parent.name}",{"ab"[int(t.stem) % 2]}' for t in tiles]
    table = tmp_path / "tiles.csv"
    table.write_text("\n".join(rows))
    grouped = halves(contract, table)
    sides = [{int(p.stem) % 2 for p in part} for part in (grouped.measured, grouped.tested)]
    assert sorted(map(sorted, sides)) == [[0], [1]]


def test_calibration_is_bounded_and_the_judged_half_unseen(model, labelled, monkeypatch):
    seen: list[np.ndarray] = []
    real = exporter.quantise

    def watched(full: Path, path: Path, batches) -> None:
        def each():
            for tiles in batches:
                seen.append(tiles)
                yield tiles

        real(full, path, each())

    monkeypatch.setattr(exporter, "quantise", watched)
    out = labelled.parent / "watched.onnx"
    export_graph(load(model), "onnx", out, rounding=Rounding("int8", labelled), log=lambda _: None)
    assert max(map(len, seen)) <= 4
    contract = load(model).contract
    found = halves(contract, labelled)
    judged = np.concatenate(list(raw_batches(contract, found.tested)))
    together = np.concatenate(seen)
    assert np.isnan(together[:, :, :3]).all()  # nodata is told as NaN
    assert not (np.nan_to_num(together)[:, None] == np.nan_to_num(judged)).all((2, 3, 4)).any()
    assert len(together) <= MAX_CALIBRATING


def test_judging_counts_right_answers(model, labelled):
    contract = load(model).contract
    found = halves(contract, labelled)
    truth = iter(np.split(np.eye(3, dtype=np.float32)[found.truth], 2))
    right = lambda tiles: (next(truth), np.zeros(0, np.float32))  # noqa: E731
    always = lambda tiles: (np.eye(3, dtype=np.float32)[[0] * len(tiles)], tiles)  # noqa: E731
    loss = rounding_loss((right, always), contract, found, size=9)
    assert (loss.before.value, loss.after.value) == (1.0, pytest.approx(1 / 3))
    assert loss.points.value == pytest.approx(200 / 3)
    assert loss.points.low < 200 / 3 < loss.points.high


def test_the_interval_of_a_loss_covers_it():
    """95 % of samples of a known loss, by simulation."""
    random, truth, covered = np.random.default_rng(0), 100 * (0.06 - 0.02), 0
    for _ in range(1000):
        drawn = random.choice(4, 300, p=[0.06, 0.02, 0.82, 0.10])
        before, after = np.isin(drawn, [0, 2]), np.isin(drawn, [1, 2])
        found = points_lost(before, after)
        covered += found.low <= truth <= found.high
    assert 930 <= covered <= 975
    with pytest.raises(DataError, match="no labelled tile"):
        points_lost(np.zeros(0, bool), np.zeros(0, bool))


def test_tiles_of_an_unknown_class_are_refused(model, tmp_path, capsys):
    for name in ("moor", "town"):
        pixels = made_pixels(np.array([[1]]), PX)
        write_tile(tmp_path / name / "1.tif", pixels, names=list(BANDS))
    with pytest.raises(DataError, match="class 'moor' is not one of the model's"):
        halves(load(model).contract, tmp_path)
