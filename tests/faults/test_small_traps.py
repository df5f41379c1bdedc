"""Paths that are none, weights that are none, formulas, tags, and outputs that are inputs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.map_fixtures import BANDS, made_model, made_tiles
from helpers.tiles import write_tile

from geotl.cli.main import main
from geotl.data.manifest import index_manifest
from geotl.data.tiles import list_images
from geotl.errors import DataError, GeoTLError, ModelError, OutputError, WeightsError
from geotl.export.model_card import _without_tags
from geotl.inference import onnx_file
from geotl.io.files import replaceable, whole_file, write_text
from geotl.io.tables import Faults, TableWriter, csv_rows, read_table
from geotl.io.vector import read_features
from geotl.models.weights import read_weight_file

NO_PATHS = ["a\0b.tif", "~nobody-at-all/a.tif", "x" * 5000 + ".tif", "y/" * 3000 + "z.tif"]


@pytest.mark.parametrize("path", NO_PATHS)
def test_paths_that_no_file_has_give_one_line(path: str, tmp_path: Path) -> None:
    for call in (lambda: list_images([path]), lambda: read_features(path)):
        with pytest.raises(DataError) as error:
            call()
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 300
    table = tmp_path / "tiles.csv"
    table.write_text(f"path,label\n{path},a\n")
    with pytest.raises(DataError):
        index_manifest(table)


@pytest.mark.parametrize("path", NO_PATHS[1:])
@pytest.mark.parametrize("command", ["inspect", "check", "predict", "map", "run"])
def test_the_command_line_refuses_them(
    path: str, command: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out.tif")
    words = {
        "inspect": [path],
        "check": [path],
        "predict": [str(model), path, "-o", out],
        "map": [str(model), path, "-o", out],
        "run": [path],
    }
    assert main([command, *words[command]]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_names_that_are_not_utf8_give_one_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiles = Path(os.fsdecode(os.fsencode(tmp_path) + b"/t\xff"))
    tile = write_tile(tmp_path / "tile.tif", made_tiles(1)[0][0], names=list(BANDS))
    for name in ("a", "b"):
        (tiles / name).mkdir(parents=True)
        (tiles / name / "tile.tif").write_bytes(tile.read_bytes())
    out = tmp_path / "out.csv"
    for words in (["predict", str(model), str(tiles), "-o", str(out)], ["check", str(tiles)]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert "not UTF-8" in said or words[0] == "check"
        assert said.count("\n") == 1
    write_text(out, str(tiles))
    assert "\\udcff" in out.read_text()


@pytest.mark.parametrize("kind", [torch.int8, torch.complex64])
def test_weights_are_real_numbers(kind: torch.dtype, tmp_path: Path) -> None:
    tensor, path = torch.ones(4, dtype=kind), tmp_path / "weights.pth"
    torch.save({"conv1.weight": tensor, "bn1.num_batches_tracked": torch.tensor(3)}, path)
    with pytest.raises(WeightsError, match=r"conv1\.weight has") as error:
        read_weight_file(path)
    assert "\n" not in str(error.value)
    torch.save({"conv1.weight": torch.ones(3), "bn1.num_batches_tracked": torch.tensor(3)}, path)
    read_weight_file(path)


def test_an_onnx_file_is_not_read_whole_before_its_seal_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as stream:
        stream.truncate(8 << 30)  # sparse: nothing is there
    monkeypatch.setattr(Path, "read_bytes", None)
    with pytest.raises(ModelError, match="not an ONNX file that geotl exported"):
        onnx_file.read_passport(path)


def test_cells_are_no_formulas_and_come_back(tmp_path: Path) -> None:
    cells = ["=1+1", "@a", "+b", "-c", "-2.5", "-", "plain", "'quoted", 3]
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as stream:
        TableWriter(stream).writerows([[f"c{i}" for i in range(len(cells))], cells])
    written = path.read_text().splitlines()[1].split(",")
    assert [cell for cell in written if cell[0] in "=+@"] == []
    assert "'-c" in written
    assert "-2.5" in written
    _, rows = csv_rows(path.read_text(), path)
    assert list(next(rows)[1].values()) == [str(cell) for cell in cells]


def test_predictions_of_a_tile_called_like_a_formula(model: Path, tmp_path: Path) -> None:
    write_tile(tmp_path / "=cmd.tif", made_tiles(1)[0][0], names=list(BANDS))
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        assert main(["predict", str(model), "=cmd.tif", "-o", "out.csv"]) == 0
    finally:
        os.chdir(here)
    assert (tmp_path / "out.csv").read_text().splitlines()[1].startswith("'=cmd.tif,")
    faults = Faults(tmp_path / "out.csv")
    assert read_table(tmp_path / "out.csv", faults)[0].path == "=cmd.tif"


def test_a_card_holds_no_tags() -> None:
    card = _without_tags("# <script>alert(1)</script>\n```\npython < a\n```\n<img src=x>")
    assert "<script" not in card
    assert "<img" not in card
    assert "python < a" in card


@pytest.mark.parametrize("which", ["model", "tile"])
def test_predict_never_writes_over_what_it_reads(
    which: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = made_model(tmp_path / "model.safetensors")
    tile = tmp_path / "tiles" / "tile.npy"
    tile.parent.mkdir()
    np.save(tile, made_tiles(1)[0][0])
    out = model if which == "model" else tile
    before = out.read_bytes()
    for given in (tile, tile.parent):
        words = ["predict", str(model), str(given), "-o", str(out), "--overwrite"]
        assert main(words) == 2
        assert "among the inputs" in capsys.readouterr().err
    assert out.read_bytes() == before


def test_export_and_map_never_write_over_what_they_read(tmp_path: Path) -> None:
    model = made_model(tmp_path / "model.safetensors")
    scene = write_tile(tmp_path / "scene.tif", made_tiles(1)[0][0])
    before = model.read_bytes(), scene.read_bytes()
    words = ["--format", "safetensors", "-o", str(model), "--overwrite"]
    assert main(["export", str(model), *words]) == 2
    assert main(["map", str(model), str(scene), "-o", str(scene), "--overwrite"]) == 2
    assert (model.read_bytes(), scene.read_bytes()) == before


def test_links_are_followed_and_devices_are_left_alone(tmp_path: Path) -> None:
    target, link = tmp_path / "deep" / "a.txt", tmp_path / "link.txt"
    target.parent.mkdir()
    link.symlink_to(target)
    write_text(link, "one")
    write_text(link, "two")
    assert link.is_symlink()
    assert target.read_text() == "two"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    to_pipe = tmp_path / "to_pipe"
    to_pipe.symlink_to(pipe)
    for place in (pipe, to_pipe, Path("/dev/null")):
        with pytest.raises(OutputError, match="no regular file"), whole_file(place):
            pass
    assert pipe.is_fifo()
    with pytest.raises(GeoTLError):
        replaceable(tmp_path / "a\0b")


@pytest.mark.parametrize("name", ["map.tif", "labels.gpkg"])
def test_inspect_says_what_it_reads(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(b"II*\0" * 100)
    assert main(["inspect", str(tmp_path / name)]) == 2
    said = capsys.readouterr().err
    assert "this is no model file; inspect reads models (.safetensors, .onnx)" in said
    assert said.count("\n") == 1
