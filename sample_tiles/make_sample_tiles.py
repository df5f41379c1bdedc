"""Make the sample tiles again: two regions of labelled tiles, and a scene with truth and labels.

    python sample_tiles/make_sample_tiles.py --out sample_tiles --seed 2

Each site (a cluster of neighbouring tiles) has its own random stream from (seed, region, class,
site), so that a part can be made alone, and on another machine agrees within 1 DN.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import rasterio
from covers import (
    BANDS,
    CENTRES_NM,
    GROUND,
    RIVER_BANKS,
    STEP_M,
    Canvas,
    Season,
    meander,
    reflectance,
    river,
    rough,
    spectra,
    uniform,
    zone_map,
)
from numpy.random import Generator, default_rng
from rasterio.features import shapes
from rasterio.transform import Affine, from_origin
from scipy.ndimage import binary_erosion, gaussian_filter
from shapely.geometry import Point, shape

SEED = 2
TILE_PX, PIXEL_M, MARGIN_PX = 40, 10.0, 8
SITE_TILES = 3  # a site is 3 x 3 tiles, of which the purest few are kept
SCENE_PX = 768
TRUTH_NODATA = 255
COARSE = tuple(BANDS.index(name) for name in ("B05", "B06", "B07", "B8A", "B11", "B12"))
CLASSES: dict[str, str] = {
    "broadleaf_forest": "#2e7d32",
    "conifer_forest": "#0b4f3a",
    "cropland": "#e6c35c",
    "industrial": "#8e6c8a",
    "orchard": "#b5652b",
    "pasture": "#a5d16b",
    "residential": "#d6483e",
    "river": "#2b7bba",
    "wetland": "#57b8a9",
}
NAMES = tuple(CLASSES)


@dataclass(frozen=True)
class Region:
    """A region's place, date, season and air.

    sites: how many sites (clusters) each class has.
    kept: tiles kept of each site.
    spread: how far the materials of one site lie from the library levels (log units).
    haze: lowest and highest added reflectance at 560 nm.
    slope: strength of light and shade on slopes.
    """

    number: int
    epsg: int
    west: float
    north: float
    date: str
    season: Season
    sites: int
    kept: int
    spread: float
    haze: tuple[float, float]
    slope: float


REGIONS: dict[str, Region] = {
    "source": Region(
        number=0,
        epsg=32633,
        west=480_000.0,
        north=5_840_000.0,
        date="2022:07:06 10:05:59",
        season=Season({"loam": 0.8, "marl": 0.2}, (0.1, 0.95), 0.02, (0.1, 0.7)),
        sites=32,
        kept=2,
        spread=0.26,
        haze=(0.000, 0.025),
        slope=0.02,
    ),
    "target": Region(
        number=1,
        epsg=32631,
        west=610_000.0,
        north=4_660_000.0,
        date="2022:10:02 10:48:29",
        season=Season({"terra_rossa": 0.7, "marl": 0.3}, (0.05, 0.85), 0.3, (0.3, 1.0)),
        sites=11,
        kept=4,
        spread=0.26,
        haze=(0.005, 0.050),
        slope=0.05,
    ),
}


def canvas_at(west: float, north: float, height_px: int, width_px: int) -> Canvas:
    """A canvas of 10 m pixels' extent drawn at 5 m; its axes point east and south, in metres."""
    fine = int(PIXEL_M / STEP_M)
    x = west + STEP_M * (np.arange(width_px * fine) + 0.5)
    y = -north + STEP_M * (np.arange(height_px * fine) + 0.5)
    return Canvas(*np.meshgrid(x, y))


def haze_at(canvas: Canvas, region: Region) -> np.ndarray:
    """Added reflectance at 560 nm [H,W]: slow waves over the region, thicker and thinner."""
    x, y = canvas.x / 1000.0, canvas.y / 1000.0
    waves = (
        np.sin(x / 1.9 + 0.7 * y)
        + np.sin(0.9 * y / 1.3 - x / 2.7 + 1.0)
        + 0.7 * np.sin(2.3 * x + 1.1 * y)
    )
    low, high = region.haze
    return low + (high - low) * (0.5 + waves / 5.4)


def observe(surface: np.ndarray, canvas: Canvas, region: Region, rng: Generator) -> np.ndarray:
    """What the sensor records of a surface: reflectance [10,H,W] at 5 m to DN [10,h,w] at 10 m.

    Air adds haze (as wavelength^-1.6) and dims the ground; optics blur (Gaussian, sd 5.5 m, or 10 m
    in the 20 m bands); 20 m bands are sampled at 20 m and repeated; noise grows with the light.
    DN = reflectance * 10000 + 1000, processing baseline 04.00; 0 is kept for nodata.
    """
    haze = haze_at(canvas, region)
    seen = np.empty((len(BANDS), surface.shape[1] // 2, surface.shape[2] // 2))
    for band, centre in enumerate(CENTRES_NM):
        veil = haze * (560.0 / centre) ** 1.6
        light = surface[band] * (1.0 - 1.5 * veil) + veil
        step = 4 if band in COARSE else 2
        blurred = gaussian_filter(light, 2.0 if step == 4 else 1.1, mode="nearest")
        rows, columns = blurred.shape
        pixels = blurred.reshape(rows // step, step, columns // step, step).mean(axis=(1, 3))
        sd = 0.0004 + 0.003 * pixels
        pixels = pixels + sd * rng.standard_normal(pixels.shape)
        seen[band] = pixels.repeat(step // 2, axis=0).repeat(step // 2, axis=1)
    return np.clip(np.rint(seen * 10_000.0 + 1000.0), 1, 65_535).astype(np.uint16)


def draw_site(
    rng: Generator, canvas: Canvas, region: Region, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """A class's own surface [10,H,W] with another land cover behind a winding edge; its share."""
    levels = spectra(rng, region.spread)
    banks = RIVER_BANKS[int(rng.integers(len(RIVER_BANKS)))]
    GROUND[banks if name == "river" else name](rng, canvas, region.season)
    centre = float(canvas.x.mean()), float(canvas.y.mean())
    if name == "river":
        points = meander(rng, centre, 2500.0, uniform(rng, 500.0, 1400.0))
        own = river(rng, canvas, region.season, points, uniform(rng, 18.0, 75.0))
        surface, ours = reflectance(canvas, levels), own.astype(float)
    else:
        other = Canvas(canvas.x, canvas.y)
        others = [cover for cover in GROUND if cover != name]
        GROUND[others[int(rng.integers(len(others)))]](rng, other, region.season)
        angle = uniform(rng, 0.0, 2.0 * np.pi)
        ahead = (canvas.x - centre[0]) * np.cos(angle) + (canvas.y - centre[1]) * np.sin(angle)
        edge = uniform(rng, 60.0, 500.0) - ahead + 40.0 * rough(rng, canvas.shape, 80.0)
        ours = np.clip(edge / STEP_M + 0.5, 0.0, 1.0)
        surface = reflectance(canvas, levels) * ours + reflectance(other, levels) * (1.0 - ours)
    return surface * np.exp(region.slope * rough(rng, canvas.shape, 120.0)), ours


def pick_tiles(share: np.ndarray, name: str) -> list[tuple[int, int]]:
    """Rows and columns of the site's tiles that show the class well enough, fullest first."""
    found = []
    for row in range(SITE_TILES):
        for column in range(SITE_TILES):
            top, left = (2 * (MARGIN_PX + TILE_PX * place) for place in (row, column))
            part = float(share[top : top + 2 * TILE_PX, left : left + 2 * TILE_PX].mean())
            good = 0.10 <= part <= 0.75 if name == "river" else part >= 0.70
            if good:
                found.append((part if name != "river" else -abs(part - 0.3), row, column))
    found.sort(key=lambda item: (-round(item[0], 3), item[1], item[2]))
    return [(row, column) for _, row, column in found]


def damage(rng: Generator, tile: np.ndarray) -> np.ndarray:
    """Lose pixels of about one tile in twelve: a swath's edge, or a few pixels of one band."""
    kind = rng.random()
    if kind > 0.08:
        return tile
    rows, columns = np.mgrid[0:TILE_PX, 0:TILE_PX] // 2 * 2
    if kind < 0.05:
        lost = columns + uniform(rng, -0.15, 0.15) * rows < uniform(rng, 3.0, 7.0)
        return np.where(lost, np.uint16(0), tile)
    band, lost = int(rng.integers(len(BANDS))), rng.random((TILE_PX // 2, TILE_PX // 2)) < 0.02
    broken = tile.copy()
    broken[band][lost.repeat(2, axis=0).repeat(2, axis=1)] = 0
    return broken


def site_place(region: Region, seed: int, class_index: int, site: int) -> tuple[float, float]:
    """West and north of a site: each has a cell of 2.4 km of its own, classes well mixed."""
    count = region.sites * len(NAMES)
    across = int(np.ceil(np.sqrt(count)))
    order = np.argsort(default_rng([seed, region.number, 99]).random(count), kind="stable")
    cell = int(order[class_index * region.sites + site])
    rng = default_rng([seed, region.number, 98, cell])
    west = region.west + 2400.0 * (cell % across) + PIXEL_M * int(rng.integers(60))
    return west, region.north - 2400.0 * (cell // across) - PIXEL_M * int(rng.integers(60))


def make_site(
    region: Region, name: str, site: int, seed: int
) -> Iterator[tuple[np.ndarray, Affine]]:
    """The tiles of one site, [10,40,40] DN, each with its transform."""
    class_index = NAMES.index(name)
    west, north = site_place(region, seed, class_index, site)
    size = SITE_TILES * TILE_PX + 2 * MARGIN_PX
    for attempt in range(20):
        rng = default_rng([seed, region.number, class_index, site, attempt])
        canvas = canvas_at(west, north, size, size)
        surface, share = draw_site(rng, canvas, region, name)
        places = pick_tiles(share, name)[: region.kept]
        if len(places) == region.kept:
            break
    dn = observe(surface, canvas, region, rng)
    for row, column in sorted(places):
        top, left = MARGIN_PX + TILE_PX * row, MARGIN_PX + TILE_PX * column
        tile = dn[:, top : top + TILE_PX, left : left + TILE_PX]
        corner = from_origin(west + PIXEL_M * left, north - PIXEL_M * top, PIXEL_M, PIXEL_M)
        yield damage(rng, tile), corner


def write_image(path: Path, dn: np.ndarray, corner: Affine, region: Region, **more: object) -> None:
    """Write DN as a compressed GeoTIFF with band names, nodata 0 and the date."""
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = {
        "driver": "GTiff",
        "count": dn.shape[0],
        "height": dn.shape[1],
        "width": dn.shape[2],
        "dtype": "uint16",
        "crs": f"EPSG:{region.epsg}",
        "transform": corner,
        "nodata": 0,
        "interleave": "band",
        "compress": "deflate",
        "predictor": 2,
        "zlevel": 9,
    }
    with rasterio.open(path, "w", **(settings | more)) as target:
        target.write(dn)
        target.descriptions = BANDS
        target.update_tags(TIFFTAG_DATETIME=region.date)


def make_region(out: Path, region_name: str, seed: int) -> None:
    """Write every tile of a region and its tiles.csv (path, group)."""
    region, rows = REGIONS[region_name], []
    for name in NAMES:
        for site in range(region.sites):
            for number, (dn, corner) in enumerate(make_site(region, name, site, seed)):
                path = f"{name}/{name}_{site:02d}_{number}.tif"
                write_image(out / region_name / path, dn, corner, region)
                rows.append((path, f"{name}_{site:02d}"))
    with (out / region_name / "tiles.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([("path", "group"), *rows])


@dataclass(frozen=True)
class Scene:
    """The target scene: DN [10,S,S], truth [S,S] (positions in NAMES), its corner."""

    dn: np.ndarray
    truth: np.ndarray
    corner: Affine


def make_scene(seed: int, size_px: int = SCENE_PX, zone_px: int = 128) -> Scene:
    """A scene of the target region: zones of every land cover and a river through them all."""
    region = REGIONS["target"]
    rng = default_rng([seed, region.number, 97])
    west, north = region.west + 30_000.0, region.north
    canvas = canvas_at(west, north, size_px, size_px)
    zones, kinds = zone_map(rng, size_px, zone_px)
    surface, truth = np.zeros((len(BANDS), *canvas.shape)), np.zeros(canvas.shape, np.uint8)
    names = list(GROUND)
    for zone, kind in enumerate(kinds):
        inside = zones == zone
        rows, columns = np.nonzero(inside.any(axis=1))[0], np.nonzero(inside.any(axis=0))[0]
        window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        own = default_rng([seed, region.number, 96, zone])
        part = Canvas(canvas.x[window], canvas.y[window])
        GROUND[names[kind]](own, part, region.season)
        drawn = reflectance(part, spectra(own, region.spread))
        surface[(slice(None), *window)] += drawn * inside[window]
        truth[inside] = NAMES.index(names[kind])
    run = Canvas(canvas.x, canvas.y)
    centre = float(canvas.x.mean()), float(canvas.y.mean())
    points = meander(rng, centre, 16_000.0, 1500.0)
    banks = river(rng, run, region.season, points, 55.0)
    surface *= 1.0 - sum(run.shares.values())
    surface += reflectance(run, spectra(rng, region.spread))
    surface *= np.exp(region.slope * rough(rng, canvas.shape, 120.0))
    truth[banks] = NAMES.index("river")
    dn, truth = observe(surface, canvas, region, rng), truth[::2, ::2]
    rows, columns = np.mgrid[0:size_px, 0:size_px] // 2 * 2
    lost = columns + 0.25 * rows > size_px * 1.19
    return Scene(
        np.where(lost, np.uint16(0), dn),
        np.where(lost, np.uint8(TRUTH_NODATA), truth),
        from_origin(west, north, PIXEL_M, PIXEL_M),
    )


def make_labels(scene: Scene, seed: int, points: int = 30, polygons: int = 4) -> dict[str, object]:
    """Label points and polygons of every class, well inside the truth, as two tables."""
    rng = default_rng([seed, 1, 95])
    crs = f"EPSG:{REGIONS['target'].epsg}"
    dots, areas = [], []
    for index, name in enumerate(NAMES):
        core = np.argwhere(binary_erosion(scene.truth == index, iterations=3))
        for row, column in core[(rng.random(points) * len(core)).astype(int)]:
            dots.append((name, _centre(scene, row, column)))
        for row, column in core[(rng.random(polygons) * len(core)).astype(int)]:
            areas.append((name, _patch(rng, scene, index, (int(row), int(column)))))
    tables = {"points": dots, "polygons": areas}
    return {
        layer: geopandas.GeoDataFrame(
            {"class": [name for name, _ in rows]}, geometry=[form for _, form in rows], crs=crs
        )
        for layer, rows in tables.items()
    }


def _centre(scene: Scene, row: int, column: int) -> Point:
    """The middle of a pixel."""
    west, north = scene.corner.c, scene.corner.f
    return Point(west + PIXEL_M * (column + 0.5), north - PIXEL_M * (row + 0.5))


def _patch(rng: Generator, scene: Scene, index: int, centre: tuple[int, int]) -> object:
    """One polygon about a pixel: the connected part of its class within 60 to 160 m."""
    rows, columns = np.indices(scene.truth.shape)
    near = np.hypot(rows - centre[0], columns - centre[1]) < uniform(rng, 6.0, 16.0)
    mask = binary_erosion(scene.truth == index, iterations=2) & near
    forms = [
        shape(form) for form, _ in shapes(mask.astype(np.uint8), mask=mask, transform=scene.corner)
    ]
    here = _centre(scene, *centre)
    return next(form for form in forms if form.contains(here))


def write_scene(out: Path, scene: Scene, seed: int) -> None:
    """Write scene.tif, truth.tif (palette and class names) and labels.gpkg."""
    region = REGIONS["target"]
    blocks = {"tiled": True, "blockxsize": 256, "blockysize": 256}
    write_image(out / "scene.tif", scene.dn, scene.corner, region, **blocks)
    size = scene.truth.shape[0]
    with rasterio.open(
        out / "truth.tif", "w", driver="GTiff", count=1, height=size, width=size, dtype="uint8",
        crs=f"EPSG:{region.epsg}", transform=scene.corner, nodata=TRUTH_NODATA,
        compress="deflate", zlevel=9, **blocks,
    ) as target:  # fmt: skip
        target.write(scene.truth, 1)
        colours = [tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in CLASSES.values()]
        target.write_colormap(1, {i: (*colour, 255) for i, colour in enumerate(colours)})
        target.set_band_description(1, "class")
        target.update_tags(**{f"CLASS_{i}": name for i, name in enumerate(NAMES)})
    (out / "labels.gpkg").unlink(missing_ok=True)
    for layer, table in make_labels(scene, seed).items():
        table.to_file(out / "labels.gpkg", layer=layer, driver="GPKG")


def main() -> None:
    """Read the arguments and make everything, or the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", choices=[*REGIONS, "scene"], help="make one part alone")
    arguments = parser.parse_args()
    for region_name in REGIONS:
        if arguments.only in (None, region_name):
            make_region(arguments.out, region_name, arguments.seed)
    if arguments.only in (None, "scene"):
        write_scene(arguments.out, make_scene(arguments.seed), arguments.seed)


if __name__ == "__main__":
    main()
