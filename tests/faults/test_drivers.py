"""What a file is called decides what may read it; nothing reaches the network or other folders."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import shapely
from helpers.tiles import write_tile

from geotl.errors import DataError
from geotl.io import raster
from geotl.io.drivers import ANYWHERE
from geotl.io.images import WindowReader
from geotl.io.vector import read_features, write_features


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A web server on this machine, and what was asked of it."""
    asked: list[str] = []

    class Noting(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815 - as http.server calls it

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Noting)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_port}", asked
    serving.shutdown()


def virtual(source: str, *, relative: int = 0) -> str:
    return (
        '<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1">'
        f'<SimpleSource><SourceFilename relativeToVRT="{relative}">{source}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )


def services(url: str) -> dict[str, str]:
    wms = f'<GDAL_WMS><Service name="TMS"><ServerUrl>{url}/${{z}}/${{x}}/${{y}}</ServerUrl>'
    wms += "</Service><DataWindow><SizeX>8</SizeX><SizeY>8</SizeY></DataWindow></GDAL_WMS>"
    index = f"<GDALTileIndexDataset><IndexDataset>/vsicurl/{url}/i.gpkg</IndexDataset>"
    return {
        "vrt": virtual(f"/vsicurl/{url}/a.tif"),
        "wms": wms,
        "gti": index + "</GDALTileIndexDataset>",
        "wcs": f"<WCS_GDAL><ServiceURL>{url}/?</ServiceURL></WCS_GDAL>",
        "stacit": '{"type": "FeatureCollection", "stac_version": "1.0.0", "features": []}',
    }


@pytest.mark.parametrize("kind", ["vrt", "wms", "gti", "wcs", "stacit"])
@pytest.mark.parametrize("suffix", [".tif", ".jp2", ".png", ".img", ".vrt"])
def test_what_is_no_raster_of_its_name_opens_nothing(
    kind: str, suffix: str, server: tuple[str, list[str]], tmp_path: Path
) -> None:
    url, asked = server
    path = tmp_path / f"tile{suffix}"
    path.write_text(services(url)[kind])
    for call in (raster.read, raster.describe, WindowReader):
        with pytest.raises(DataError) as error:
            call(path)
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)
    assert not asked


def test_a_tif_that_is_a_virtual_raster_reads_no_other_file(tmp_path: Path) -> None:
    other = write_tile(tmp_path / "secret" / "other.tif", np.ones((1, 8, 8), np.uint8))
    path = tmp_path / "tiles" / "tile.tif"
    path.parent.mkdir()
    path.write_text(virtual(str(other)))
    with pytest.raises(DataError, match="cannot be read as an image"):
        raster.read(path)


def test_a_virtual_raster_names_files_below_its_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    other = write_tile(tmp_path / "other.tif", data)
    write_tile(tmp_path / "a" / "in" / "tile.tif", data)
    path = tmp_path / "a" / "scene.vrt"
    path.write_text(virtual("in/tile.tif", relative=1))
    assert (raster.read(path).data == data).all()
    for source, relative in ((str(other), 0), ("../other.tif", 1), ("in/gone.tif", 1)):
        path.write_text(virtual(source, relative=relative))
        with pytest.raises(DataError, match=r"no file below its own folder.*GEOTL_VRT_ANYWHERE"):
            raster.read(path)
    path.write_text(virtual(str(other)))
    monkeypatch.setenv(ANYWHERE, "1")
    assert (raster.read(path).data == data).all()


def test_virtual_rasters_are_followed_to_what_they_name(tmp_path: Path) -> None:
    other = write_tile(tmp_path / "other.tif", np.ones((1, 8, 8), np.uint8))
    inner, outer = tmp_path / "a" / "inner.vrt", tmp_path / "a" / "outer.vrt"
    inner.parent.mkdir()
    inner.write_text(virtual(str(other)))
    outer.write_text(virtual("inner.vrt", relative=1))
    with pytest.raises(DataError, match=r"inner\.vrt: a virtual file that names"):
        raster.read(outer)
    hidden = tmp_path / "a" / "hidden.tif"
    hidden.write_text(virtual(str(other)))
    outer.write_text(virtual("hidden.tif", relative=1))
    with pytest.raises(DataError, match="holds text and no pixels"):
        raster.read(outer)
    outer.write_text(virtual("outer.vrt", relative=1))
    with pytest.raises(DataError):
        raster.read(outer)


def test_an_overview_beside_a_tile_reaches_no_network(
    server: tuple[str, list[str]], tmp_path: Path
) -> None:
    url, asked = server
    path = write_tile(tmp_path / "tile.tif", np.ones((1, 600, 600), np.uint8))
    (tmp_path / "tile.tif.ovr").write_text(virtual(f"/vsicurl/{url}/a.tif"))
    (tmp_path / "tile.tif.aux.xml").write_text(
        '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">'
        f"/vsicurl/{url}/b.tif</MDI></Metadata></PAMDataset>"
    )
    reader = WindowReader(path)
    reader.read((0, 600), (0, 600), shape=(10, 10))
    assert not asked


def vector_services(url: str, other: Path) -> dict[str, str]:
    layer = '<OGRVRTDataSource><OGRVRTLayer name="points"><SrcDataSource>{}</SrcDataSource>'
    layer += "</OGRVRTLayer></OGRVRTDataSource>"
    return {
        "web": layer.format(f"/vsicurl/{url}/a.gpkg"),
        "file": layer.format(other),
        "wfs": f"<OGRWFSDataSource><URL>{url}/wfs</URL></OGRWFSDataSource>",
        "gdalg": '{"type": "gdal_streamed_alg", "command_line": "gdal vector read '
        f'/vsicurl/{url}/a.gpkg"}}',
    }


@pytest.mark.parametrize("kind", ["web", "file", "wfs", "gdalg"])
@pytest.mark.parametrize("suffix", [".gpkg", ".shp", ".geojson", ".json", ".kml", ".gml", ".vrt"])
def test_what_is_no_vector_file_of_its_name_opens_nothing(
    kind: str, suffix: str, server: tuple[str, list[str]], tmp_path: Path
) -> None:
    url, asked = server
    other = tmp_path / "secret" / "points.gpkg"
    write_features(other, [shapely.Point(1, 2)], {"label": ["a"]}, "EPSG:4326")
    path = tmp_path / "labels" / f"points{suffix}"
    path.parent.mkdir()
    path.write_text(vector_services(url, other)[kind])
    with pytest.raises(DataError) as error:
        read_features(path)
    assert str(error.value).startswith(f"{path}: ")
    assert not asked


def test_damaged_vector_files_give_one_line(tmp_path: Path) -> None:
    whole = tmp_path / "points.gpkg"
    write_features(whole, [shapely.Point(1, 2)] * 50, {"label": ["a"] * 50}, "EPSG:4326")
    content = whole.read_bytes()
    for number, cut in enumerate((20, 100, 5000, len(content) // 2, len(content) - 4096)):
        path = tmp_path / f"cut{number}.gpkg"
        path.write_bytes(content[:cut])
        with pytest.raises(DataError) as error:
            read_features(path, fields=["label"])
        assert "\n" not in str(error.value)
    for text in ("", "{", '{"type": "FeatureCollection"}', '{"type": "Feature", "geometry": 3}'):
        path = tmp_path / "points.geojson"
        path.write_text(text)
        with pytest.raises(DataError) as error:
            read_features(path, fields=["label"])
        assert "\n" not in str(error.value)
