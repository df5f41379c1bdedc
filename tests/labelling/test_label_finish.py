"""The end of a project: its recipe, and results that are complete or not there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin
from safetensors.numpy import load_file

from geotl.cli.main import main
from geotl.data.labels import read_any
from geotl.errors import DataError
from geotl.experiments.recipe import load
from geotl.imagery.scene import Scene, open_scene
from geotl.imagery.sensors import get_sensor
from geotl.io.raster import Grid
from geotl.labelling import finish, own_commands
from geotl.labelling.finish import Finisher, labels_of, settle
from geotl.labelling.own_commands import Attempts, BusyError, OwnCommands, StoppedError
from geotl.labelling.project_recipe import ProjectInputs, recipe_values, split_of

BANDS = ("B02", "B03", "B04", "B08")
COLOURS = {"water": "#2b7bba", "=1+1": "#aa0011", "<b>reed</b>": "#b08d57", "unused": "#000000"}
SIDE = 96
GRID = Grid("EPSG:32633", (10.0, 0.0, 300000.0, 0.0, -10.0, 5900000.0), SIDE, SIDE)


def write_scene(path: Path) -> Path:
    """Three stripes of classes in four bands."""
    rng = np.random.default_rng(0)
    stripe = np.minimum(np.arange(SIDE) * 3 // SIDE, 2)
    data = 1500 + 700 * np.stack([(stripe + band) % 3 for band in range(4)])[:, None]
    data = data + rng.normal(0, 120, (4, SIDE, SIDE))
    profile = {"driver": "GTiff", "count": 4, "height": SIDE, "width": SIDE, "dtype": "uint16"}
    with rasterio.open(
        path, "w", crs="EPSG:32633", transform=from_origin(300000, 5900000, 10, 10), **profile
    ) as to:
        to.write(data.astype(np.uint16))
        to.descriptions = BANDS
    return path


def write_labels(folder: Path, count: int = 45, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    places = rng.integers(0, SIDE, (count, 2))
    names = [[*COLOURS][min(int(col) * 3 // SIDE, 2)] for col, _ in places]
    points = [shapely.Point(*GRID.at(col + 0.5, row + 0.5)) for col, row in places]
    fields = {"id": np.arange(1, count + 1), "class": names}
    table = geopandas.GeoDataFrame(fields, geometry=points, crs=GRID.crs)
    (folder / "labels.gpkg").unlink(missing_ok=True)
    table.to_file(folder / "labels.gpkg", layer="labels", driver="GPKG")
    classes = [{"id": i, "name": n, "colour": c} for i, (n, c) in enumerate(COLOURS.items())]
    (folder / "classes.json").write_text(json.dumps(classes))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> ProjectInputs:
    scene = write_scene(tmp_path_factory.mktemp("scenes") / "field.tif")
    return ProjectInputs(scene, "sentinel2_l2a_n0400", BANDS)


def opened(inputs: ProjectInputs) -> Scene:
    return open_scene(inputs.scene, get_sensor(inputs.sensor), inputs.bands)


class Heard:
    """Events that were published."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def __call__(self, kind: str, **values: object) -> None:
        assert kind == "finish"
        self.events.append(values)

    @property
    def lines(self) -> list[str]:
        return [event["line"] for event in self.events]


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, inputs: ProjectInputs
) -> tuple[Path, Heard, Sequence[str]]:
    folder, heard = tmp_path_factory.mktemp("project"), Heard()
    write_labels(folder)
    names = Finisher(inputs, opened(inputs))(folder, heard, OwnCommands())
    return folder, heard, names


def test_a_project_ends_with_recipe_model_map_and_report(
    finished: tuple[Path, Heard, Sequence[str]],
) -> None:
    folder, heard, names = finished
    assert names == ["report.html", "map.html", "map.png"]
    assert {event["state"] for event in heard.events} == {"running"}
    there = {path.name for path in folder.iterdir()}
    assert {"recipe.yaml", "run", "map.tif", "map.html", "labels.gpkg", "classes.json"} <= there
    assert not [name for name in there if name.startswith(".")]
    assert (folder / "run" / "report.html").exists()
    assert any("fold 5/5" in line for line in heard.lines)
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    assert heard.lines[-1] == metrics["headline"] != ""


def test_the_map_has_the_names_and_colours_of_the_page(
    finished: tuple[Path, Heard, Sequence[str]],
) -> None:
    folder, *_ = finished
    with rasterio.open(folder / "map.tif") as stored:
        classes, table, tags = stored.read(1), stored.colormap(1), stored.tags(1) | stored.tags()
    names = sorted(name for name in COLOURS if name != "unused")
    shown = ["#{:02x}{:02x}{:02x}".format(*table[value][:3]) for value in range(3)]
    assert shown == [COLOURS[name] for name in names]
    assert set(np.unique(classes)) == {0, 1, 2}
    assert all(name in str(tags) + (folder / "map.tif.aux.xml").read_text() for name in ["water"])
    page = (folder / "map.html").read_text()
    assert "<b>reed</b>" not in page


def test_running_the_recipe_again_gives_the_same_model_to_the_bit(
    finished: tuple[Path, Heard, Sequence[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, *_ = finished
    monkeypatch.chdir(folder)
    assert main(["run", "recipe.yaml", "-o", str(tmp_path / "again"), "-q"]) == 0
    first, second = (
        load_file(place / "model.safetensors") for place in (folder / "run", tmp_path / "again")
    )
    assert first.keys() == second.keys()
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_the_labels_are_read_by_geotl_and_pyogrio(
    finished: tuple[Path, Heard, Sequence[str]],
) -> None:
    folder, *_ = finished
    path, given = folder / "labels.gpkg", {"layer": "labels", "field": "class", "id_field": "id"}
    labels = read_any(path, crs_to="EPSG:32633", **given)
    assert (len(labels.labels), labels.rejected) == (45, ())
    info = pyogrio.read_info(folder / "labels.gpkg", layer="labels")
    assert ([*info["fields"]], info["crs"]) == (["id", "class"], "EPSG:32633")


def test_the_recipe_states_what_the_project_used(tmp_path: Path) -> None:
    bare = ProjectInputs(tmp_path / "scene.tif", "sentinel2_l2a")
    full = ProjectInputs(
        tmp_path / "scene.tif",
        "sentinel2_l2a",
        ("B02", "B03"),
        mask="none",
        weights=tmp_path / "resnet18.pth",
        aoi=tmp_path / "aoi.gpkg",
        smooth_px=9,
    )
    places = np.random.default_rng(0).uniform(0, 5000, (200, 2))
    values = recipe_values(bare, {"a": "#000000"}, places, "labels.gpkg")
    assert set(values["data"]) == {"scenes", "sensor", "colours"}
    assert values["split"] == {"method": "blocks", "kfold": 5}
    assert "model" not in values
    values = recipe_values(full, {}, places, "labels.gpkg")
    assert values["data"]["mask"] is None
    assert values["data"]["bands"] == ["B02", "B03"]
    assert values["model"]["weights"] == str(tmp_path / "resnet18.pth")
    options = ["--mask", "none", "--aoi", str(tmp_path / "aoi.gpkg"), "--smooth-px", "9"]
    assert finish.map_command(full)[-6:] == options
    assert "--smooth-px" not in finish.map_command(bare)


def test_the_written_recipe_is_read_back(finished: tuple[Path, Heard, Sequence[str]]) -> None:
    folder, *_ = finished
    recipe = load(folder / "recipe.yaml")
    assert (recipe.task, recipe.labels.path, recipe.labels.layer) == (
        "pixels",
        "labels.gpkg",
        "labels",
    )
    assert recipe.data.colours == {n: c for n, c in COLOURS.items() if n != "unused"}
    head = (folder / "recipe.yaml").read_text().splitlines()[:2]
    assert head[0] == "# geotl run recipe.yaml -o run"
    assert head[1].startswith("# geotl map run/model.safetensors ")


@pytest.mark.parametrize(
    ("count", "extent", "method"),
    [(4, 5000.0, "group"), (12, 5000.0, "blocks"), (30, 5000.0, "blocks"), (12, 0.0, "group")],
)
def test_few_labels_get_folds_that_they_allow(count: int, extent: float, method: str) -> None:
    places = np.random.default_rng(1).uniform(0, 1, (count, 2)) * extent
    split = split_of(places)
    assert split["method"] == method
    assert 2 <= split["kfold"] <= min(5, count)
    if method == "blocks":
        origin = places.min(axis=0)
        assert 0 < split["block_m"] <= extent / 2
        assert len(np.unique((places - origin) // split["block_m"], axis=0)) >= 4


@pytest.mark.parametrize("count", [6, 9])
def test_a_model_of_very_few_labels_can_be_finished(
    tmp_path: Path, inputs: ProjectInputs, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red before: `geotl run` read no variogram off so few labels."""
    write_labels(tmp_path, count)
    colours, places = labels_of(tmp_path, opened(inputs))
    text = finish.recipe_text(inputs, colours, places, "labels.gpkg", "")
    (tmp_path / "recipe.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert (
        main(["run", "recipe.yaml", "-o", "run", "-q", "pixels.members=[discriminant_bands]"]) == 0
    )


RUN_IT = """
import json, pathlib, sys
pathlib.Path("run").mkdir(exist_ok=True)
print("fold 1/1")
pathlib.Path("run/model.safetensors").write_text(pathlib.Path("labels.gpkg").read_bytes().hex())
pathlib.Path("run/metrics.json").write_text(json.dumps({"headline": "0.9 of the test pixels"}))
"""
MAP_IT = """
import pathlib
pathlib.Path("map.html").write_text("page")
pathlib.Path("map.tif").write_text("map of " + pathlib.Path("run/model.safetensors").read_text())
"""
FAIL = "print('working'); print('geotl: the disk is full; free some space'); raise SystemExit(2)"
CRASH = "print('Killed'); raise SystemExit(9)"


class Commands:
    """Programs that stand for geotl's, one for each command, and which were started."""

    def __init__(self, **programs: str) -> None:
        self.programs = {"run": RUN_IT, "map": MAP_IT} | programs
        self.started: list[list[str]] = []

    def __call__(self, folder: Path, command: Sequence[str]) -> subprocess.Popen[str]:
        self.started.append([*command])
        return subprocess.Popen(
            [sys.executable, "-c", self.programs[command[0]]],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_labels(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and ".finish" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_failure_is_one_line_and_changes_nothing(
    project: Path, inputs: ProjectInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_commands, "started", Commands())
    finisher = Finisher(inputs, opened(inputs))
    assert finisher(project, Heard(), OwnCommands()) == ["map.html"]
    before = contents(project)
    write_labels(project, seed=1)
    before["labels.gpkg"] = (project / "labels.gpkg").read_bytes()
    monkeypatch.setattr(own_commands, "started", Commands(map=FAIL))
    with pytest.raises(DataError) as failure:
        finisher(project, Heard(), OwnCommands())
    assert str(failure.value) == "the disk is full; free some space"
    assert contents(project) == before


def test_finishing_again_goes_on_where_it_ended(
    project: Path, inputs: ProjectInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing, working = Commands(map=CRASH), Commands()
    monkeypatch.setattr(own_commands, "started", failing)
    with pytest.raises(DataError, match=r"^geotl map: ended with code 9 \(Killed\)"):
        Finisher(inputs, opened(inputs))(project, Heard(), OwnCommands())
    assert not (project / "run").exists()
    monkeypatch.setattr(own_commands, "started", working)
    assert Finisher(inputs, opened(inputs))(project, Heard(), OwnCommands()) == ["map.html"]
    assert [command[0] for command in failing.started] == ["run", "map"]
    assert [command[0] for command in working.started] == ["map"]


def test_finishing_what_is_finished_answers_at_once(
    project: Path, inputs: ProjectInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands, heard = Commands(), Heard()
    monkeypatch.setattr(own_commands, "started", commands)
    first = Finisher(inputs, opened(inputs))(project, Heard(), OwnCommands())
    wanted = contents(project)
    assert Finisher(inputs, opened(inputs))(project, heard, OwnCommands()) == first
    assert len(heard.lines) == 1
    assert heard.lines[0].startswith("nothing has changed since: ")
    assert [command[0] for command in commands.started] == ["run", "map"]
    assert contents(project) == wanted
    (project / "map.tif").unlink()
    Finisher(inputs, opened(inputs))(project, Heard(), OwnCommands())
    assert [command[0] for command in commands.started] == ["run", "map"] * 2


def test_lines_of_a_command_say_the_seconds_so_far(
    project: Path, inputs: ProjectInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    failing = Commands(run="import sys; print('fold 3/5', flush=True); sys.exit(2)")
    monkeypatch.setattr(own_commands, "started", failing)
    with pytest.raises(DataError):
        Finisher(inputs, opened(inputs))(project, heard, OwnCommands())
    assert any(re.fullmatch(r"fold 3/5, \d+ s", line) for line in heard.lines)


@pytest.mark.parametrize(
    ("line", "share"),
    [
        ("fitting folds  1/5  3.4 s each  14 s left", 0.24),
        ("fitting folds  5/5", 0.8),
        ("reading tiles  3/4  5/s", 0.75),  # a work that no step knows
        ("fold 3/5: 74.3% of 35 test labels correct", None),
        ("blocks  0/0", None),
    ],
)
def test_a_line_of_progress_says_how_much_of_a_step_is_done(line: str, share: float | None) -> None:
    assert finish.STEPS[0].share(line) == (None if share is None else pytest.approx(share))


SLOWLY = """
import os, sys
from geotl.console import ProgressLine
assert os.environ["GEOTL_PROGRESS_S"] == "0.5"
clock = iter(range(100))
with ProgressLine(clock=lambda: next(clock)) as line:
    for name in ("fitting folds", "fitting the random split"):
        shown = line.counter(name)
        for done in range(1, 3):
            shown(done, 2)
"""


def test_progress_is_published_step_by_step_and_never_goes_back(
    project: Path, inputs: ProjectInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOTL_PROGRESS_S", "0.5")  # as the commands are started with
    drawn = "print('blocks  1/2'); print('drawing  1/2'); print('blocks  1/2')"
    commands = Commands(run=SLOWLY + RUN_IT, map=f"{drawn}\n{MAP_IT}")
    monkeypatch.setattr(own_commands, "started", commands)
    heard = Heard()
    Finisher(inputs, opened(inputs))(project, heard, OwnCommands())
    steps = [one["step"] for one in heard.events[:-1]]
    assert {(one["number"], one["of"], one["title"]) for one in steps} == {
        (1, 2, "training and testing the model"),
        (2, 2, "mapping the scene"),
    }
    shares = [one["share"] for one in heard.events[:-1]]
    assert shares == sorted(shares)
    assert {0.225, 0.4, 0.455, 0.485, 0.725, 0.975} <= {*shares}
    assert "share" not in heard.events[-1]


def test_commands_report_progress_twice_a_second(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **options: given.update(options))
    own_commands.started(project, ["--version"])
    assert given["env"]["GEOTL_PROGRESS_S"] == "0.5"


WITH_A_CHILD = """
import pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path("child").write_text(str(child.pid))
print("begun", flush=True)
child.wait()
"""


def test_a_cancelled_attempt_ends_all_processes_and_leaves_the_results(
    project: Path, inputs: ProjectInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_commands, "started", Commands())
    finisher = Finisher(inputs, opened(inputs))
    finisher(project, Heard(), OwnCommands())
    write_labels(project, seed=1)
    before, commands, begun = contents(project), OwnCommands(), threading.Event()
    stopped = Commands(map=WITH_A_CHILD)
    monkeypatch.setattr(own_commands, "started", stopped)
    with ThreadPoolExecutor(1) as pool:
        end = pool.submit(
            finisher, project, lambda _, line, **__: "begun" in line and begun.set(), commands
        )
        assert begun.wait(20)
        commands.close()
        with pytest.raises(StoppedError):
            end.result(20)
    child = int((project / ".finish" / "child").read_text())
    until_gone(child)
    assert contents(project) == before
    working = Commands()
    monkeypatch.setattr(own_commands, "started", working)
    assert finisher(project, Heard(), OwnCommands()) == ["map.html"]
    assert [command[0] for command in working.started] == ["map"]


def until_gone(pid: int) -> None:
    """Wait until a process has ended, or is one that only waits to be collected."""
    state = Path(f"/proc/{pid}/stat")
    end = time.monotonic() + 10
    while state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_attempt_that_was_ended_before_it_began_starts_nothing(
    project: Path, inputs: ProjectInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, commands = Commands(), OwnCommands()
    monkeypatch.setattr(own_commands, "started", started)
    commands.close()
    with pytest.raises(StoppedError):
        Finisher(inputs, opened(inputs))(project, Heard(), commands)
    assert not started.started


def test_attempts_come_one_at_a_time_and_none_after_the_end() -> None:
    attempts = Attempts()
    attempts.begin()
    with pytest.raises(BusyError, match="being finished already"):
        attempts.begin()
    attempts.end()
    with pytest.raises(BusyError, match="nothing is being finished"):
        attempts.cancel()
    commands = attempts.begin()
    attempts.cancel()
    with pytest.raises(StoppedError):
        commands.run(Path(), ["--version"], print)
    attempts.end()
    attempts.close()
    with pytest.raises(BusyError):
        attempts.begin()


def test_other_labels_begin_again_and_replace_all(
    project: Path, inputs: ProjectInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = Commands()
    monkeypatch.setattr(own_commands, "started", commands)
    Finisher(inputs, opened(inputs))(project, Heard(), OwnCommands())
    (project / "run" / "of_the_first.txt").write_text("")
    write_labels(project, seed=1)
    Finisher(inputs, opened(inputs))(project, Heard(), OwnCommands())
    assert [command[0] for command in commands.started] == ["run", "map"] * 2
    model = (project / "labels.gpkg").read_bytes().hex()
    assert (project / "map.tif").read_text() == f"map of {model}"
    assert not (project / "run" / "of_the_first.txt").exists()


def test_a_kill_while_results_take_their_place_is_mended(
    project: Path, inputs: ProjectInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_commands, "started", Commands())
    Finisher(inputs, opened(inputs))(project, Heard(), OwnCommands())
    wanted = contents(project)
    stage = project / ".finish"
    stage.mkdir()
    (project / "run").rename(stage / "run")  # all but these had been moved
    (project / "map.tif").rename(stage / "map.tif")
    (project / "run").mkdir()
    (project / "run" / "old.txt").write_text("of an earlier model")
    settle(project)  # not complete: nothing is touched
    assert (stage / "run").exists()
    (stage / "complete").write_text("")
    settle(project)
    assert contents(project) == wanted
    assert not stage.exists()


def test_labels_placed_meanwhile_are_not_mixed_in(
    project: Path, inputs: ProjectInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, commands = Heard(), Commands()
    first = (project / "labels.gpkg").read_bytes()

    def started(folder: Path, command: Sequence[str]) -> subprocess.Popen[str]:
        if command[0] == "run":
            write_labels(project, seed=2)
        return commands(folder, command)

    monkeypatch.setattr(own_commands, "started", started)
    Finisher(inputs, opened(inputs))(project, heard, OwnCommands())
    assert (project / "run" / "model.safetensors").read_text() == first.hex()
    assert (project / "labels.gpkg").read_bytes() != first
    assert any("labels have changed meanwhile" in line for line in heard.lines)


def test_closing_ends_the_command(
    project: Path, inputs: ProjectInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeps = "import time; print('begun', flush=True); time.sleep(60)"
    monkeypatch.setattr(own_commands, "started", Commands(run=sleeps))
    finisher, begun = Finisher(inputs, opened(inputs)), threading.Event()
    commands = OwnCommands()

    def publish(kind: str, **values: Any) -> None:
        if "begun" in values["line"]:
            begun.set()

    with ThreadPoolExecutor(1) as pool:
        end = pool.submit(finisher, project, publish, commands)
        assert begun.wait(20)
        commands.close()
        with pytest.raises(StoppedError, match="goes on from here"):
            end.result(20)


def test_a_command_that_does_not_end_is_killed(
    project: Path, inputs: ProjectInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('begun', flush=True); time.sleep(60)"
    )
    monkeypatch.setattr(own_commands, "started", Commands(run=stubborn))
    finisher, begun = Finisher(inputs, opened(inputs)), threading.Event()
    commands = OwnCommands()

    def publish(kind: str, **values: Any) -> None:
        if "begun" in values["line"]:
            begun.set()

    with ThreadPoolExecutor(1) as pool:
        end = pool.submit(finisher, project, publish, commands)
        assert begun.wait(20)
        before = time.monotonic()
        commands.close()
        with pytest.raises(StoppedError):
            end.result(20)
    assert time.monotonic() - before < 10


@pytest.mark.parametrize("path", [None, ".", os.pathsep])
def test_nothing_in_the_project_is_imported(
    project: Path, path: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red before: a relative entry of PYTHONPATH was taken from the project's folder."""
    if path is not None:
        monkeypatch.setenv("PYTHONPATH", path)
    for name in ("geotl", "json", "sitecustomize"):
        (project / f"{name}.py").write_text("print('was run'); raise SystemExit(3)")
    process = own_commands.started(project, ["--version"])
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "was run" not in out


def test_a_class_without_a_usable_pixel_has_no_colour_in_the_recipe(
    tmp_path: Path, inputs: ProjectInputs
) -> None:
    """Red before: `geotl run` refuses a colour of a class that no pixel has."""
    with rasterio.open(inputs.scene) as stored:
        data, profile = stored.read(), stored.profile
    data[:, :, 2 * SIDE // 3 :] = 0  # no data where reed stands
    with rasterio.open(tmp_path / "part.tif", "w", **profile) as to:
        to.write(data)
        to.descriptions = BANDS
    write_labels(tmp_path)
    part = replace(inputs, scene=tmp_path / "part.tif")
    colours, places = labels_of(tmp_path, opened(part))
    assert {*colours} == {"water", "=1+1"}
    assert 20 < len(places) < 45


def test_without_labels_there_is_one_line(tmp_path: Path, inputs: ProjectInputs) -> None:
    with pytest.raises(DataError, match="there are no labels yet"):
        Finisher(inputs, opened(inputs))(tmp_path, Heard(), OwnCommands())
    write_labels(tmp_path, 0)
    with pytest.raises(DataError, match="no label can be used"):
        Finisher(inputs, opened(inputs))(tmp_path, Heard(), OwnCommands())
    write_labels(tmp_path)
    (tmp_path / "classes.json").write_text("[{}]")
    with pytest.raises(DataError, match=r"classes\.json: damaged"):
        labels_of(tmp_path, opened(inputs))
