"""What a project keeps of the command line, and what a later session may leave out or change."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from helpers.labelled_scenes import BANDS, made_scene
from helpers.tiles import ROOT, write_tile

from geotl.cli.main import main
from geotl.labelling import session
from geotl.labelling.choices import Choices
from geotl.labelling.folder import read_record


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_scene(tmp_path_factory.mktemp("scene"))[0]


@pytest.fixture(autouse=True)
def unserved(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """No server begins; the folder of each project that would be served."""
    folders: list[Path] = []
    monkeypatch.setattr(session, "_serve", lambda project, *_, **__: folders.append(project.folder))
    return folders


def choices(folder: Path) -> Choices:
    record = read_record(folder)
    assert record is not None
    return record.choices


def test_a_project_keeps_how_its_scene_is_read(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["label", str(scene), "-o", str(tmp_path / "p"), "--no-browser"]
    given = ["--sensor", "sentinel2_l2a", "--bands", *BANDS, "--mask", "none"]
    weights, aoi = (str(tmp_path / name) for name in ("w.pth", "area.gpkg"))
    more = ["--weights", weights, "--aoi", aoi]
    assert main([*words, *given, *more]) == 2
    assert f"{weights}: no such file; give the right one with --weights" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()
    for path in (weights, aoi):
        Path(path).touch()
    assert main([*words, *given, *more]) == 0
    kept = choices(tmp_path / "p")
    assert kept == Choices("sentinel2_l2a", tuple(BANDS), weights, "none", aoi)
    assert main(words) == 0
    assert choices(tmp_path / "p") == kept
    assert main([*words, "--bands", "B04", "B03", "B02"]) == 0
    assert choices(tmp_path / "p").bands == ("B04", "B03", "B02")


def test_weights_area_and_cache_are_taken_back_with_a_line_on_the_features(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["label", str(scene), "-o", str(tmp_path / "p"), "--no-browser"]
    words += ["--sensor", "sentinel2_l2a", "--bands", *BANDS]
    for name in ("w.pth", "area.gpkg"):
        (tmp_path / name).touch()
    given = ["--weights", str(tmp_path / "w.pth"), "--aoi", str(tmp_path / "area.gpkg")]
    assert main([*words, *given, "--cache-gb", "2.5"]) == 0
    assert (choices(tmp_path / "p").cache_gb, capsys.readouterr().out) == (2.5, "")
    assert main(words) == 0
    assert capsys.readouterr().out == ""  # nothing changes
    assert main([*words, "--weights", "none", "--aoi", "none", "--cache-gb", "10"]) == 0
    assert choices(tmp_path / "p") == Choices("sentinel2_l2a", tuple(BANDS))
    assert capsys.readouterr().out.splitlines() == [
        "--weights none: the features of w.pth are deleted; those of bands and windows stay",
        "--aoi none: features are deleted, and computed for the whole scene",
        "--cache-gb 10: of cached features those stay that fit, coarse ones first",
    ]


@pytest.mark.parametrize("size", ["0", "-1", "nan", "inf"])
def test_a_cache_has_a_size_above_nothing(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], size: str
) -> None:
    words = ["label", str(scene), "-o", str(tmp_path / "p"), "--sensor", "sentinel2_l2a"]
    assert main([*words, "--bands", *BANDS, f"--cache-gb={size}"]) == 2
    assert "--cache-gb: given" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


def test_a_project_of_before_has_the_usual_cache_and_smoothing(scene: Path, tmp_path: Path) -> None:
    words = ["label", str(scene), "-o", str(tmp_path / "p"), "--sensor", "sentinel2_l2a"]
    assert main([*words, "--bands", *BANDS]) == 0
    record = tmp_path / "p" / "project.json"
    value = json.loads(record.read_text())
    del value["choices"]["cache_gb"], value["choices"]["smooth_px"]
    record.write_text(json.dumps(value))
    kept = choices(tmp_path / "p")
    assert (kept.cache_gb, kept.smooth_px) == (10, 11)


def test_a_map_is_smoothed_unless_a_project_says_no(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["label", str(scene), "-o", str(tmp_path / "p"), "--sensor", "sentinel2_l2a"]
    assert main([*words, "--bands", *BANDS, "--smooth-px", "4"]) == 2
    assert "--smooth-px: given 4; allowed: odd numbers from 3 to 101" in capsys.readouterr().err
    assert main([*words, "--bands", *BANDS]) == 0
    assert choices(tmp_path / "p").smooth_px == 11
    assert main([*words, "--smooth-px", "1"]) == 0
    assert main(words) == 0
    assert choices(tmp_path / "p").smooth_px == 1


def test_bands_go_with_their_sensor(scene: Path, tmp_path: Path) -> None:
    words = ["label", str(scene), "-o", str(tmp_path / "p"), "--no-browser"]
    assert main([*words, "--sensor", "sentinel2_l2a", "--bands", *BANDS]) == 0
    more = ["--sensor", "sentinel2_l2a_n0400", "--bands", "B02"]
    assert main([*words, *more]) == 0
    assert choices(tmp_path / "p").bands == ("B02",)
    assert main([*words, "--sensor", "sentinel2_l2a"]) == 0  # those of its bands that are there
    assert choices(tmp_path / "p") == Choices("sentinel2_l2a", tuple(BANDS))


def test_a_folder_is_named_after_the_scene(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unserved: list[Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["label", str(scene), "--sensor", "sentinel2_l2a", "--bands", *BANDS]) == 0
    assert unserved == [Path("scene_labels")]


def test_a_kill_between_folder_and_record_hinders_nothing(scene: Path, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / ".labels.gpkg.lock").write_text("")
    words = ["label", str(scene), "-o", str(tmp_path / "p"), "--sensor", "sentinel2_l2a"]
    assert main([*words, "--bands", *BANDS]) == 0


def documented() -> list[str]:
    """The commands of the pages that begin a project of labels."""
    text = "\n".join((ROOT / page).read_text() for page in ("README.md", "docs/LABEL.md"))
    lines = re.findall(r"^    geotl (label .*)$", text, re.MULTILINE)
    return sorted({line for line in lines if "--sample" not in line})


@pytest.mark.parametrize("line", documented())
def test_documented_commands_open_a_project(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unserved: list[Path]
) -> None:
    (tmp_path / "sample_tiles").symlink_to(ROOT / "sample_tiles")
    (tmp_path / "scene.tif").symlink_to(ROOT / "sample_tiles" / "scene.tif")
    if "--sensor" not in line:  # the command for a project that there is
        line += " --sensor sentinel2_l2a_n0400"
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(line)) == 0
    assert unserved == [Path("my_labels")]
    assert choices(tmp_path / "my_labels").sensor == "sentinel2_l2a_n0400"


def test_bands_that_a_scene_lacks_are_named_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["label", str(ROOT / "sample_tiles" / "scene.tif"), "-o", str(tmp_path / "p")]
    assert main([*words, "--sensor", "sentinel2_l2a_n0400"]) == 0
    said = "".join(capsys.readouterr())
    assert "scene.tif: without B01, B09 of sentinel2_l2a_n0400" in said
    used = choices(tmp_path / "p").bands or ()
    assert " ".join(used) == "B02 B03 B04 B05 B06 B07 B08 B8A B11 B12"


@pytest.mark.parametrize(
    ("more", "remedies"),
    [
        ((), ("--sensor", "geotl sensors")),
        (("--sensor", "sentinel2_l2a", "--bands", "B11"), ("--bands", "--sensor")),
    ],
)
def test_bands_that_do_not_fit_are_refused_with_the_option(
    scene: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    remedies: tuple[str, ...],
) -> None:
    assert main(["label", str(scene), "-o", str(tmp_path / "p"), *more]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert all(word in said for word in remedies)
    assert "data.bands" not in said
    assert not (tmp_path / "p").exists()


def test_a_picture_is_rgb_and_more_bands_need_a_sensor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.full((5, 32, 32), 9, np.uint8)
    picture = write_tile(tmp_path / "a.tif", pixels[:3], names=["red", "green", "blue"])
    five = write_tile(tmp_path / "b.tif", pixels)
    assert main(["label", str(picture), "-o", str(tmp_path / "p")]) == 0
    assert choices(tmp_path / "p").sensor == "rgb"
    assert main(["label", str(five), "-o", str(tmp_path / "q")]) == 2
    assert "has 5 bands" in capsys.readouterr().err


def test_bands_without_names_are_named_in_file_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.full((2, 32, 32), 900, np.uint16)
    scene = write_tile(tmp_path / "a.tif", pixels)
    words = ["label", str(scene), "-o", str(tmp_path / "p"), "--sensor", "sentinel2_l2a"]
    assert main(words) == 2
    assert "name them in file order with --bands" in capsys.readouterr().err
    assert main([*words, "--bands", "B08", "B04"]) == 0
    assert main(words) == 0
    assert choices(tmp_path / "p").bands == ("B08", "B04")


def test_a_scene_with_none_of_the_bands_is_refused_with_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = write_tile(tmp_path / "a.tif", np.full((2, 32, 32), 9, np.uint16), names=["VV", "VH"])
    words = ["label", str(scene), "-o", str(tmp_path / "p"), "--sensor", "sentinel2_l2a"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "--bands" in said
    assert "data.bands" not in said
