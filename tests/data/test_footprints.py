"""Footprints in metres, what shares ground, and how near tiles lie to each other."""

from __future__ import annotations

import numpy as np
import pytest
from pyproj import Geod, Transformer

from geotl.data.footprints import in_metres, locate, near, need_positions
from geotl.errors import DataError

UTM33 = "EPSG:32633"


def test_a_projected_system_in_metres_is_kept_as_it_is() -> None:
    boxes = [(500000.0, 4600000.0, 500640.0, 4600640.0), (501000.0, 4600000.0, 501640.0, 4600640.0)]
    np.testing.assert_array_equal(in_metres(boxes, [UTM33] * 2), boxes)


def test_feet_become_metres() -> None:
    box = (980000.0, 190000.0, 981000.0, 191000.0)  # New York, US survey feet
    np.testing.assert_allclose(in_metres([box], ["EPSG:2263"])[0], np.array(box) * 1200 / 3937)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857"])
def test_degrees_and_mercators_stretched_metres_become_ground_metres(crs: str) -> None:
    places = [(13.0, 52.5), (13.1, 52.55), (13.2, 52.45)]
    to = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    boxes = [to.transform(*place) * 2 for place in places]
    found = in_metres(boxes, [crs] * 3)[:, :2]
    for a in range(3):
        for b in range(a):
            *_, true_m = Geod(ellps="WGS84").inv(*places[a], *places[b])
            assert np.hypot(*(found[a] - found[b])) == pytest.approx(true_m, rel=1e-4)


def test_two_zones_lie_in_one_plane() -> None:
    """One spot at 15 E as zones 32 and 33 give it, and another 2 km away."""
    spots = []
    for crs in ("EPSG:32632", UTM33):
        x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(12.0, 50.0)
        spots.append((x - 100, y - 100, x + 100, y + 100))
    away = tuple(v + 2000 * (i % 2) for i, v in enumerate(spots[1]))
    layout = locate([*spots, away], ["EPSG:32632", UTM33, UTM33])
    assert layout.shared.tolist() == [[0, 1]]
    np.testing.assert_allclose(layout.centres[0], layout.centres[1], atol=0.01)
    assert np.hypot(*(layout.centres[2] - layout.centres[1])) == pytest.approx(2000, rel=2e-3)


def test_the_date_line_divides_nothing() -> None:
    found = in_metres([(179.99, 0, 179.99, 0), (-179.99, 0, -179.99, 0)], ["EPSG:4326"] * 2)
    assert np.hypot(*(found[0] - found[1])[:2]) == pytest.approx(0.02 * 111319.5, rel=1e-3)


@pytest.mark.parametrize("crs", [UTM33, "EPSG:4326"])
def test_neighbours_that_only_touch_share_no_ground(crs: str) -> None:
    step = 0.1
    boxes = [
        (9 + i * step, 45 + j * step, 9 + (i + 1) * step, 45 + (j + 1) * step)
        for i in range(4)
        for j in range(4)
    ]
    assert not len(locate(boxes, [crs] * 16).shared)
    wider = [(a - 0.001, b, c, d) for a, b, c, d in boxes[:1]] + boxes[1:]
    grown = [(a, b, c + 0.001, d) for a, b, c, d in boxes]
    assert not len(locate(wider, [crs] * 16).shared)  # grown to the outside
    assert len(locate(grown, [crs] * 16).shared) == 12


def test_points_share_ground_with_what_they_lie_on() -> None:
    boxes = [(5.0, 5.0, 5.0, 5.0), (0.0, 0.0, 10.0, 10.0), (5.0, 5.0, 5.0, 5.0), (20, 20, 20, 20)]
    assert locate(boxes, [UTM33] * 4).shared.tolist() == [[0, 1], [0, 2], [1, 2]]


def test_distances_go_from_edge_to_edge() -> None:
    layout = locate([(0, 0, 10, 10), (13, 14, 20, 20), None], [UTM33, UTM33, None])
    rows, other = np.array([0, 2]), np.array([1])
    assert near(layout, rows, other, 5.0).tolist() == [False, False]  # exactly 5 m
    assert near(layout, rows, other, 5.1).tolist() == [True, False]
    assert near(layout, rows, other, 0.0).tolist() == [False, False]


def test_unknown_positions_and_systems_are_one_clear_line() -> None:
    layout = locate([(0, 0, 1, 1), None, (0, 0, 1, 1)], [UTM33, None, None])
    with pytest.raises(DataError, match=r"2 of 3 tiles have no known position \(such as b\)"):
        need_positions(layout, ["a", "b", "c"])
    with pytest.raises(DataError, match="'EPSG:99' is not known; give one such as"):
        in_metres([(0, 0, 1, 1)], ["EPSG:99"])
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    np.testing.assert_array_equal(in_metres([(0, 0, 1, 1)], [local]), [[0, 0, 1, 1]])
    with pytest.raises(DataError, match="cannot be converted to others"):
        in_metres([(0, 0, 1, 1)] * 2, [local, UTM33])
