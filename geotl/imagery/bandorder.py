"""Where the bands wanted stand in a file of several, by what the file and the user say."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from geotl.errors import BandError, MissingBandError
from geotl.imagery.sensors import Sensor, known_band, match_bands
from geotl.io.raster import Raster, RasterInfo


def band_positions(
    image: Raster | RasterInfo,
    sensor: Sensor,
    bands: Sequence[str],
    file_bands: Sequence[str] | None,
) -> tuple[int, ...]:
    """Positions of the bands in a file.

    The file's own descriptions come first if the sensor knows some of them and none is there
    twice, then the order the user gave, then colours and the sensor's own order.
    """
    described = image.names_from == "descriptions"
    order = tuple(file_bands) if file_bands else None
    try:
        return _matched(sensor, image.band_names, described, tuple(bands), order)
    except MissingBandError as error:
        raise MissingBandError(f"{image.path}: {error}", error.bands, image.path) from error
    except BandError as error:
        raise BandError(f"{image.path}: {error}") from error


@functools.lru_cache(maxsize=256)  # thousands of tiles name their bands alike
def _matched(
    sensor: Sensor,
    own: tuple[str | None, ...],
    described: bool,
    bands: tuple[str, ...],
    file_bands: tuple[str, ...] | None,
) -> tuple[int, ...]:
    known = [found for name in own if name and (found := known_band(sensor, name))]
    told = described and 0 < len(known) == len(set(known))
    if file_bands is None or told:
        return match_bands(sensor, own if described else _completed(sensor, own), bands)
    if len(file_bands) != len(own):
        raise BandError(
            f"holds {len(own)} bands, but data.file_bands names {len(file_bands)}; name every "
            "band of the file in its order"
        )
    return match_bands(sensor, file_bands, bands)


def _completed(sensor: Sensor, colours: tuple[str | None, ...]) -> tuple[str | None, ...]:
    """A file's colours, or the sensor's stated order where that only adds to what they say.

    >>> from geotl.imagery.sensors import SENSORS
    >>> _completed(SENSORS["naip"], ("red", "green", "blue", None))
    ('red', 'green', 'blue', 'nir')
    >>> _completed(SENSORS["naip"], ("blue", "green", "red", None))
    ('blue', 'green', 'red', None)
    """
    order = sensor.file_order
    if len(order) != len(colours):
        return colours
    known = [(known_band(sensor, c), o) for c, o in zip(colours, order, strict=True) if c]
    agree = all(colour in (None, known_band(sensor, stated)) for colour, stated in known)
    return order if agree else colours
