"""Which of GDAL's drivers may read a file: those of the format that its name ends in.

GDAL looks at the content alone: a small XML file called tile.tif is to it a virtual raster, which
names any other file, or a web service. Here the ending decides, and nothing reaches the network.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

from geotl.errors import DataError

VIRTUAL = ".vrt"
ANYWHERE = "GEOTL_VRT_ANYWHERE"  # set to 1: virtual files may name files outside their folder
# No address is ever given to GDAL, so that whatever asks for one does so on its own.
OFFLINE: Mapping[str, str] = {
    "GDAL_HTTP_PROXY": "127.0.0.1:9",
    "GDAL_HTTPS_PROXY": "127.0.0.1:9",
    "GDAL_HTTP_MAX_RETRY": "0",
    "GDAL_HTTP_CONNECTTIMEOUT": "1",
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "none",
}
_RASTERS: Mapping[str, tuple[str, ...]] = {
    ".tif": ("GTiff",),
    ".tiff": ("GTiff",),
    ".gtiff": ("GTiff",),
    ".jpg": ("JPEG",),
    ".jpeg": ("JPEG",),
    ".png": ("PNG",),
    ".gif": ("GIF",),
    ".webp": ("WEBP",),
    ".jp2": ("JP2OpenJPEG",),
    ".j2k": ("JP2OpenJPEG",),
    VIRTUAL: ("VRT",),
    ".nc": ("netCDF", "HDF5"),
}
# Of files with another ending: formats that hold their pixels themselves.
_PLAIN = ("GTiff", "JPEG", "PNG", "JP2OpenJPEG", "GIF", "WEBP", "BMP", "PNM", "HFA", "ENVI")
_SELDOM = ("EHdr", "ERS", "PCIDSK", "NITF", "AAIGrid", "SAGA", "RST", "ILWIS", "netCDF", "HDF5")
_VECTORS: Mapping[str, tuple[str, bytes]] = {  # driver, and how the content begins
    ".gpkg": ("GPKG", rb"SQLite format 3\0"),
    ".sqlite": ("SQLite", rb"SQLite format 3\0"),
    ".shp": ("ESRI Shapefile", rb"\x00\x00\x27\x0a"),
    ".geojson": ("GeoJSON", rb"\s*\{"),
    ".json": ("GeoJSON", rb"\s*\{"),
    ".geojsonl": ("GeoJSONSeq", rb"[\s\x1e]*\{"),
    ".fgb": ("FlatGeobuf", rb"fgb"),
    ".kml": ("LIBKML KML", rb"(?s)(?!.*<OGRVRT).*<kml"),
    ".kmz": ("LIBKML", rb"PK"),
    ".gpx": ("GPX", rb"(?s)(?!.*<OGRVRT).*<gpx"),
    ".gml": ("GML", rb"(?s)(?!.*<OGRVRT).*(FeatureCollection|opengis)"),
    ".tab": ("MapInfo File", rb"!table"),
    ".mif": ("MapInfo File", rb"(?i)version"),
    ".dxf": ("DXF", rb"\s*(0|999)\s"),
    VIRTUAL: ("OGR_VRT", rb"\s*<OGRVRTDataSource"),
}
_HEAD = 1 << 12
_MOST_VRT = 16 << 20
_NAMING = {"SourceFilename", "SourceDataset", "SrcDataSource", "CutlineDS"}
_CALLED = re.compile(r"(?i)filename|dataset")


def raster_drivers(path: Path) -> list[str]:
    """GDAL's drivers that may read a raster file, after a look at what a virtual one names.

    Raises:
        DataError: a virtual raster that names files it may not.

    >>> raster_drivers(Path("a/tile.TIF"))
    ['GTiff']
    """
    if path.suffix.lower() == VIRTUAL:
        check_virtual(path)
    return list(_RASTERS.get(path.suffix.lower(), _PLAIN + _SELDOM))


def check_vector(path: Path) -> None:
    """Make sure that a vector file is of the format that its name ends in.

    Raises:
        DataError: another ending or another content; or a virtual file that names what it may not.
    """
    if path.is_dir():
        return
    suffix = path.suffix.lower()
    if suffix not in _VECTORS:
        raise DataError(
            f"{path}: not points or polygons by its ending; allowed: "
            f"{', '.join(sorted(_VECTORS))}, .csv: save it as a GeoPackage"
        )
    with path.open("rb") as stream:
        head = stream.read(_HEAD).removeprefix(b"\xef\xbb\xbf")
    if not re.match(_VECTORS[suffix][1], head) or b"gdal_streamed_alg" in head:
        raise DataError(
            f"{path}: cannot be read as points or polygons (its content is not that of a {suffix} "
            "file); it is damaged or of another format: save it as a GeoPackage"
        )
    if suffix == VIRTUAL:
        check_virtual(path)


def check_virtual(path: Path, depth: int = 0) -> None:
    """Make sure that a virtual file names none but files below its own folder.

    Raises:
        DataError: it names others, is no XML, or is nested more than eight deep.
    """
    if os.environ.get(ANYWHERE) == "1":
        return
    for text, beside in _named(path):
        file = (path.parent / text if beside else Path(text)).resolve()
        inside = file.is_relative_to(path.parent.resolve()) and file.is_file()
        if "\0" in text or text.startswith(("/vsi", "<")) or not inside or depth > 8:
            raise DataError(
                f"{path}: a virtual file that names {text[:120]!r}, which is no file below its own "
                f"folder; put it there, or set {ANYWHERE}=1 if you trust the file"
            )
        if file.suffix.lower() == VIRTUAL:
            check_virtual(file, depth + 1)
        elif _is_text(file):
            raise DataError(
                f"{path}: a virtual file that names {text[:120]!r}, which holds text and no pixels"
            )


def _is_text(file: Path) -> bool:
    """Whether GDAL would follow what a file says, rather than read its pixels."""
    with file.open("rb") as stream:
        return stream.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"<", b"{")


def _named(path: Path) -> Iterator[tuple[str, bool]]:
    """What a virtual file names, and whether this is to be looked for beside it."""
    try:
        if path.stat().st_size > _MOST_VRT:
            raise ValueError(f"more than {_MOST_VRT >> 20} MiB")
        root = ElementTree.fromstring(path.read_bytes())
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(
            f"{path}: not a virtual file that can be read ({error}); make it again"
        ) from error
    for one in root.iter():
        named = one.get("name") or one.get("key") or ""
        reference = one.tag in ("Argument", "MDI") and _CALLED.search(named.replace("_", ""))
        if (one.tag in _NAMING or reference) and (text := (one.text or "").strip()):
            relative = one.get("relativeToVRT", one.get("relativetoVRT", "0")) == "1"
            yield text, relative or one.tag not in _NAMING
