"""The pictures of README, from what `make demo` leaves in runs/.

    python docs/pictures.py [--runs runs] [--browser chromium]

docs/images/map.jpg is the sample scene beside its map, with the legend; docs/images/report.png is
the top of the report, which a browser of the Chromium family draws without a screen.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import rasterio
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from PIL import Image

from geotl.evaluation.class_map import ClassMap, open_map

IMAGES = Path(__file__).parent / "images"
REPORT_PX = (900, 640)  # of the report's top


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


def main() -> None:
    """Write both pictures and print their sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where `make demo` wrote")
    parser.add_argument("--browser", default="chromium", help="of the Chromium family")
    args = parser.parse_args()
    IMAGES.mkdir(exist_ok=True)
    map_picture, report = IMAGES / "map.jpg", IMAGES / "report.png"
    draw_map(Path("sample_tiles/scene.tif"), args.runs / "pixels" / "map.tif", map_picture)
    draw_report(args.runs / "sample_pixels" / "report.html", report, args.browser)
    for path in (map_picture, report):
        print(f"{path.name:12} {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
