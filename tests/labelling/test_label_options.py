"""What a project keeps of the command line, and what a later session may leave out or change."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.labelled_scenes import BANDS, made_scene

from geotl.cli.main import main
from geotl.labelling import session
from geotl.labelling.folder import Choices, read_record


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_scene(tmp_path_factory.mktemp("scene"))[0]


@pytest.fixture(autouse=True)
def unserved(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """No server begins; the folder of each project that would be served."""
    folders: list[Path] = []
    monkeypatch.setattr(session, "_serve", lambda project, *_: folders.append(project.folder))
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


def test_bands_go_with_their_sensor(scene: Path, tmp_path: Path) -> None:
    words = ["label", str(scene), "-o", str(tmp_path / "p"), "--no-browser"]
    assert main([*words, "--sensor", "sentinel2_l2a", "--bands", *BANDS]) == 0
    more = ["--sensor", "sentinel2_l2a_n0400", "--bands", "B02"]
    assert main([*words, *more]) == 0
    assert choices(tmp_path / "p").bands == ("B02",)
    assert main([*words, "--sensor", "sentinel2_l2a"]) == 2  # all of its bands, which lack
    assert choices(tmp_path / "p").sensor == "sentinel2_l2a_n0400"


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
