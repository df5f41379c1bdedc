"""A session of `geotl label` in a browser: the sample scene from nothing to a map, and kills."""

from __future__ import annotations

import contextlib
import io
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
from helpers.label_page import (
    BANDS,
    NEEDS_CHROMIUM,
    SCENE,
    SENSOR,
    Pages,
    add_classes,
    becomes,
    click_at,
    saved,
)
from helpers.processes import started
from helpers.tiles import ROOT
from PIL import Image
from scipy.ndimage import distance_transform_edt

from geotl.cli.main import main
from geotl.evaluation.class_map import open_map

pytestmark = NEEDS_CHROMIUM
CLICKS = 30
# The truth's nine classes in five: 30 points would be three for each of nine.
GROUPS = {
    "forest": ("broadleaf_forest", "conifer_forest"),
    "farmland": ("cropland", "orchard", "pasture"),
    "built_up": ("industrial", "residential"),
    "river": ("river",),
    "wetland": ("wetland",),
}
NODATA = 255
FINISHED = "document.getElementById('finish-state')"
PROGRESS = "document.getElementById('sample-progress')"


@contextlib.contextmanager
def labelling(folder: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command that serves a project, and its address; killed at the end."""
    words = ["label", str(SCENE), "-o", str(folder), "--no-browser", "--sensor", SENSOR]
    process = started([*words, "--bands", *BANDS, *more])
    try:
        line = process.stdout.readline() if process.stdout else ""
        assert line.startswith("label at "), process.communicate()
        yield process, line.split()[2]
    finally:
        process.kill()
        process.communicate()


def truth() -> tuple[np.ndarray, list[str]]:
    """The truth [h,w] in the groups, and their names."""
    with rasterio.open(ROOT / "sample_tiles" / "truth.tif") as source:
        values, names = source.read(1), source.tags()
    table = np.full(256, NODATA)
    for value in range(9):
        name = names[f"CLASS_{value}"]
        table[value] = next(k for k, group in enumerate(GROUPS.values()) if name in group)
    return table[values], [*GROUPS]


def places(classes: np.ndarray, count: int, seed: int) -> list[tuple[int, int, int]]:
    """Class, row and column of clicks: more where a class is common, inside fields, apart."""
    rng, chosen = np.random.default_rng(seed), []
    shares = np.sqrt([(classes == k).sum() for k in range(len(GROUPS))])
    numbers = np.maximum(3, np.rint(count * shares / shares.sum())).astype(int)
    numbers[np.argmax(numbers)] -= numbers.sum() - count
    for value, number in enumerate(numbers):
        inside = np.argwhere(distance_transform_edt(classes == value) >= 4)
        own: list[np.ndarray] = []
        for _ in range(number):
            some = inside[rng.integers(len(inside), size=200)]
            apart = [np.hypot(*(some - one).T) for one in own] or [np.zeros(200)]
            own.append(some[np.argmax(np.min(apart, axis=0))])
        chosen += [(value, int(row), int(col)) for row, col in own]
    order = rng.permutation(len(chosen))
    return [chosen[k] for k in order]


def click_places(page: Any, chosen: Sequence[tuple[int, int, int]]) -> None:
    for value, row, col in chosen:
        page.keyboard.press(str(value + 1))
        click_at(page, col + 0.5, row + 0.5)


def map_shown(page: Any, colours: list[str], shape: tuple[int, int]) -> np.ndarray:
    """Classes [h,w] of the map that the page shows, from its tiles; -1 without a class."""
    version = page.evaluate("geotl.learning.version")
    shown = np.full(shape, -1)
    for y, x in np.ndindex(-(-shape[0] // 256), -(-shape[1] // 256)):
        answer = page.request.get(f"{page.url}map/classes/{version}/1/{x}/{y}.png")
        assert answer.ok
        rgba = np.asarray(Image.open(io.BytesIO(answer.body())))
        part = shown[y * 256 : (y + 1) * 256, x * 256 : (x + 1) * 256]
        for value, colour in enumerate(colours):
            rgb = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
            same = (rgba[..., :3] == rgb).all(axis=-1) & (rgba[..., 3] > 0)
            part[same[: part.shape[0], : part.shape[1]]] = value
    return shown


def correct(shown: np.ndarray, classes: np.ndarray) -> float:
    """Share of the pixels of known truth that a map has right."""
    return float((shown == classes)[classes != NODATA].mean())


def finished_map(folder: Path, names: list[str]) -> np.ndarray:
    """Classes [h,w] of map.tif, in the order of the names."""
    with rasterio.open(folder / "map.tif") as source:
        values = source.read(1)
    table = np.full(256, -1)
    for value, name in open_map(folder / "map.tif").names.items():
        table[value] = names.index(name)
    return table[values]


def test_thirty_clicks_from_nothing_to_a_finished_map_of_80_percent(
    pages: Pages, tmp_path: Path
) -> None:
    """The page's map, and the one that "Finish" leaves in the folder."""
    classes, names = truth()
    with labelling(tmp_path / "project") as (_, url):
        page = pages.open(url)
        add_classes(page, *names)
        click_places(page, places(classes, CLICKS, seed=0))
        saved(page, CLICKS)
        revision = page.evaluate("geotl.session.state.revision")
        becomes(page, f"geotl.learning.revision === {revision}", seconds=60)
        becomes(page, "geotl.learning.places.length > 0", seconds=60)
        becomes(page, "document.getElementById('accuracy-words').textContent.includes('blocked')")
        colours = page.evaluate("geotl.session.state.classes.map(one => one.colour)")
        shown = correct(map_shown(page, colours, classes.shape), classes)
        page.click("#finish")
        becomes(page, "geotl.session.finished?.state.match('done|failed')", seconds=300)
        assert page.inner_text("#finish-state").startswith("Finished")
        links = page.locator("#finish-files a").evaluate_all("all => all.map(one => one.href)")
        assert [link.split("/")[-1] for link in links] == ["report.html", "map.html"]
        assert all(page.request.get(link).ok for link in links)
        assert {urlhost(one) for one in pages.asked} == {urlhost(url)}
    finished = correct(finished_map(tmp_path / "project", names), classes)
    print(f"{CLICKS} clicks: {100 * shown:.1f} % of the scene's pixels correct in the page, ")
    print(f"{100 * finished:.1f} % in the finished map")
    assert min(shown, finished) >= 0.8
    assert not pages.faults


def urlhost(url: str) -> str:
    return url.split("/")[2]


def test_a_killed_server_has_lost_no_label(pages: Pages, tmp_path: Path) -> None:
    """SIGKILL in the midst of clicking; what the page knows as saved is there afterwards."""
    folder = tmp_path / "project"
    with labelling(folder) as (process, url):
        page = pages.open(url)
        add_classes(page, "water", "wood")
        for step in range(6):
            page.keyboard.press(str(step % 2 + 1))
            click_at(page, 100 + 80 * step, 300.5)
        becomes(page, "geotl.session.state.labels.length >= 4")
        process.send_signal(signal.SIGKILL)
        click_at(page, 650.5, 600.5)
        page.wait_for_selector("#offline", state="visible")
        answered = page.evaluate("geotl.session.state.labels.map(one => [one.class, one.geometry])")
        waiting = page.inner_text("#offline")
        assert "point at column" in waiting
    with labelling(folder) as (_, url):
        page = pages.open(url)
        labels = page.evaluate("geotl.session.state.labels.map(one => [one.class, one.geometry])")
        assert labels[: len(answered)] == answered
        assert len(labels) <= 7
        before = len(labels)
        page.keyboard.press("Control+z")
        saved(page, before - 1)
        page.keyboard.press("Control+y")
        saved(page, before)


def test_a_reference_sample_is_labelled_blind_by_keys(pages: Pages, tmp_path: Path) -> None:
    points, folder = tmp_path / "points.gpkg", tmp_path / "project"
    truth_map = ROOT / "sample_tiles" / "truth.tif"
    assert main(["sample", str(truth_map), "-n", "60", "-o", str(points), "-q"]) == 0
    with labelling(folder, "--sample", str(points)) as (_, url):
        page = pages.open(url)
        becomes(page, f"{PROGRESS}.textContent.startsWith('0 of 60')")
        for part in ("#layers", "#places", "#new-class", "[data-tool=point]", "#accuracy-words"):
            assert not page.is_visible(part)
        first = page.evaluate("geotl.map.middle")
        for done in range(1, 4):
            page.keyboard.press(str(done))
            becomes(page, f"{PROGRESS}.textContent.startsWith('{done} of 60')")
        assert page.evaluate("geotl.map.middle") != first
        page.keyboard.press("u")
        becomes(page, f"{PROGRESS}.textContent.startsWith('2 of 60')")
        page.click(".answer >> text=wetland")
        becomes(page, f"{PROGRESS}.textContent.startsWith('3 of 60')")
        becomes(page, "geotl.session.state.labels.length === 3 && !geotl.session.queue.length")
        assert not [one for one in pages.asked if "/map/" in one]
        page.click("#finish")
        becomes(page, f"{FINISHED}.textContent.includes('geotl accuracy')", seconds=60)
    given = geopandas.read_file(folder / "sample.gpkg")["reference"].dropna()
    assert sorted(given) == ["broadleaf_forest", "conifer_forest", "wetland"]
    assert not pages.faults
