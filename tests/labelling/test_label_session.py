"""A session of `geotl label` in a browser: the sample scene from nothing to a map, and kills."""

from __future__ import annotations

import contextlib
import io
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import geopandas
import numpy as np
import pytest
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
WEIGHTS = "weights/resnet18-imagenet1k_v1-conv1_to_layer3.pth"  # in the folder of real data
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
    """The truth's nine classes [h,w], `NODATA` where it is not known, and their names."""
    with rasterio.open(ROOT / "sample_tiles" / "truth.tif") as source:
        return source.read(1).astype(int), [source.tags()[f"CLASS_{value}"] for value in range(9)]


def widest_wrong(shown: np.ndarray, classes: np.ndarray) -> tuple[int, int]:
    """Row and column of the middle of the widest place of one class that a map has wrong."""
    best = (0.0, 0, 0)
    for value in np.unique(classes[(classes != NODATA) & (shown != classes)]):
        wrong = np.pad((classes == value) & (shown != value), 1)
        reach = distance_transform_edt(wrong)[1:-1, 1:-1]
        row, col = np.unravel_index(np.argmax(reach), reach.shape)
        best = max(best, (float(reach[row, col]), int(row), int(col)))
    return best[1:]


def click_suggested(page: Any, classes: np.ndarray) -> int:
    """Click the first places that the page suggests, with their true classes; how many."""
    becomes(page, "geotl.learning.places.length > 0", seconds=240)
    places = page.evaluate("geotl.learning.places.map(one => [one.row, one.col])")
    known = [(int(r), int(c)) for r, c in places if classes[int(r), int(c)] != NODATA]
    for row, col in known:
        click_class(page, classes, row, col)
    return len(known)


def click_wrong(page: Any, classes: np.ndarray, labels: range) -> None:
    """Click where the map of that moment is plainly wrong, looked at in every second pixel."""
    colours = page.evaluate("geotl.session.state.classes.map(one => one.colour)")
    for count in labels:
        saved(page, count)
        revision = page.evaluate("geotl.session.state.revision")
        becomes(page, f"geotl.learning.revision === {revision}", seconds=60)
        row, col = widest_wrong(map_shown(page, colours, 2), classes[1::2, 1::2])
        click_class(page, classes, 2 * row + 1, 2 * col + 1)


def click_class(page: Any, classes: np.ndarray, row: int, col: int) -> None:
    page.keyboard.press(str(classes[row, col] + 1))
    click_at(page, col + 0.5, row + 0.5)


def map_shown(page: Any, colours: list[str], each: int) -> np.ndarray:
    """Classes [h,w] of the page's map at every `each`th pixel; -1 without a class."""
    version, side = page.evaluate("geotl.learning.version"), 768 // each
    shown = np.full((side, side), -1)
    for y, x in np.ndindex(-(-side // 256), -(-side // 256)):
        url = f"{page.url}map/classes/{version}/{each}/{x}/{y}.png"
        answer = page.request.get(url, max_retries=3)  # of a connection that was idle too long
        assert answer.ok
        rgba = np.asarray(Image.open(io.BytesIO(answer.body())))
        part = shown[y * 256 : (y + 1) * 256, x * 256 : (x + 1) * 256]
        for value, colour in enumerate(colours):
            rgb = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
            same = (rgba[..., :3] == rgb).all(axis=-1) & (rgba[..., 3] > 0)
            part[same[: part.shape[0], : part.shape[1]]] = value
    return shown


def map_at_rest(page: Any) -> np.ndarray:
    """Classes [h,w] of the smoothed map of all members; waits until it is there, and measured."""
    rested = "document.getElementById('model-state').textContent.includes('smoothed')"
    becomes(page, rested, seconds=300)
    becomes(page, "document.getElementById('accuracy-words').textContent.includes('blocked')")
    return map_shown(page, page.evaluate("geotl.session.state.classes.map(one => one.colour)"), 1)


def correct(shown: np.ndarray, classes: np.ndarray) -> float:
    """Share of the pixels of known truth that a map has right."""
    return float((shown == classes)[classes != NODATA].mean())


@pytest.mark.real_data
@pytest.mark.timeout(1200)
def test_thirty_clicks_from_nothing_to_a_finished_map_of_80_percent(
    pages: Pages, tmp_path: Path, real_data: Path
) -> None:
    """Nine classes, an ImageNet network, first suggested places and then wrong ones.

    Both the page's map and the one that "Finish" leaves in the folder.
    """
    classes, names = truth()
    with labelling(tmp_path / "project", "--weights", str(real_data / WEIGHTS)) as (_, url):
        page = pages.open(url)
        add_classes(page, *names)
        click_wrong(page, classes, range(click_suggested(page, classes), CLICKS))
        saved(page, CLICKS)
        shown = correct(map_at_rest(page), classes)
        page.click("#finish")
        becomes(page, "geotl.session.finished?.state.match('done|failed')", seconds=600)
        assert page.inner_text("#finish-state").startswith("Finished")
        links = page.locator("#finish-files a").evaluate_all("all => all.map(one => one.href)")
        assert [link.split("/")[-1] for link in links] == ["report.html", "map.html"]
        assert all(page.request.get(link, max_retries=3).ok for link in links)
        assert {urlsplit(one).netloc for one in pages.asked} == {urlsplit(url).netloc}
    finished = correct(finished_map(tmp_path / "project", names), classes)
    print(f"{CLICKS} clicks: {100 * shown:.1f} % of the scene's pixels correct in the page, ")
    print(f"{100 * finished:.1f} % in the finished map")
    assert min(shown, finished) >= 0.8
    assert not pages.faults


def finished_map(folder: Path, names: list[str]) -> np.ndarray:
    """Classes [h,w] of map.tif, in the order of the names."""
    with rasterio.open(folder / "map.tif") as source:
        values = source.read(1)
    table = np.full(256, -1)
    for value, name in open_map(folder / "map.tif").names.items():
        table[value] = names.index(name)
    return table[values]


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
