"""Whether pixel values fit the sensor's scale, offset and data type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import DTypeLike

from geotl.arrays import Float64s
from geotl.data.findings import Finding
from geotl.data.tile_statistics import QUANTILES
from geotl.imagery.sensors import SENSORS, Sensor
from geotl.language import msg, nmsg

_LOW, _HIGH = -0.1, 1.6  # reflectance beyond which the 1st and 99th percentile cannot be right
_KELVIN = (180.0, 350.0)
_DECIBEL = (-60.0, 40.0)  # of backscatter; water is near -25, corner reflectors and towns above 0
_OFFSET_DN = 1000.0  # added to Sentinel-2's DN since processing baseline 04.00
_NEAR = (900.0, 1600.0)  # where the darkest pixels of a scene with that offset lie
_FULL = 0.05  # share of saturated pixels from which a tile is reported


def radiometry_findings(
    quantiles: Float64s, bands: Sequence[str], sensor: Sensor, dtype: DTypeLike
) -> list[Finding]:
    """Findings where the range of the values does not fit the sensor.

    Args:
        quantiles: quantiles of each band in DN [len(QUANTILES),C].
        bands: names of the sensor's bands, in order.
        sensor: the sensor stated for the DN.
        dtype: the pixels' type.
    """
    at = dict(zip(QUANTILES, quantiles, strict=True))
    constant = [b for b, low, high in zip(bands, at[0.0], at[1.0], strict=True) if low == high]
    findings = []
    if constant:
        findings.append(
            Finding(
                "wrong",
                msg("constant band"),
                msg("the same value in every pixel: {names}", names=", ".join(constant)),
                msg("leave these bands out (data.bands), or read the right files"),
            )
        )
    if len(constant) == len(bands):
        return findings
    optical = [i for i, name in enumerate(bands) if sensor.unit(name) != "kelvin"]
    thermal = [i for i, name in enumerate(bands) if sensor.unit(name) == "kelvin"]
    scaling = list(_scaling(at, optical, sensor, np.dtype(dtype)))
    findings += scaling or list(_range(at, bands, optical, sensor))
    findings += list(_range(at, bands, thermal, sensor))
    if not scaling and optical:
        findings += _offset(at, optical, sensor)
    return findings


def _scaling(
    at: dict[float, Float64s], optical: Sequence[int], sensor: Sensor, dtype: np.dtype
) -> Iterator[Finding]:
    """8-bit or reflectance values under a sensor whose DN count in ten-thousandths."""
    if not optical or sensor.scale > 1e-3 or sensor.measures == "decibel":
        return
    top = float(np.nanmax(at[1.0][list(optical)]))
    values = {"name": sensor.name, "scale": sensor.scale}
    if top <= 255 and dtype.kind in "iu":
        yield Finding(
            "wrong",
            msg("8-bit values"),
            msg(
                "no value above {top:.0f}, where sensor {name} counts reflectance in steps of "
                "{scale:g}",
                top=top,
                **values,
            ),
            _remedy_of_bytes(sensor),
        )
    elif top <= 2.0 and dtype.kind == "f":
        yield Finding(
            "wrong",
            msg("reflectance"),
            msg(
                "no value above {top:.3g}, where sensor {name} counts reflectance in steps of "
                "{scale:g}",
                top=top,
                **values,
            ),
            _remedy_of_shares(sensor),
        )


def _remedy_of_bytes(sensor: Sensor) -> str:
    """What to state of 8-bit values."""
    if sensor.name not in SENSORS:
        return msg("name the sensor that made these pictures (data.sensor=rgb for 8-bit pictures)")
    return msg(
        "name the sensor that made these pictures (data.sensor=rgb for 8-bit pictures, or "
        "{setting})",
        setting=_restated(sensor, "uint8"),
    )


def _remedy_of_shares(sensor: Sensor) -> str:
    """What to state of values that are reflectance already."""
    if sensor.name not in SENSORS:
        return msg("describe a sensor of scale 1 and offset 0 under data.custom_sensor")
    return msg(
        "describe a sensor of scale 1 and offset 0 under data.custom_sensor, or {setting}",
        setting=_restated(sensor, "float32"),
    )


def _restated(sensor: Sensor, dtype: str) -> str:
    """How a known sensor is said to hold another data type."""
    return f"data.sensor='{{base: {sensor.name}, dtype: {dtype}}}'"


def _range(
    at: dict[float, Float64s], bands: Sequence[str], which: Sequence[int], sensor: Sensor
) -> Iterator[Finding]:
    """Percentiles outside what the land surface can have."""
    for i in which:
        unit = sensor.unit(bands[i])
        low, high = (float(at[q][i] * sensor.scale + sensor.offset) for q in (0.01, 0.99))
        least, most = {"kelvin": _KELVIN, "decibel": _DECIBEL}.get(unit, (_LOW, _HIGH))
        if sensor.measures == "share" and unit != "kelvin":
            most = 1.0 + 1e-6
        if low < least or high > most:
            what = {"share": msg("share of full scale")}.get(unit, unit)
            yield Finding(
                "wrong",
                msg("range"),
                msg(
                    "{bands}: 1st to 99th percentile is {low:.3g} to {high:.3g} ({what}) by sensor "
                    "{name}, beyond {least:g} to {most:g}",
                    bands=bands[i],
                    low=low,
                    high=high,
                    what=what,
                    name=sensor.name,
                    least=least,
                    most=most,
                ),
                msg("check data.sensor, its scale and offset, and the nodata value"),
            )


def _offset(at: dict[float, Float64s], optical: Sequence[int], sensor: Sensor) -> list[Finding]:
    """Sentinel-2's offset of 1000 DN, there without being declared, or declared without being."""
    if sensor.name not in SENSORS or not sensor.name.startswith("sentinel2"):
        return []
    dark = at[0.001][list(optical)]
    plain, offset = sensor.name.removesuffix("_n0400"), f"{sensor.name}_n0400"
    if sensor.offset == 0 and len(dark) >= 3 and dark.min() >= _NEAR[0] and dark.min() <= _NEAR[1]:
        return [
            Finding(
                "doubtful",
                msg("offset"),
                msg(
                    "the darkest pixels have {min:.0f} DN or more in every band, as since "
                    "processing baseline 04.00 (January 2022), which adds 1000; the sensor named "
                    "has no such offset",
                    min=dark.min(),
                ),
                msg(
                    "if the product is of baseline 04.00 or later, data.sensor={offset}",
                    offset=offset,
                ),
            )
        ]
    darker = at[0.01][list(optical)]
    if sensor.offset < 0 and darker.min() < _OFFSET_DN - 300:
        share = darker.min() * sensor.scale + sensor.offset
        return [
            Finding(
                "doubtful",
                msg("offset"),
                msg(
                    "a hundredth of the pixels have {min:.0f} DN or less, which by sensor {name} is"
                    " a reflectance of {share:.2f}; before processing baseline 04.00 there was no "
                    "offset",
                    min=darker.min(),
                    name=sensor.name,
                    share=share,
                ),
                msg(
                    "if the product is older, or was brought back to the old scale, "
                    "data.sensor={plain}",
                    plain=plain,
                ),
            )
        ]
    return []


def saturation_finding(full: Float64s, names: Sequence[str]) -> Finding | None:
    """Tiles with many pixels at the type's largest value."""
    there = np.flatnonzero(full > _FULL)
    if not there.size:
        return None
    order = there[np.argsort(-full[there])].tolist()
    return Finding(
        "worth knowing",
        msg("saturated"),
        nmsg(
            "{n} tile has more than {full:.0%} of the pixels at the largest value of the data type",
            "{n} tiles have more than {full:.0%} of the pixels at the largest value of the "
            "data type",
            len(order),
            full=_FULL,
        ),
        msg("clouds, snow or roofs may be over-exposed; check them"),
        tuple(names[i] for i in order),
    )
