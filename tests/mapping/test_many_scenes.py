"""Many scenes: shared among processes, one of them killed; retried, kept, skipped, summed up."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import rasterio
from helpers.map_fixtures import BANDS, made_model, made_pixels, patches, write_scene
from helpers.tiles import write_tile
from rasterio.transform import from_origin

from geotl.cli.main import main
from geotl.errors import DataError, OutputError, UnfinishedError
from geotl.imagery.scene_list import Entry, scenes_in
from geotl.imagery.sensors import get_sensor
from geotl.mapping import many_scenes
from geotl.mapping.jobs import Job, attempt, is_finished, mark_of, run_job
from geotl.mapping.many_scenes import Crew, map_many
from geotl.mapping.options import MapOptions
from geotl.mapping.task import Reading

pytestmark = pytest.mark.usefixtures("one_thread")
distributed = pytest.importorskip("distributed", reason="many scenes need dask.distributed")

SLOW = MapOptions(step_px=8, mode="exact", views=8, block_px=48, precision="float32")
QUICK = MapOptions(mode="exact", precision="float32", page=False)


def scene(path: Path, number: int, squares: int = 8) -> Path:
    pixels = made_pixels(patches(squares, squares, seed=number), 20, seed=number)
    return write_scene(path, pixels, transform=from_origin(500000 + 1200 * number, 4600000, 10, 10))


def jobs_of(model: Path, folder: Path, scenes: list[Path], options: MapOptions) -> list[Job]:
    return [Job(Entry(p.stem, p), model, folder / f"{p.stem}.tif", options) for p in scenes]


def told(path: Path) -> tuple[dict, list]:
    """Everything in a map but the date it was begun on and the mark of a batch."""
    held = []
    with rasterio.open(path) as source:
        tags = {k: v for k, v in source.tags().items() if k not in ("GEOTL_DATE", "GEOTL_JOB")}
        held.append(source.read().tobytes())
        held += [source.read(out_shape=(1, 5, 5)).tobytes(), source.colormap(1)]
    with rasterio.open(path.with_name(f"{path.stem}_confidence.tif")) as source:
        held.append(source.read().tobytes())
    return tags, [*held, path.with_name(f"{path.stem}_areas.csv").read_text()]


def kill_who_maps(name: str, folder: Path, killed: list[int]) -> None:
    """Kill the process that has a scene's sheet open, when some of its blocks are done."""
    done = folder / f".{name}.tif.sweep" / "done.bin"
    while not killed:
        time.sleep(0.01)
        try:
            blocks = np.fromfile(done, bool)
        except OSError:
            continue
        if not 2 <= blocks.sum() < len(blocks) - 2:
            continue
        for process in psutil.Process().children(recursive=True):
            try:
                maps = [held.path for held in process.memory_maps()]
            except psutil.Error:
                continue
            if str(done) in maps:
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)


@pytest.fixture(scope="module")
def shared(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Two scenes and a broken one among two processes, one of which is killed half-way."""
    root = tmp_path_factory.mktemp("shared")
    scenes = [scene(root / "scenes" / f"s{k}.tif", k) for k in range(2)]
    broken = root / "scenes" / "broken.tif"
    broken.write_bytes(scenes[0].read_bytes()[:2000])
    folder, lines, failures, killed = root / "maps", [], [], []
    killer = threading.Thread(target=kill_who_maps, args=("s0", folder, killed), daemon=True)
    killer.start()
    jobs = jobs_of(model, folder, [broken, *scenes], SLOW)
    with pytest.raises(UnfinishedError) as error:
        map_many(
            jobs, folder, Crew(workers=2), quiet=True, say=lines.append, complain=failures.append
        )
    assert killed, "nobody was killed half-way"
    return {
        "root": root,
        "folder": folder,
        "scenes": scenes,
        "lines": lines,
        "jobs": jobs,
        "failures": failures,
        "error": str(error.value),
    }


def test_a_killed_process_costs_nothing_but_time(shared: dict, model: Path) -> None:
    died = [line for line in shared["failures"] if line.startswith("s0")]
    assert died == [
        "s0: failed: the process that mapped it died (killed, or out of memory); once more"
    ]
    alone = shared["root"] / "alone"
    alone.mkdir()
    for job in jobs_of(model, alone, shared["scenes"], SLOW):
        run_job(job, quiet=True, log=lambda _: None)
        assert told(job.out) == told(shared["folder"] / job.out.name)
    left = [p.name for p in shared["folder"].iterdir() if p.name.startswith(".")]
    assert left == []


def test_a_failure_is_told_tried_again_and_does_not_stop_the_rest(shared: dict) -> None:
    lines = [line for line in shared["failures"] if line.startswith("broken: failed")]
    assert len(lines) == 2
    assert lines[0].endswith("; once more")
    assert not lines[1].endswith("once more")
    assert "broken.tif" in lines[0]
    assert all("\n" not in line for line in shared["failures"])
    assert shared["error"].startswith("1 of 3 scenes failed: broken; ")
    assert "run the same command again" in shared["error"]
    assert "scenes   2 mapped, 1 failed" in shared["lines"]
    assert sorted(p.name for p in shared["folder"].glob("s?.html")) == ["s0.html", "s1.html"]


def test_the_mosaic_and_the_table_are_of_all_maps(shared: dict) -> None:
    folder = shared["folder"]
    with rasterio.open(folder / "mosaic.vrt") as source:
        whole = source.read(1)
        assert source.bounds.left == 500000
    with rasterio.open(folder / "s1.tif") as last:
        top = last.read(1)
    assert (whole[:, -top.shape[1] :][: top.shape[0]] == top).all()
    with (folder / "areas.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    total = sum(int(row["pixels"]) for row in rows if row["scene"] == "(all scenes)")
    assert total == 2 * 160 * 160
    areas = next(line for line in shared["lines"] if line.startswith("areas"))
    assert areas.endswith("scenes overlap, and ground under several is counted in each")
    assert next(line for line in shared["lines"] if line.startswith("mosaic")).endswith(
        "where scenes overlap the later one lies on top"
    )
    assert (folder / "mosaic_confidence.vrt").exists()


def test_what_is_finished_is_kept(shared: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object) -> None:
        raise AssertionError("a process was started for what is finished")

    monkeypatch.setattr(many_scenes, "_client", nobody)
    jobs, lines = shared["jobs"][1:], []
    before = {job.out: job.out.stat().st_mtime_ns for job in jobs}
    found = map_many(jobs, shared["folder"], Crew(), quiet=True, say=lines.append)
    assert [outcome.status for outcome in found] == ["kept", "kept"]
    assert before == {job.out: job.out.stat().st_mtime_ns for job in jobs}
    assert "scenes   2 kept" in lines


def test_another_model_option_or_scene_is_not_taken_for_finished(
    shared: dict, tmp_path: Path
) -> None:
    job = shared["jobs"][1]
    others = [
        Job(job.entry, job.model, job.out, MapOptions(mode="exact", precision="float32")),
        Job(job.entry, job.model, job.out, job.options, Reading(bbox=(0.0, 0.0, 1.0, 1.0))),
        Job(shared["jobs"][2].entry, job.model, job.out, job.options),
        Job(job.entry, made_model(tmp_path / "m.safetensors", scale=2), job.out, job.options),
    ]
    marks = {mark_of(other) for other in [job, *others]}
    assert len(marks) == 5
    assert mark_of(Job(job.entry, job.model, tmp_path / "x.tif", job.options)) == mark_of(job)
    assert not is_finished(job), "a job without a mark knows nothing"
    for other in others:
        with pytest.raises(OutputError, match="of another model, scene or options"):
            map_many([other], shared["folder"], Crew(), quiet=True)


@pytest.fixture(scope="module")
def cluster():
    """A cluster of threads, as if it had been started elsewhere."""
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, protocol="tcp", dashboard_address=None
    ) as started:
        yield started.scheduler_address


def stac(root: Path) -> Path:
    """Three items: one in the box, one outside of it, one without its red band."""
    items = []
    for k in range(3):
        pixels = made_pixels(patches(3, 3, seed=k), 20)
        for name, plane in zip(BANDS, pixels, strict=True):
            place = from_origin(500000 + 5000 * (k == 1), 4600000, 10, 10)
            write_tile(root / "data" / f"{k}_{name}.tif", plane[None], transform=place)
        assets = {
            name: {"href": f"data/{k}_{name}.tif"} for name in BANDS if (k, name) != (2, "B04")
        }
        items.append(
            {
                "type": "Feature",
                "id": f"item {k}",
                "assets": assets,
                "properties": {"datetime": "2022-07-06T00:00:00Z"},
            }
        )
    path = root / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return path


def test_items_on_a_cluster_those_outside_the_box_are_skipped(
    model: Path, cluster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "maps"
    box = ["--bbox", "500000", "4599500", "500600", "4600000"]
    told = ["map", str(model), str(stac(tmp_path)), "-o", str(out), "--scheduler", cluster]
    code = main([*told, *box, "--mode", "exact", "--no-page", "--retries", "0"])
    output = capsys.readouterr()
    assert code == 1
    assert "scenes   1 mapped, 1 skipped, 1 failed" in output.out
    assert "item_1: skipped: --bbox: does not meet the scene" in output.out
    assert "item_2: failed: " in output.err
    assert "band B04 of sensor sentinel2_l2a in none of its assets" in output.err
    assert "once more" not in output.err
    assert "1 of 3 scenes failed: item_2" in output.err
    with rasterio.open(out / "item_0.tif") as source:
        assert source.tags()["GEOTL_JOB"]
        assert (source.read(1) < 255).any()
    again = main([*told, *box, "--mode", "exact", "--no-page", "--retries", "0", "-q"])
    output = capsys.readouterr()
    assert again == 1
    assert output.out == ""
    assert "item_2: failed" in output.err


def test_no_scene_in_the_box_is_an_error(model: Path, cluster: str, tmp_path: Path) -> None:
    scenes = [scene(tmp_path / f"s{k}.tif", k, 3) for k in range(2)]
    told = ["map", str(model), *map(str, scenes), "-o", str(tmp_path / "maps"), "-q"]
    far = ["--bbox", "600000", "4599500", "600600", "4600000", "--scheduler", cluster]
    assert main([*told, *far]) == 2
    assert not list((tmp_path / "maps").glob("*.tif"))


def test_a_polygon_in_another_zone_or_half_the_world_away_is_outside(
    model: Path, tmp_path: Path
) -> None:
    path = scene(tmp_path / "s.tif", 0, 3)
    for lon in (15.05, -165.0):
        aoi = tmp_path / f"{lon}.geojson"
        ring = [[lon, 10.0], [lon + 1, 10.0], [lon + 1, 11.0], [lon, 11.0], [lon, 10.0]]
        aoi.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
        job = Job(Entry("s", path), model, tmp_path / "s_map.tif", QUICK, Reading(aoi=aoi))
        assert attempt(job, 1).status == "skipped"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "maps.tif"], "2 scenes need a folder"),
        (["-o", "maps", "--workers", "0"], "workers 0: allowed is 1 or more"),
        (["-o", "maps", "--retries", "-1"], "retries -1: allowed is 0 or more"),
        (["-o", "maps", "--workers", "2", "--scheduler", "tcp://127.0.0.1:9"], "give one"),
        (["-o", "scenes"], "choose a folder outside of it"),
    ],
)
def test_what_does_not_go_is_told_in_one_line(
    model: Path, tmp_path: Path, monkeypatch, capsys, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for k in range(2):
        scene(tmp_path / "scenes" / f"s{k}.tif", k, 3)
    assert main(["map", str(model), "scenes", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "maps").exists()


def test_without_dask_the_remedy_is_named(model: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    jobs = jobs_of(model, tmp_path, [scene(tmp_path / "a" / "s.tif", 0, 3)], QUICK)
    with pytest.raises(DataError, match=r"pip install 'geotl\[many\]'"):
        map_many(jobs, tmp_path, Crew(), quiet=True)


def test_files_of_two_scenes_that_would_be_one_are_refused(model: Path, tmp_path: Path) -> None:
    scenes = [scene(tmp_path / "in" / name, 0, 3) for name in ("a.tif", "a_confidence.tif")]
    with pytest.raises(OutputError, match="stands for a file of scene"):
        map_many(jobs_of(model, tmp_path / "out", scenes, QUICK), tmp_path, Crew(), quiet=True)
    with pytest.raises(OutputError, match="would overwrite what is read"):
        map_many(jobs_of(model, tmp_path / "in", scenes[:1], QUICK), tmp_path, Crew(), quiet=True)


def test_one_scene_stays_one_map(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tile"
    pixels = made_pixels(patches(3, 3), 20)
    for name, plane in zip(BANDS, pixels, strict=True):
        write_tile(folder / f"x_{name}.tif", plane[None])
    assert main(["map", str(model), str(folder), "-o", str(tmp_path / "m.tif"), "-q"]) == 0
    assert scenes_in([folder], get_sensor("sentinel2_l2a")).single
    assert sorted(p.name for p in tmp_path.glob("m*")) == [
        "m.html",
        "m.png",
        "m.tif",
        "m.tif.aux.xml",
        "m_areas.csv",
        "m_confidence.tif",
    ]


def test_help_needs_neither_dask_nor_torch() -> None:
    code = "import sys; from geotl.cli.main import main\ntry: main(['map', '--help'])\n"
    code += "except SystemExit: print(sorted({'torch', 'distributed'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "--scheduler" in done.stdout
