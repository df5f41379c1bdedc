"""What `geotl check` writes: text, JSON, page and figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray

from geotl.arrays import Bools, Float64s, Int64s, UInt8s
from geotl.data.checks import Checked
from geotl.data.findings import GRAVITIES
from geotl.data.tile_statistics import QUANTILES, TilePair
from geotl.io.files import json_text, write_text
from geotl.io.vector import positions
from geotl.language import msg, numeral, translated
from geotl.reporting.class_colours import class_colours
from geotl.reporting.figures import (
    FAINT,
    INK,
    canvas,
    encoded,
    message,
    plain_axes,
    shortened,
    write_png,
)
from geotl.reporting.html import (
    Block,
    Facts,
    Picture,
    ReportContent,
    Section,
    Table,
    page_html,
)
from geotl.reporting.rendering import quicklook, stretch_limits
from geotl.reporting.templates import Cell

_SHOWN = 6  # tiles named on the screen under a finding
_PAIRS = 12  # pairs and outliers shown
_HEADINGS = {  # of the pictures
    "contact": msg("Contact sheet"),
    "centres": msg("Places"),
    "pairs": msg("Tiles that look alike"),
    "outliers": msg("Outliers"),
}
UNITS = {
    "reflectance": msg("reflectance"),
    "share": msg("share"),
    "kelvin": msg("kelvin"),
    "decibel": msg("decibel"),
}
_STRETCHED = 200  # tiles behind the pictures' common stretch


def centres_figure(places: Float64s, labels: Int64s, classes: Sequence[str], crs: str) -> bytes:
    """Draw where tiles lie [N,2], coloured by class; nan for those whose place is not known."""
    known = np.isfinite(places).all(axis=1) & (labels >= 0)
    if not known.any():
        return message(msg("No tile tells where it lies."))
    wide = max(4.6, 7.4 if len(classes) <= 12 else 8.6)
    figure = canvas(wide, max(4.6, 0.26 * min(len(classes), 24)))
    axes = figure.add_subplot()
    size = float(np.clip(900 / max(int(known.sum()), 1), 5, 36))
    for label, (name, colour) in enumerate(zip(classes, class_colours(classes), strict=True)):
        mine = known & (labels == label)
        axes.scatter(
            places[mine, 0],
            places[mine, 1],
            size,
            color=colour,
            linewidths=0,
            label=f"{shortened(name, 28)} ({int(mine.sum())})",
        )
    plain_axes(axes, msg("Where the tiles lie ({shortened})", shortened=shortened(crs, 40)))
    axes.set_aspect("equal", adjustable="datalim")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    decimals = "{x:,.2f}" if np.ptp(places[known], axis=0).max() < 50 else "{x:,.0f}"
    axes.xaxis.set_major_formatter(StrMethodFormatter(decimals))
    axes.yaxis.set_major_formatter(StrMethodFormatter(decimals))
    axes.legend(
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        markerscale=float(np.sqrt(30 / size)),
        handletextpad=0.2,
        borderaxespad=0.2,
    )
    return encoded(figure)


def contact_figure(rows: Sequence[tuple[str, Sequence[UInt8s]]]) -> bytes:
    """Lay tiles [h,w,3] out in rows, one for each class, its name and a second line before them."""
    side, gap, head = 0.92, 0.06, 1.75
    across = max((len(tiles) for _, tiles in rows), default=1)
    width, height = head + across * (side + gap), len(rows) * (side + gap)
    figure = canvas(width, height)
    figure.set_layout_engine("none")  # every tile's place is worked out here
    for line, (name, tiles) in enumerate(rows):
        low = height - (line + 1) * (side + gap) + gap
        first, _, second = translated(name).partition("\n")
        figure.text(
            (head - 0.12) / width,
            (low + side / 2) / height,
            f"{shortened(first, 22)}\n{second}",
            ha="right",
            va="center",
            fontsize=8.5,
            color=INK,
        )
        for cell, tile in enumerate(tiles):
            left = head + cell * (side + gap)
            axes = figure.add_axes((left / width, low / height, side / width, side / height))
            axes.imshow(tile, interpolation="nearest")
            axes.set_axis_off()
    return encoded(figure)


def pairs_figure(pairs: Sequence[tuple[UInt8s, UInt8s, str, str]]) -> bytes:
    """Show pairs of tiles side by side, with a caption under each."""
    side, gap, foot, across = 1.1, 0.04, 0.42, 3
    cell = 2 * side + gap + 0.25
    lines = -(-len(pairs) // across)
    width, height = min(across, len(pairs)) * cell, lines * (side + foot)
    figure = canvas(width, height)
    figure.set_layout_engine("none")  # every tile's place is worked out here
    for place, (first, second, below, faint) in enumerate(pairs):
        left, low = (place % across) * cell, height - (place // across + 1) * (side + foot) + foot
        for shift, tile in enumerate((first, second)):
            at = left + shift * (side + gap)
            axes = figure.add_axes((at / width, low / height, side / width, side / height))
            axes.imshow(tile, interpolation="nearest")
            axes.set_axis_off()
        for line, (text, colour) in enumerate(((below, INK), (faint, FAINT))):
            figure.text(
                left / width,
                (low - 0.04 - 0.14 * line) / height,
                shortened(text, 46),
                va="top",
                fontsize=7,
                color=colour,
            )
    return encoded(figure)


def as_text(checked: Checked) -> str:
    """Counts, ranges and findings as lines for the screen."""
    side = checked.pack.images.shape[-1]
    lines = [
        verdict(checked),
        "",
        f"{len(checked.index)} tiles of {side}x{side} px, {checked.pack.images.dtype}, "
        f"{checked.sensor.title}",
        f"bands    {', '.join(checked.pack.bands)}",
        "classes  " + ", ".join(f"{name} {n}" for name, n in _counts(checked).items()),
        *_range_lines(checked),
    ]
    for finding in checked.findings:
        lines += ["", f"{finding.gravity.upper()}: {finding.said}", f"  -> {finding.remedy}"]
        shown, more = finding.tiles[:_SHOWN], len(finding.tiles) - _SHOWN
        lines += [f"     {name}" for name in shown]
        lines += [f"     and {more} more"] if more > 0 else []
    return "\n".join(lines)


def verdict(checked: Checked) -> str:
    """One sentence on whether to go on."""
    count = {g: sum(one.gravity == g for one in checked.findings) for g in GRAVITIES}
    if count["wrong"]:
        return msg(
            "mend this first: {wrong} wrong, {doubtful} doubtful",
            wrong=count["wrong"],
            doubtful=count["doubtful"],
        )
    if count["doubtful"]:
        return msg(
            "usable with care: nothing wrong, {doubtful} doubtful", doubtful=count["doubtful"]
        )
    return msg("ready to train on: nothing wrong, nothing doubtful")


def as_json(checked: Checked) -> str:
    """Everything found, as JSON."""
    names = checked.index.names
    record: dict[str, Any] = {
        "verdict": verdict(checked),
        "tiles": len(checked.index),
        "tile_px": int(checked.pack.images.shape[-1]),
        "dtype": str(checked.pack.images.dtype),
        "sensor": checked.sensor.name,
        "bands": list(checked.pack.bands),
        "classes": _counts(checked),
        "sizes": [{"height": h, "width": w, "tiles": n} for (h, w), n in checked.sizes.items()],
        "quantiles": {
            band: {str(q): v for q, v in zip(QUANTILES, column, strict=True)}
            for band, column in zip(checked.pack.bands, checked.facts.quantiles.T, strict=True)
        },
        "invalid_share": float(1 - checked.facts.valid.mean()),
        "findings": [
            {
                "gravity": one.gravity,
                "kind": one.kind,
                "said": one.said,
                "remedy": one.remedy,
                "tiles": list(one.tiles),
            }
            for one in checked.findings
        ],
        "copies": [[names[i] for i in group] for group in checked.copies],
        "near_duplicates": [_pair(pair, names) for pair in checked.near],
        "overlaps": [_pair(pair, names) for pair in checked.overlapping],
        "outliers": [{"tile": names[i], "distance": round(d, 3)} for i, d in checked.far],
    }
    return json_text(record)


def write_check(
    folder: Path, checked: Checked, rgb: Sequence[int], *, per_class: int, title: str
) -> list[Path]:
    """Write check.json, check.html and the pictures; the paths written."""
    pictures = _pictures(checked, rgb, per_class)
    for name, picture in pictures.items():
        write_png(folder / f"{name}.png", picture.png)
    write_text(folder / "check.json", as_json(checked))
    write_text(folder / "check.html", _page(checked, pictures, title))
    return [folder / "check.html", folder / "check.json", *(folder / f"{n}.png" for n in pictures)]


def _pictures(checked: Checked, rgb: Sequence[int], per_class: int) -> dict[str, Picture]:
    some = np.linspace(0, len(checked.pack) - 1, min(len(checked.pack), _STRETCHED)).astype(int)
    limits = stretch_limits(*_pixels(checked, np.unique(some)), rgb)
    pictures = {"contact": _contact(checked, rgb, limits, per_class)}
    where = _centres(checked)
    if where is not None:
        places, crs = where
        png = centres_figure(places, checked.index.labels, checked.index.classes, crs)
        pictures["centres"] = Picture(png, msg("Map of the tiles' centres by class"))
    chosen = _telling(checked)
    if chosen:
        pictures["pairs"] = _twins(checked, chosen, rgb)
    if checked.far:
        pictures["outliers"] = _outliers(checked, rgb, limits)
    return pictures


def _contact(checked: Checked, rgb: Sequence[int], limits: Float64s, per_class: int) -> Picture:
    """The first tiles of each class in a fixed random order."""
    rows = []
    for label, name in enumerate(checked.index.classes):
        mine = np.random.default_rng(0).permutation(np.flatnonzero(checked.index.labels == label))
        chosen = mine[:per_class].tolist()
        rows.append(
            (
                msg("{name}\n{mine} tiles", name=name, mine=len(mine)),
                [_look(checked, i, rgb, limits) for i in chosen],
            )
        )
    return Picture(
        contact_figure(rows),
        msg("Some tiles of each class"),
        msg(
            "Some tiles of each class, in one stretch: 2nd to 98th percentile over all "
            "classes. Grey has no data."
        ),
    )


def _telling(checked: Checked) -> list[TilePair]:
    """The pairs most worth seeing: conflicts first, then the most alike."""
    labels = checked.index.labels
    whole = [TilePair(group[0], other, 1.0) for group in checked.copies for other in group[1:]]
    pairs = [*whole, *checked.near]
    pairs.sort(key=lambda p: (labels[p.first] == labels[p.second], -p.share))
    return pairs[:_PAIRS]


def _twins(checked: Checked, chosen: Sequence[TilePair], rgb: Sequence[int]) -> Picture:
    names, labels, classes = checked.index.names, checked.index.labels, checked.index.classes
    shown = []
    for pair in chosen:
        both = _pixels(checked, np.array([pair.first, pair.second]))
        limits = stretch_limits(*both, rgb)
        looks = [_look(checked, i, rgb, limits) for i in (pair.first, pair.second)]
        pair_classes = {classes[labels[i]] for i in (pair.first, pair.second) if labels[i] >= 0}
        likeness = _likeness(sorted(pair_classes), pair)
        files = " = ".join(Path(names[i]).stem for i in (pair.first, pair.second))
        shown.append((looks[0], looks[1], likeness, files))
    return Picture(
        pairs_figure(shown),
        msg("Pairs of tiles that look alike"),
        msg(
            "The pairs that look most alike, conflicts of class first, with the correlation"
            " of their thumbnails (1 for copies)."
        ),
    )


def _likeness(classes: Sequence[str], pair: TilePair) -> str:
    """The classes of a pair, and how much its tiles are alike."""
    named = " / ".join(classes)
    if pair.turned:
        return msg("{classes}, {share:.3f} turned", classes=named, share=pair.share)
    return msg("{classes}, {share:.3f}", classes=named, share=pair.share)


def _outliers(checked: Checked, rgb: Sequence[int], limits: Float64s) -> Picture:
    rows: dict[str, list[UInt8s]] = {}
    for place, _ in checked.far[:_PAIRS]:
        name = checked.index.classes[checked.index.labels[place]]
        rows.setdefault(name, []).append(_look(checked, place, rgb, limits))
    return Picture(
        contact_figure(list(rows.items())),
        msg("Tiles far from their class"),
        msg("Tiles whose band means and contrasts lie farthest from their class."),
    )


def _look(checked: Checked, place: int, rgb: Sequence[int], limits: Float64s) -> UInt8s:
    image, valid = _pixels(checked, np.array([place]))
    return quicklook(image[0], None if valid is None else valid[0], rgb, limits)


def _pixels(checked: Checked, rows: Int64s) -> tuple[NDArray[Any], Bools | None]:
    valid = None if checked.pack.valid is None else np.asarray(checked.pack.valid[rows])
    return np.asarray(checked.pack.images[rows]), valid


def _centres(checked: Checked) -> tuple[Float64s, str] | None:
    """Middles of the tiles [N,2] in their one system, else in degrees; None if none is known."""
    systems = sorted({crs for crs in checked.pack.crs if crs})
    if not systems:
        return None
    target = systems[0] if len(systems) == 1 else "EPSG:4326"
    places = np.full((len(checked.pack), 2), np.nan)
    for system in systems:
        rows = [i for i, crs in enumerate(checked.pack.crs) if crs == system]
        boxes = np.array([checked.pack.footprints[i] for i in rows], dtype=np.float64)
        places[rows] = positions((boxes[:, :2] + boxes[:, 2:]) / 2, system, target)
    return places, target


def _page(checked: Checked, pictures: dict[str, Picture], title: str) -> str:
    side = checked.pack.images.shape[-1]
    counts = _counts(checked)
    top = ReportContent(
        title=title,
        headline=verdict(checked),
        loses=verdict(checked).startswith("mend"),
        kind=msg("check"),
        keys=(
            (msg("Tiles"), numeral(len(checked.index), ","), msg("{side} x {side} px", side=side)),
            (
                msg("Classes"),
                str(len(counts)),
                msg(
                    "{values} to {values_2}",
                    values=min(counts.values()),
                    values_2=max(counts.values()),
                ),
            ),
            (msg("Bands"), str(len(checked.pack.bands)), str(checked.pack.images.dtype)),
            (
                msg("No data"),
                numeral(float(1 - checked.facts.valid.mean()), ".1%"),
                msg("of all pixels"),
            ),
        ),
    )
    facts = Facts(
        {msg("Sensor"): checked.sensor.title, msg("Bands"): ", ".join(checked.pack.bands)}
    )
    headings: dict[str, tuple[Block, ...]] = {
        msg("Findings"): tuple(checked.findings) or (msg("None."),),
        msg("Classes"): (_class_table(checked),),
        msg("Ranges"): (facts, _range_table(checked)),
        **{_HEADINGS[name]: (picture,) for name, picture in pictures.items()},
    }
    return page_html(
        top,
        [Section(text.lower().replace(" ", "-"), text, part) for text, part in headings.items()],
    )


def _class_table(checked: Checked) -> Table:
    labels = checked.index.labels
    rows = tuple(
        (
            name,
            number,
            number / max(len(labels), 1),
            float(1 - checked.facts.valid[labels == i].mean()) if number else None,
        )
        for i, (name, number) in enumerate(_counts(checked).items())
    )
    return Table(
        (msg("Class"), msg("Tiles"), msg("Share of tiles"), msg("Pixels without data")), rows
    )


def _range_table(checked: Checked) -> Table:
    """Percentiles in DN, and what they measure."""
    at = dict(zip(QUANTILES, checked.facts.quantiles, strict=True))
    shares = ("1 %", msg("Median"), "99 %")
    rows: list[tuple[Cell, ...]] = []
    for i, name in enumerate(checked.pack.bands):
        measured = [
            float(at[q][i] * checked.sensor.scale + checked.sensor.offset)
            for q in (0.01, 0.5, 0.99)
        ]
        dn = [
            f"{at[q][i]:.4g}" if abs(at[q][i]) < 100 else f"{at[q][i]:.0f}"
            for q in (0.0, 0.01, 0.5, 0.99, 1.0)
        ]
        rows.append(
            (name, *dn, *measured, UNITS.get(checked.sensor.unit(name), checked.sensor.unit(name)))
        )
    return Table(
        (
            msg("Band"),
            *(msg("{q} [DN]", q=q) for q in (msg("Least"), *shares, msg("Most"))),
            *shares,
            msg("Measured"),
        ),
        tuple(rows),
    )


def _range_lines(checked: Checked) -> list[str]:
    at = dict(zip(QUANTILES, checked.facts.quantiles, strict=True))
    scale, offset = checked.sensor.scale, checked.sensor.offset
    lines = [
        f"{name} {at[0.01][i] * scale + offset:.3g} to {at[0.99][i] * scale + offset:.3g}"
        for i, name in enumerate(checked.pack.bands)
    ]
    return ["range    1st to 99th percentile: " + ", ".join(lines)]


def _counts(checked: Checked) -> dict[str, int]:
    labels = checked.index.labels
    counts = np.bincount(labels[labels >= 0], minlength=len(checked.index.classes)).tolist()
    return dict(zip(checked.index.classes, counts, strict=True))


def _pair(pair: TilePair, names: Sequence[str]) -> dict[str, Any]:
    return {
        "first": names[pair.first],
        "second": names[pair.second],
        "share": round(pair.share, 4),
        "turned": pair.turned,
    }
