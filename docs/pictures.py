"""The pictures of README, from what `make demo` leaves in runs/.

    python docs/pictures.py [--runs runs] [--browser chromium]

docs/images/map.jpg is the sample scene beside its map, with the legend; docs/images/report.png is
the top of the report, which a browser of the Chromium family draws without a screen;
docs/images/label.png and label_small.png are the page of `geotl label` on a wide and on a small
screen, after some of the sample's points were clicked in it. `--only label` makes these alone.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import geopandas
import matplotlib.pyplot as plt
import numpy as np
import rasterio
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from PIL import Image

from geotl.evaluation.class_map import ClassMap, open_map

IMAGES = Path(__file__).parent / "images"
REPORT_PX = (900, 640)  # of the report's top
SAMPLE = Path("sample_tiles")
WIDE_PX, SMALL_PX = (1280, 800), (400, 800)  # of the labelling page
EVERY = 6  # of the sample's points one is clicked
COLOURS = 128  # of a screenshot, which keeps its file small
CHROMIUM = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def true_colour(scene: Path) -> np.ndarray:
    """Red, green and blue [H,W,3] of a scene, stretched from its 2nd to its 98th percentile."""
    with rasterio.open(scene) as source:
        names = list(source.descriptions)
        bands = source.read([names.index(name) + 1 for name in ("B04", "B03", "B02")])
    values = np.where(bands > 0, bands, np.nan).astype(np.float32)
    low, high = np.nanpercentile(values, [2, 98], axis=(1, 2), keepdims=True)
    return np.moveaxis(np.nan_to_num(((values - low) / (high - low)).clip(0, 1), nan=1.0), 0, -1)


def legend_of(drawn: ClassMap) -> list[Patch]:
    """A coloured patch for each class of a map."""
    return [
        Patch(color=drawn.colours[value], label=name.replace("_", " "))
        for value, name in sorted(drawn.names.items())
    ]


def draw_map(scene: Path, classes: Path, to: Path) -> None:
    """Write a scene beside its map."""
    drawn = open_map(classes)
    with rasterio.open(classes) as source:
        values = source.read(1, masked=True)
    colours = ListedColormap([drawn.colours[value] for value in sorted(drawn.names)])
    figure, panels = plt.subplots(1, 2, figsize=(10, 5.6), layout="constrained")
    panels[0].imshow(true_colour(scene))
    panels[1].imshow(values, cmap=colours, vmin=0, vmax=len(drawn.names) - 1, interpolation="none")
    for panel, title in zip(panels, ("the scene", "its map, from 268 points"), strict=True):
        panel.set_title(title, fontsize=11)
        panel.axis("off")
    figure.legend(handles=legend_of(drawn), loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(to, dpi=100, pil_kwargs={"quality": 82, "optimize": True})


def draw_report(page: Path, to: Path, browser: str) -> None:
    """Write the top of a report as a browser shows it."""
    with tempfile.TemporaryDirectory() as profile:
        words = [
            *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--disable-background-networking", "--disable-component-update"),
            f"--user-data-dir={profile}",
            "--window-size={},{}".format(*REPORT_PX),
            f"--screenshot={to}",
        ]
        subprocess.run([browser, *words, page.resolve().as_uri()], check=True, capture_output=True)
    Image.open(to).convert("P", palette=Image.Palette.ADAPTIVE).save(to, optimize=True)


@contextlib.contextmanager
def labelling(folder: Path) -> Iterator[str]:
    """The address of `geotl label` on the sample scene."""
    with rasterio.open(SAMPLE / "scene.tif") as source:
        bands = source.descriptions
    words = ["label", str(SAMPLE / "scene.tif"), "-o", str(folder), "--no-browser"]
    words += ["--sensor", "sentinel2_l2a_n0400", "--bands", *bands]
    command = [sys.executable, "-m", "geotl", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().split()[2] if process.stdout else ""
        finally:
            process.terminate()


def clicks() -> list[tuple[str, float, float]]:
    """Class, column and row of some of the sample's points, class after class."""
    points = geopandas.read_file(SAMPLE / "labels.gpkg", layer="points").iloc[::EVERY]
    with rasterio.open(SAMPLE / "scene.tif") as source:
        places = [~source.transform @ (one.x, one.y) for one in points.geometry]
    return [(name, *place) for name, place in zip(points["class"], places, strict=True)]


def click(page: Any, chosen: Sequence[tuple[str, float, float]]) -> None:
    """Add the classes and label the places, as a user does."""
    names = list(dict.fromkeys(name for name, _, _ in chosen))
    for name in names:
        page.fill("#new-class", name)
        page.press("#new-class", "Enter")
    page.focus("#map")
    for name, col, row in chosen:
        page.keyboard.press(str(names.index(name) + 1))
        x, y = page.evaluate("place => geotl.map.pixelOf(place)", [col, row])
        page.locator("#map").click(position={"x": x, "y": y}, force=True)
        page.wait_for_timeout(400)


def draw_label_page(wide: Path, small: Path, browser: str) -> None:
    """Write the page of `geotl label` as two screens show it."""
    from playwright.sync_api import sync_playwright

    with (
        tempfile.TemporaryDirectory() as folder,
        labelling(Path(folder) / "lake") as address,
        sync_playwright() as playwright,
    ):
        opened = playwright.chromium.launch(executable_path=shutil.which(browser), args=CHROMIUM)
        for to, (width, height) in ((wide, WIDE_PX), (small, SMALL_PX)):
            page = opened.new_page(viewport={"width": width, "height": height})
            page.goto(address)
            page.wait_for_selector("body[data-ready]")
            if to == wide:
                click(page, clicks())
            page.wait_for_selector("#accuracy-classes table", state="attached", timeout=120_000)
            page.evaluate("document.activeElement.blur()")
            page.get_by_text("Full map").wait_for(timeout=120_000)
            page.wait_for_timeout(500)  # until its tiles are asked for
            page.wait_for_selector("#computing", state="hidden", timeout=120_000)
            page.screenshot(path=to)
            page.close()
            Image.open(to).convert("RGB").quantize(COLOURS, kmeans=2).save(to, optimize=True)
        opened.close()


def main() -> None:
    """Write the pictures and print their sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where `make demo` wrote")
    parser.add_argument("--browser", default="chromium", help="of the Chromium family")
    parser.add_argument("--only", choices=["label"], help="the labelling page alone")
    args = parser.parse_args()
    IMAGES.mkdir(exist_ok=True)
    paths = [IMAGES / name for name in ("label.png", "label_small.png")]
    draw_label_page(*paths, args.browser)
    if args.only is None:
        map_picture, report = IMAGES / "map.jpg", IMAGES / "report.png"
        draw_map(SAMPLE / "scene.tif", args.runs / "pixels" / "map.tif", map_picture)
        draw_report(args.runs / "sample_pixels" / "report.html", report, args.browser)
        paths += [map_picture, report]
    for path in paths:
        print(f"{path.name:16} {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
