"""Tables of tiles: CSV and GeoJSON files, row by row with the line each stands on.

Everything is read as text or by the json module; nothing is run.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from geotl.errors import DataError
from geotl.io.raster import known_crs

CSV_SUFFIXES = frozenset({".csv"})
GEOJSON_SUFFIXES = frozenset({".geojson", ".json"})
_MAX_LINES = 5  # listed of those that have one fault
_VALUES = re.compile(r"'[^']*'|\"[^\"]*\"|\d+")
_RUN = ("=", "+", "-", "@", "\t", "\r")
_REAL = ("", "0", "false", "no")  # what a column "synthetic" says of a real tile
_DEGREES = "EPSG:4326"  # what GeoJSON without a word on it is in (RFC 7946)
Found = tuple[int, Mapping[str, str], tuple[float, float] | None, str | None]


@dataclass(frozen=True)
class TableRow:
    """What a table says of one tile.

    Attributes:
        line: on which it stands, counted from 1.
        path: of the tile, as written, with forward slashes.
        label: its class, if given; `split` and `group` likewise.
        centre: position (x, y) of its middle in `crs`, if given.
        synthetic: whether it is marked as made by a generator.
    """

    line: int
    path: str
    label: str | None = None
    split: str | None = None
    group: str | None = None
    centre: tuple[float, float] | None = None
    crs: str | None = None
    synthetic: bool = False


@dataclass
class Faults:
    """What is wrong with a table, gathered so that all of it is reported together.

    A fault that repeats is reported once, with its count and the first lines that have it.
    """

    path: Path
    found: dict[str, tuple[str, list[int]]] = field(default_factory=dict)

    def add(self, line: int, words: str | Callable[[], str], kind: str | None = None) -> None:
        """Note a fault of a line.

        Args:
            line: counted from 1.
            words: what the line has and what is to be done, or what makes these words if that
                takes time: it is called for the first line of its kind alone.
            kind: the same for faults that are one; by default the words without quoted text and
                numbers.
        """
        kind = _VALUES.sub("", kind if kind is not None else _made(words))
        if kind not in self.found:
            self.found[kind] = _made(words), []
        self.found[kind][1].append(line)

    def check(self) -> None:
        """Raise if there are any.

        Raises:
            DataError: one line for each kind of fault.
        """
        if self.found:
            raise DataError("\n".join(self._line(*fault) for fault in self.found.values()))

    def _line(self, words: str, lines: Sequence[int]) -> str:
        first = f"{self.path}: line {lines[0]} {words}"
        if len(lines) == 1:
            return first
        more = " and more" if len(lines) > _MAX_LINES else ""
        listed = ", ".join(map(str, lines[:_MAX_LINES]))
        return f"{first} ({len(lines)} lines have this fault: {listed}{more})"


def _made(words: str | Callable[[], str]) -> str:
    return words if isinstance(words, str) else words()


def read_table(path: Path, faults: Faults) -> list[TableRow]:
    """The rows of a CSV or GeoJSON file; what is wrong with single rows goes to `faults`.

    A CSV has a first line of column names: `path` and any of label, split, group, x, y, crs,
    synthetic; commas or semicolons. GeoJSON holds features with a Point or no geometry, and the
    same names among their properties; positions are in its `crs` member, else in EPSG:4326.

    Raises:
        DataError: the file cannot be read at all.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); save it in UTF-8") from error
    read = _from_geojson if path.suffix.lower() in GEOJSON_SUFFIXES else _from_csv
    rows: list[TableRow] = []
    seen: dict[str, int] = {}
    for line, cells, centre, crs in read(text, path, faults):
        name = Path(cells.get("path", "")).as_posix()
        if name == ".":
            faults.add(line, "names no path; fill it, or take the line out")
        elif name in seen:
            faults.add(line, f"names {name!r} again (first on line {seen[name]}); keep one line")
        else:
            seen[name] = line
            columns = {key: cells.get(key) or None for key in ("label", "split", "group")}
            synthetic = cells.get("synthetic", "").lower() not in _REAL
            rows.append(
                TableRow(line, name, **columns, centre=centre, crs=crs, synthetic=synthetic)
            )
    return rows


def csv_rows(text: str, path: Path) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    r"""A CSV's column names, and its rows as cells by name with the line each stands on.

    Commas or semicolons; cells are stripped, and empty where a row is short.

    >>> columns, rows = csv_rows("x; y\n1; 2\n", Path("a.csv"))
    >>> columns, list(rows)
    (['x', 'y'], [(2, {'x': '1', 'y': '2'})])
    """
    header = text.partition("\n")[0]
    rows = csv.DictReader(text.splitlines(), delimiter=";" if ";" in header else ",")
    columns = [name.strip() for name in rows.fieldnames or ()]
    rows.fieldnames = columns
    return columns, _cells(rows, columns, path)


def _cells(
    rows: csv.DictReader[str], columns: Sequence[str], path: Path
) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        for row in rows:
            yield rows.line_num, {key: _unmarked((row.get(key) or "").strip()) for key in columns}
    except csv.Error as error:
        raise DataError(f"{path}: line {rows.line_num}: {error}; save it as plain CSV") from error


class TableWriter:
    r"""Writes CSV rows whose cells no spreadsheet runs as a formula: such text begins with '.

    >>> import io
    >>> stream = io.StringIO()
    >>> TableWriter(stream).writerow(["=1+1", "-2.5", "-a", 3])
    >>> stream.getvalue()
    "'=1+1,-2.5,'-a,3\n"
    """

    def __init__(self, stream: TextIO) -> None:
        """Write to an open text file."""
        self._writer = csv.writer(stream, lineterminator="\n")

    def writerow(self, cells: Iterable[Any]) -> None:
        """Write one row."""
        self._writer.writerow([_plain(cell) for cell in cells])

    def writerows(self, rows: Iterable[Iterable[Any]]) -> None:
        """Write several rows."""
        for row in rows:
            self.writerow(row)


def _plain(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and runs_as_formula(cell) else cell


def runs_as_formula(text: str) -> bool:
    """Whether a spreadsheet would run a cell of this text.

    >>> runs_as_formula("=1+1"), runs_as_formula("-2.5"), runs_as_formula("forest")
    (True, False, False)
    """
    return len(text) > 1 and text[0] in _RUN and number(text) is None


def _unmarked(cell: str) -> str:
    """A cell as it was before `TableWriter` marked it."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in _RUN else cell


def number(text: str) -> float | None:
    """A finite number, with a decimal point or comma; None if the text is none.

    >>> number("2,5"), number("1e3"), number("nan"), number("")
    (2.5, 1000.0, None, None)
    """
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _from_csv(text: str, path: Path, faults: Faults) -> Iterator[Found]:
    columns, rows = csv_rows(text, path)
    if "path" not in columns:
        raise DataError(
            f"{path}: no column 'path' among {columns}; the first line must name the columns, such "
            "as path, label, split, group"
        )
    for line, cells in rows:
        centre, crs = _place(line, cells, faults)
        yield line, cells, centre, crs


def _place(
    line: int, cells: Mapping[str, str], faults: Faults
) -> tuple[tuple[float, float] | None, str | None]:
    """Position and reference system of a row; (None, None) where the cells are empty."""
    given = cells.get("x", ""), cells.get("y", "")
    if not any(given):
        return None, None
    try:
        x, y = float(given[0]), float(given[1])
        if not (math.isfinite(x) and math.isfinite(y)):
            raise ValueError("not finite")
    except ValueError:
        faults.add(line, f"gives x {given[0]!r}, y {given[1]!r}; allowed: two numbers, or neither")
        return None, None
    if not cells.get("crs"):
        faults.add(line, "gives x and y but no crs; add a column crs, such as EPSG:4326")
        return None, None
    return (x, y), _crs(line, cells["crs"], faults)


def _crs(line: int, text: str, faults: Faults) -> str | None:
    try:
        return known_crs(text)
    except DataError as error:
        faults.add(line, f"gives {error}")
        return None


def _from_geojson(text: str, path: Path, faults: Faults) -> Iterator[Found]:
    try:
        collection = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}); save it as GeoJSON") from error
    features = collection.get("features") if isinstance(collection, dict) else None
    if not isinstance(features, list):
        raise DataError(f"{path}: JSON without a list of 'features'; save it as GeoJSON points")
    lines = _lines_of(text, features)
    crs = _crs(1, _named_crs(collection), faults)
    for line, feature in zip(lines, features, strict=True):
        properties = feature.get("properties") if isinstance(feature, dict) else None
        if not isinstance(properties, dict):
            faults.add(line, "holds a feature without properties; give it path and label")
            continue
        plain = {k: str(v).strip() for k, v in properties.items() if isinstance(v, str | int)}
        geometry = feature.get("geometry")
        centre = _point(geometry)
        if geometry is not None and centre is None:
            kind = geometry.get("type") if isinstance(geometry, dict) else geometry
            faults.add(line, f"holds a geometry {kind!r}; allowed: a Point of two numbers, or null")
        yield line, plain, centre, crs if centre else None


def _named_crs(collection: Mapping[str, Any]) -> str:
    """The reference system a collection names (GeoJSON 2008), or that of RFC 7946."""
    crs = collection.get("crs")
    named = crs.get("properties") if isinstance(crs, dict) else None
    name = named.get("name") if isinstance(named, dict) else None
    if crs is not None and not isinstance(name, str):
        return str(crs)
    # CRS84 is longitude, latitude in degrees, as rasters in EPSG:4326 hold them too.
    return _DEGREES if name is None or name.upper().endswith("CRS84") else name


def _point(geometry: object) -> tuple[float, float] | None:
    if not isinstance(geometry, dict) or geometry.get("type") != "Point":
        return None
    place = geometry.get("coordinates")
    if not isinstance(place, list) or len(place) < 2:
        return None
    numbers = [v for v in place[:2] if isinstance(v, int | float) and math.isfinite(v)]
    return (float(numbers[0]), float(numbers[1])) if len(numbers) == 2 else None


def _lines_of(text: str, features: Sequence[object]) -> list[int]:
    """The line on which each feature starts, found by decoding them once more in place."""
    decode = json.JSONDecoder().raw_decode
    for start in re.finditer(r'"features"\s*:\s*\[', text):
        at, line, before, lines = start.end(), 1, 0, []
        for feature in features:
            at = _skip(text, at)
            try:
                found, end = decode(text, at)
            except ValueError:
                break
            if found != feature:
                break
            line, before = line + text.count("\n", before, at), at
            lines.append(line)
            at = end
        if len(lines) == len(features):
            return lines
    return [1] * len(features)


def _skip(text: str, at: int) -> int:
    """The first place at or after one that is not white space or a comma."""
    while at < len(text) and text[at] in " \t\r\n,":
        at += 1
    return at
