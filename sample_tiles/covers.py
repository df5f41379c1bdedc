"""What the ground is made of and how each land cover arranges it, drawn at 5 m.

A cover paints shares of materials on a canvas; a region's season and soils say which shares.
Everything is drawn from one numpy Generator per place, so that any place can be made alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

STEP_M = 5.0
BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
CENTRES_NM = np.array([492, 560, 665, 704, 741, 783, 833, 865, 1614, 2202], dtype=float)

# Bottom-of-atmosphere reflectance in BANDS' order: rounded levels of open spectral libraries, read
# at Sentinel-2's band centres, not copies of any single spectrum. Vegetation, soils and roofs after
# the ECOSTRESS library (Meerdink et al. 2019, doi 10.1016/j.rse.2019.05.015) and USGS splib07
# (Kokaly et al. 2017, doi 10.3133/ds1035); canopies lie below single leaves, as shade makes them.
MATERIALS: dict[str, tuple[float, ...]] = {
    "grass": (0.035, 0.070, 0.042, 0.110, 0.290, 0.360, 0.380, 0.400, 0.220, 0.115),
    "crop": (0.028, 0.062, 0.034, 0.100, 0.320, 0.400, 0.430, 0.445, 0.195, 0.090),
    "straw": (0.080, 0.120, 0.165, 0.195, 0.225, 0.245, 0.265, 0.285, 0.330, 0.240),
    "broadleaf": (0.021, 0.043, 0.024, 0.075, 0.235, 0.310, 0.335, 0.350, 0.160, 0.070),
    "autumn": (0.030, 0.058, 0.062, 0.110, 0.190, 0.230, 0.250, 0.265, 0.180, 0.095),
    "conifer": (0.018, 0.033, 0.023, 0.056, 0.150, 0.190, 0.205, 0.215, 0.098, 0.043),
    "shrub": (0.032, 0.055, 0.048, 0.090, 0.175, 0.210, 0.230, 0.245, 0.190, 0.110),
    "reed": (0.032, 0.055, 0.045, 0.088, 0.195, 0.240, 0.260, 0.275, 0.175, 0.095),
    "loam": (0.058, 0.082, 0.108, 0.128, 0.144, 0.158, 0.175, 0.190, 0.265, 0.235),
    "marl": (0.110, 0.155, 0.210, 0.235, 0.255, 0.272, 0.290, 0.305, 0.385, 0.340),
    "terra_rossa": (0.050, 0.082, 0.150, 0.180, 0.200, 0.212, 0.228, 0.245, 0.335, 0.300),
    "gravel": (0.130, 0.165, 0.200, 0.215, 0.230, 0.240, 0.252, 0.262, 0.310, 0.285),
    "clear_water": (0.030, 0.032, 0.018, 0.015, 0.010, 0.010, 0.008, 0.007, 0.004, 0.003),
    "turbid_water": (0.055, 0.082, 0.072, 0.066, 0.040, 0.038, 0.030, 0.026, 0.009, 0.006),
    "asphalt": (0.078, 0.088, 0.098, 0.103, 0.108, 0.113, 0.118, 0.124, 0.142, 0.135),
    "concrete": (0.170, 0.205, 0.230, 0.240, 0.250, 0.258, 0.268, 0.276, 0.305, 0.285),
    "tile_roof": (0.070, 0.098, 0.175, 0.205, 0.228, 0.245, 0.262, 0.275, 0.330, 0.305),
    "metal_roof": (0.310, 0.330, 0.340, 0.345, 0.350, 0.350, 0.355, 0.355, 0.350, 0.330),
    "bitumen": (0.058, 0.062, 0.066, 0.068, 0.070, 0.073, 0.076, 0.080, 0.092, 0.090),
}
NAMES = tuple(MATERIALS)
LEVELS = np.array([MATERIALS[name] for name in NAMES])
PLANTS = np.array([name in NAMES[:8] for name in NAMES], dtype=float)

Mix = dict[str, "float | np.ndarray"]


@dataclass(frozen=True)
class Season:
    """What a region's date and soils do to its covers.

    soils: shares of the three bare soils.
    green: lowest and highest green share of grass and crops.
    autumn: share of broadleaf crowns already turned.
    turbid: lowest and highest turbid share of the water.
    """

    soils: Mix
    green: tuple[float, float]
    autumn: float
    turbid: tuple[float, float]

    def soil(self, share: float | np.ndarray) -> Mix:
        """The region's bare soil, `share` of it."""
        return {name: share * part for name, part in self.soils.items()}


class Canvas:
    """Shares [H,W] of the materials in use and shade [H,W], over metres east and south."""

    def __init__(self, east: np.ndarray, south: np.ndarray) -> None:
        """Start with nothing on the ground."""
        self.x, self.y = east, south
        self.shape = east.shape
        self.shares: dict[str, np.ndarray] = {}
        self.shade = np.ones(self.shape)

    def paint(self, alpha: float | np.ndarray, mix: Mix) -> None:
        """Cover `alpha` of each pixel with a mix whose shares sum to one."""
        left = 1.0 - alpha
        self.shares = {name: share * left for name, share in self.shares.items()}
        for name, share in mix.items():
            self.shares[name] = self.shares.get(name, np.zeros(self.shape)) + alpha * share


def uniform(rng: Generator, low: float, high: float) -> float:
    """One number between low and high."""
    return float(low + (high - low) * rng.random())


def rough(rng: Generator, shape: tuple[int, ...], scale_m: float) -> np.ndarray:
    """A random field of unit variance that varies over about scale_m metres."""
    sigma = scale_m / STEP_M
    smooth = gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return smooth * (2.0 * np.sqrt(np.pi) * sigma)


def inside(distance_m: np.ndarray) -> np.ndarray:
    """Share of a 5 m pixel inside an edge: 1 well inside (positive), 0 well outside."""
    return np.clip(distance_m / STEP_M + 0.5, 0.0, 1.0)


def turned(canvas: Canvas, angle: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The canvas's coordinates along and across a direction, in metres."""
    x, y = canvas.x, canvas.y
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _cuts(rng: Generator, values: np.ndarray, spacing_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Irregular cuts along an axis: each value's piece, and metres to its nearest cut."""
    low, high = float(values.min()) - spacing_m, float(values.max()) + spacing_m
    steps = spacing_m * (0.5 + rng.random(int((high - low) / (0.5 * spacing_m)) + 2))
    cuts = low - spacing_m * rng.random() + np.cumsum(steps)
    piece = np.searchsorted(cuts, values)
    below, above = cuts[np.maximum(piece - 1, 0)], cuts[np.minimum(piece, len(cuts) - 1)]
    return piece, np.minimum(np.abs(values - below), np.abs(values - above))


def parcels(
    rng: Generator, canvas: Canvas, width_m: float, length_m: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Straight-edged parcels in strips: parcel number [H,W], metres to the edge, direction."""
    angle = uniform(rng, 0.0, np.pi)
    along, across = turned(canvas, angle)
    bend = uniform(rng, 0.0, 12.0) * np.sin(along / uniform(rng, 250.0, 500.0) + 6.0 * rng.random())
    strip, edge = _cuts(rng, across + bend, width_m)
    shift = length_m * rng.random(int(strip.max()) + 1)
    place, end = _cuts(rng, along + shift[strip], length_m)
    return strip * (int(place.max()) + 1) + place, np.minimum(edge, end), angle


def per_parcel(rng: Generator, parcel: np.ndarray) -> np.ndarray:
    """One uniform number for each parcel, [H,W]."""
    return rng.random(int(parcel.max()) + 1)[parcel]


def meander(
    rng: Generator, centre: tuple[float, float], length_m: float, wave_m: float
) -> np.ndarray:
    """A sine-generated meander (Langbein & Leopold 1966) through `centre`: points [N,2], metres."""
    step = 4.0
    s = np.arange(-length_m, length_m, step)
    swing = uniform(rng, 0.6, 1.6) * (1.0 + 0.3 * np.sin(s / (2.3 * wave_m) + 6.0 * rng.random()))
    heading = uniform(rng, 0.0, 2.0 * np.pi) + swing * np.sin(
        2.0 * np.pi * s / wave_m + uniform(rng, 0.0, 2.0 * np.pi)
    )
    points = np.stack([np.cumsum(np.cos(heading)), np.cumsum(np.sin(heading))], axis=1) * step
    return points - points[len(points) // 2] + np.array(centre)


def distance_to(points: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Metres from each pixel to the nearest of the points, infinite beyond 300 m, [H,W]."""
    where = np.stack([canvas.x.ravel(), canvas.y.ravel()], axis=1)
    return cKDTree(points).query(where, distance_upper_bound=300.0)[0].reshape(canvas.shape)


def water(rng: Generator, season: Season) -> Mix:
    """One water body's share of turbid water."""
    turbid = uniform(rng, *season.turbid)
    return {"turbid_water": turbid, "clear_water": 1.0 - turbid}


def vegetated(season: Season, green: np.ndarray | float, plant: str, straw: float) -> Mix:
    """A green share of a plant, the rest divided between straw and the region's soil."""
    return {plant: green, "straw": (1.0 - green) * straw} | season.soil((1.0 - green) * (1 - straw))


def crowns(rng: Generator, canvas: Canvas, width_m: float, depth: float) -> None:
    """The speckle of sunlit and shaded crowns of about a width, and slopes above it."""
    fine = rough(rng, canvas.shape, width_m)
    slopes = rough(rng, canvas.shape, 90.0)
    canvas.shade *= np.exp(depth * fine + uniform(rng, 0.02, 0.09) * slopes)


def pasture(rng: Generator, canvas: Canvas, season: Season) -> None:
    """Grassland: soft mottling, faint paddocks, now and then a hedge or lone trees."""
    level = uniform(rng, *season.green)
    soft = uniform(rng, 0.05, 0.24)
    green = level + soft * rough(rng, canvas.shape, uniform(rng, 18.0, 55.0))
    paddock, edge, _ = parcels(rng, canvas, uniform(rng, 160.0, 320.0), uniform(rng, 220.0, 400.0))
    green += uniform(rng, 0.0, 0.12) * (per_parcel(rng, paddock) - 0.5)
    canvas.paint(1.0, vegetated(season, np.clip(green, 0.0, 1.0), "grass", uniform(rng, 0.4, 0.9)))
    if rng.random() < 0.35:
        hedge = inside(uniform(rng, 4.0, 8.0) - edge) * (rough(rng, canvas.shape, 30.0) > -0.4)
        canvas.paint(0.8 * hedge, {"broadleaf": 0.7, "shrub": 0.3})
    if rng.random() < 0.4:
        canvas.paint(0.7 * (rough(rng, canvas.shape, 9.0) > uniform(rng, 2.0, 2.8)), {"shrub": 1.0})


def cropland(rng: Generator, canvas: Canvas, season: Season) -> None:
    """Annual crops: straight parcels, each green, ripe or bare, from faint to strong contrast."""
    parcel, edge, _ = parcels(rng, canvas, uniform(rng, 55.0, 150.0), uniform(rng, 180.0, 420.0))
    level, contrast = uniform(rng, *season.green), uniform(rng, 0.15, 0.65)
    green = level + contrast * (per_parcel(rng, parcel) - 0.5)
    green += uniform(rng, 0.01, 0.08) * rough(rng, canvas.shape, uniform(rng, 15.0, 45.0))
    straw = np.clip(uniform(rng, 0.2, 0.8) + contrast * (per_parcel(rng, parcel) - 0.5), 0.0, 1.0)
    canvas.paint(1.0, vegetated(season, np.clip(green, 0.0, 1.0), "crop", straw))
    if rng.random() < 0.5:
        canvas.paint(0.6 * inside(3.0 - edge), {"straw": 0.4} | season.soil(0.6))


def orchard(rng: Generator, canvas: Canvas, season: Season) -> None:
    """Permanent crops: rows of trees over soil or grass, every plot with its own direction."""
    plot, edge, angle = parcels(rng, canvas, uniform(rng, 110.0, 220.0), uniform(rng, 150.0, 320.0))
    floor = uniform(rng, 0.0, 0.75) + 0.3 * (per_parcel(rng, plot) - 0.5)
    floor += 0.06 * rough(rng, canvas.shape, 30.0)
    canvas.paint(1.0, vegetated(season, np.clip(floor, 0.0, 1.0), "grass", uniform(rng, 0.1, 0.6)))
    quarter = np.where(per_parcel(rng, plot) < 0.5, 0.0, np.pi / 2)
    along, across = turned(canvas, angle + quarter + 0.15 * (per_parcel(rng, plot) - 0.5))
    spacing = uniform(rng, 28.0, 42.0) * (0.9 + 0.3 * per_parcel(rng, plot))
    row = 0.5 + 0.5 * np.cos(2.0 * np.pi * across / spacing)
    gaps = rough(rng, canvas.shape, 8.0) < uniform(rng, 0.6, 2.0)
    tree = np.clip(1.6 * row - 0.55 + 0.1 * np.cos(2.0 * np.pi * along / spacing), 0.0, 1.0)
    leaf = uniform(rng, 0.3, 0.8)
    cover = uniform(rng, 0.35, 0.9) * tree * gaps * inside(edge - 5.0)
    canvas.paint(cover, {"broadleaf": leaf, "shrub": 1.0 - leaf})


def broadleaf_forest(rng: Generator, canvas: Canvas, season: Season) -> None:
    """Broadleaf woods: round crowns, some already turned, some conifers, a few glades."""
    turn = season.autumn * uniform(rng, 0.4, 1.3) + 0.1 * rough(rng, canvas.shape, 25.0)
    turn = np.clip(turn, 0.0, 0.9)
    canvas.paint(1.0, {"broadleaf": 1.0 - turn, "autumn": turn})
    other = np.clip(uniform(rng, -0.1, 0.45) + 0.25 * rough(rng, canvas.shape, 40.0), 0.0, 0.7)
    canvas.paint(other, {"conifer": 1.0})
    glade = rough(rng, canvas.shape, 30.0) > uniform(rng, 1.7, 3.0)
    canvas.paint(0.8 * glade, vegetated(season, 0.7, "grass", 0.7))
    crowns(rng, canvas, uniform(rng, 8.0, 13.0), uniform(rng, 0.03, 0.09))


def conifer_forest(rng: Generator, canvas: Canvas, season: Season) -> None:
    """Conifer woods: stands of unlike age, straight rides, now and then a felled stand."""
    stand, edge, _ = parcels(rng, canvas, uniform(rng, 180.0, 320.0), uniform(rng, 250.0, 450.0))
    mixed = np.clip(uniform(rng, -0.1, 0.5) + 0.2 * rough(rng, canvas.shape, 40.0), 0.0, 0.75)
    turn = season.autumn * uniform(rng, 0.3, 1.0)
    canvas.paint(1.0, {"conifer": 1.0})
    canvas.paint(mixed, {"broadleaf": 1.0 - turn, "autumn": turn})
    young = 0.35 * (per_parcel(rng, stand) > 0.7)
    canvas.paint(young, {"shrub": 0.8, "grass": 0.2})
    felled = (per_parcel(rng, stand) > uniform(rng, 0.85, 1.0)) * 0.8
    canvas.paint(felled, {"shrub": 0.5} | season.soil(0.5))
    if rng.random() < 0.6:
        ride = inside(uniform(rng, 3.0, 6.0) - edge)
        canvas.paint(0.7 * ride, vegetated(season, 0.5, "grass", 0.5))
    crowns(rng, canvas, uniform(rng, 3.5, 5.0), uniform(rng, 0.08, 0.22))


def wetland(rng: Generator, canvas: Canvas, season: Season) -> None:
    """Reeds and wet meadow with pools and winding ditches of open water."""
    level = uniform(rng, *season.green)
    wet = np.clip(uniform(rng, 0.3, 0.7) + 0.3 * rough(rng, canvas.shape, 45.0), 0.0, 1.0)
    canvas.paint(1.0, vegetated(season, level, "grass", 0.8))
    canvas.paint(wet, {"reed": 0.85, "straw": 0.15})
    canvas.paint(0.25 * wet, water(rng, season))
    pools = rough(rng, canvas.shape, uniform(rng, 16.0, 38.0)) - uniform(rng, 0.6, 1.5)
    canvas.paint(0.9 * np.clip(6.0 * pools + 0.5, 0.0, 1.0), water(rng, season))
    ditch = np.abs(rough(rng, canvas.shape, uniform(rng, 45.0, 70.0)))
    canvas.paint(0.75 * (ditch < uniform(rng, 0.03, 0.09)), water(rng, season))


def garden(rng: Generator, canvas: Canvas, season: Season) -> None:
    """Lawns, beds and garden trees, the ground between houses."""
    green = np.clip(uniform(rng, 0.35, 0.8) + 0.15 * rough(rng, canvas.shape, 20.0), 0.0, 1.0)
    canvas.paint(1.0, vegetated(season, green, "grass", 0.5))
    trees = rough(rng, canvas.shape, 7.0) > uniform(rng, 0.2, 1.5)
    canvas.paint(0.8 * trees, {"broadleaf": 0.8, "conifer": 0.2})


def residential(rng: Generator, canvas: Canvas, season: Season) -> None:
    """Streets about blocks of small houses and gardens."""
    garden(rng, canvas, season)
    block, edge, angle = parcels(rng, canvas, uniform(rng, 65.0, 130.0), uniform(rng, 110.0, 240.0))
    along, across = turned(canvas, angle)
    lot = uniform(rng, 18.0, 38.0)
    house = 0.5 + np.minimum(np.cos(2 * np.pi * along / lot), np.cos(2 * np.pi * across / lot))
    built = (per_parcel(rng, block) < uniform(rng, 0.7, 1.0)) * uniform(rng, 0.5, 0.95)
    number = np.floor(along / lot).astype(int) * 31 + np.floor(across / lot).astype(int) * 17
    there = rng.random(997)[number % 997] < uniform(rng, 0.7, 1.0)
    tiles = rng.random(997)[number % 997] < uniform(rng, 0.2, 0.9)
    roof = {"tile_roof": 0.9 * tiles, "bitumen": 0.9 * (~tiles), "concrete": 0.1}
    canvas.paint(built * there * np.clip(2.0 * house, 0.0, 1.0), roof)
    street = inside(uniform(rng, 4.0, 7.5) - edge)
    canvas.paint(0.92 * street, {"asphalt": 0.8, "concrete": 0.2})


def industrial(rng: Generator, canvas: Canvas, season: Season) -> None:
    """Halls and yards: large roofs of many materials, wide streets, spare ground."""
    spare = uniform(rng, 0.25, 0.75)
    canvas.paint(1.0, vegetated(season, spare, "grass", 0.5))
    garden_trees = rough(rng, canvas.shape, 12.0) > uniform(rng, 1.0, 2.2)
    canvas.paint(0.8 * garden_trees, {"broadleaf": 1.0})
    plot, edge, _ = parcels(rng, canvas, uniform(rng, 70.0, 150.0), uniform(rng, 90.0, 220.0))
    kind, used = per_parcel(rng, plot), per_parcel(rng, plot) < uniform(rng, 0.5, 0.95)
    yard = {"asphalt": 0.7 * (kind < 0.6), "gravel": 0.7 * (kind >= 0.6), "concrete": 0.3}
    canvas.paint(0.9 * used * inside(edge - 8.0), yard)
    tone, metal, red = per_parcel(rng, plot), uniform(rng, 0.0, 0.25), uniform(rng, 0.1, 0.5)
    roof = {
        "metal_roof": 1.0 * (tone < metal),
        "tile_roof": 1.0 * ((tone >= metal) & (tone < metal + red)),
        "bitumen": 0.6 * (tone >= metal + red),
        "concrete": 0.4 * (tone >= metal + red),
    }
    inset = uniform(rng, 14.0, 22.0) + 12.0 * per_parcel(rng, plot)
    canvas.paint(used * inside(edge - inset), roof)
    canvas.paint(0.9 * inside(uniform(rng, 5.0, 9.0) - edge), {"asphalt": 0.9, "concrete": 0.1})


Cover = Callable[[Generator, Canvas, Season], None]
GROUND: dict[str, Cover] = {
    "broadleaf_forest": broadleaf_forest,
    "conifer_forest": conifer_forest,
    "cropland": cropland,
    "industrial": industrial,
    "orchard": orchard,
    "pasture": pasture,
    "residential": residential,
    "wetland": wetland,
}
RIVER_BANKS = ("broadleaf_forest", "cropland", "orchard", "pasture", "wetland")


def river(
    rng: Generator, canvas: Canvas, season: Season, points: np.ndarray, half_m: float
) -> np.ndarray:
    """Paint a river along points, with gravel bars and bank trees; returns its water and banks."""
    distance = distance_to(points, canvas) + 5.0 * rough(rng, canvas.shape, 40.0)
    trees = inside(half_m + uniform(rng, 5.0, 45.0) - distance) * (
        rough(rng, canvas.shape, 12.0) > 0
    )
    canvas.paint(0.8 * trees, {"broadleaf": 0.8, "shrub": 0.2})
    bars = inside(half_m + 14.0 - distance) * (rough(rng, canvas.shape, 45.0) > 0.7)
    canvas.paint(0.9 * bars, {"gravel": 1.0})
    open_water = inside(half_m - distance)
    canvas.paint(open_water, water(rng, season))
    canvas.shade = canvas.shade * (1.0 - open_water) + open_water
    return distance < half_m + 14.0


def zone_map(rng: Generator, size_px: int, zone_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Irregular zones at 5 m [2S,2S] about a jittered lattice, and each zone's ground cover."""
    count, fine = size_px // zone_px, 2 * zone_px
    places = (
        np.indices((count, count)).reshape(2, -1).T + 0.15 + 0.7 * rng.random((count**2, 2))
    ) * fine
    rows, columns = np.indices((2 * size_px, 2 * size_px)).astype(float)
    rows += 14.0 * rough(rng, rows.shape, 150.0)
    columns += 14.0 * rough(rng, rows.shape, 150.0)
    where = np.stack([rows.ravel(), columns.ravel()], axis=1)
    zones = cKDTree(places).query(where)[1].reshape(rows.shape)
    order = np.argsort(rng.random(count**2), kind="stable")
    return zones, order % len(GROUND)


def spectra(rng: Generator, spread: float) -> np.ndarray:
    """One place's material spectra [M,10]: brightness, slope and vigour vary about LEVELS."""
    count = len(NAMES)
    slope = np.log(CENTRES_NM / 842.0)
    vigour = np.where((CENTRES_NM > 720) & (CENTRES_NM < 1000), 1.0, -0.5)
    change = spread * rng.standard_normal((count, 1))
    change = change + 0.35 * spread * rng.standard_normal((count, 1)) * slope
    change = change + 0.6 * spread * (PLANTS * rng.standard_normal(count))[:, None] * vigour
    return LEVELS * np.exp(change)


def reflectance(canvas: Canvas, levels: np.ndarray) -> np.ndarray:
    """Linear mixture of the canvas's materials under its shade, [10,H,W]."""
    mixed = np.zeros((len(BANDS), *canvas.shape))
    for name, share in canvas.shares.items():
        for band, level in enumerate(levels[NAMES.index(name)]):
            mixed[band] += level * share
    return mixed * canvas.shade
