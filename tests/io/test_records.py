"""Records of finished work tell of damage; those of earlier versions are read as they are."""

from __future__ import annotations

import json
import random
from pathlib import Path

from geotl.io.records import finished_record, read_record, write_record

MADE = {"format": 1, "share": 0.1 + 0.2, "none": None, "rows": [1, 2.5]}


def fits(record: dict) -> bool:
    return record.keys() == MADE.keys()


def test_every_damage_is_found_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_record(path, MADE)
    whole, draw, told = path.read_bytes(), random.Random(3), []
    for _ in range(400):
        content = bytearray(whole)
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content[: draw.choice((len(content), draw.randrange(len(content))))])
        found = finished_record(path, fits, log=told.append)
        assert found in (None, MADE)
        assert path.exists() == (found is not None)
    assert len(told) > 300
    assert told[0] == f"{path}: is damaged; what it holds is computed again"


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert finished_record(path, fits) is None
    write_record(path, MADE)
    assert read_record(path) == MADE == finished_record(path, fits)


def test_one_without_a_checksum_is_as_earlier_versions_wrote_it(tmp_path: Path) -> None:
    path, told = tmp_path / "a.json", []
    path.write_text(json.dumps(MADE))
    assert finished_record(path, fits, log=told.append) == MADE
    path.write_text(json.dumps({**MADE, "checksun": "01234567"}))
    assert finished_record(path, fits, log=told.append) is None
    assert len(told) == 1
