"""A folder where a file is needed, and the reverse; names and options that are nearly right."""

from __future__ import annotations

from pathlib import Path

import pytest

from geotl.cli.main import main
from geotl.data.tiles import index_folder
from geotl.errors import BandError, DataError, ModelError, RecipeError, WeightsError, nearest
from geotl.experiments.recipe import load
from geotl.imagery.band_files import band_files
from geotl.imagery.sensors import get_sensor
from geotl.io.vector import field_names, read_features
from geotl.models.backbone_names import check_backbone_name
from geotl.models.model_file import read_header
from geotl.models.weights import read_weight_file


def test_a_folder_as_model_is_named_as_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Red before: "no such model file"."""
    with pytest.raises(ModelError, match="a folder; give the model file in it"):
        read_header(tmp_path)
    assert main(["inspect", str(tmp_path)]) == 2
    assert "a folder; give the model file in it" in capsys.readouterr().err


def test_a_folder_as_weights_or_recipe_is_named_as_one(tmp_path: Path) -> None:
    """Red before: "no such weight file", "no recipe of that name"."""
    with pytest.raises(WeightsError, match=r"a folder; give the \.pth"):
        read_weight_file(tmp_path)
    (tmp_path / "mine.yaml").mkdir()
    for folder in (tmp_path, tmp_path / "mine.yaml"):
        with pytest.raises(RecipeError, match="a folder; give the recipe's file"):
            load(str(folder), [])


def test_a_file_as_folder_of_tiles_is_named_as_one(tmp_path: Path) -> None:
    """Red before: "no such folder"."""
    (tmp_path / "tiles.txt").write_text("a")
    with pytest.raises(DataError, match=r"tiles\.txt: a file; set data\.root to the folder"):
        index_folder(tmp_path / "tiles.txt")


def test_a_folder_as_labels_is_named_in_one_line(tmp_path: Path) -> None:
    """Red before: GDAL's own words."""
    for read in (field_names, read_features):
        with pytest.raises(DataError, match="a folder, which holds no layer") as error:
            read(tmp_path)
        assert "\n" not in str(error.value)


def test_a_folder_of_a_scene_is_not_called_one_of_a_tile(tmp_path: Path) -> None:
    with pytest.raises(BandError, match="the folder of a tile or scene needs one file"):
        band_files(tmp_path, [], get_sensor("sentinel2_l2a"), ["B02"])


def test_a_band_is_proposed_by_its_own_name() -> None:
    """Red before: "did you mean 'B8'?"."""
    for name in ("B88", "B008"):
        with pytest.raises(BandError, match="did you mean 'B08'"):
            get_sensor("sentinel2_l2a").band(name)
    with pytest.raises(BandError, match="did you mean 'nir'"):
        get_sensor("sentinel2_l2a").band("nirr")


def test_a_question_mark_is_followed_by_no_semicolon() -> None:
    """Red before: "did you mean 'resnet18'?; timm's networks"."""
    with pytest.raises(ModelError, match=r"'resnet18'\? timm's networks are named"):
        check_backbone_name("resnet81")
    assert nearest("zz", ["a"], "or none") == "allowed: a; or none"


def test_a_command_that_is_nearly_right_is_proposed(capsys: pytest.CaptureFixture[str]) -> None:
    """Red before: a list of all commands."""
    with pytest.raises(SystemExit):
        main(["ran"])
    assert "no command 'ran'; did you mean 'run'?" in capsys.readouterr().err


def test_quiet_may_stand_before_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Red before: unrecognized arguments."""
    assert main(["-q", "inspect", "absent.safetensors"]) == 2
    assert "no such model file" in capsys.readouterr().err
    assert main(["-qq", "recipe", "list"]) == 0
    assert capsys.readouterr().out == ""
