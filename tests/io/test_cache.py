"""`geotl cache` shows, checks and prunes; what a process makes is left alone."""

from __future__ import annotations

import os

import pytest

from geotl.cli.main import main
from geotl.io.cache import DAY_S, entries
from geotl.io.cache_entries import CHECKSUMS, kept


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of two entries, of 1,000 and 3,000 bytes and some; the first unused for ten days."""
    monkeypatch.setenv("GEOTL_CACHE", str(tmp_path))
    for number, kind in enumerate(["packs", "features"]):
        kept(tmp_path / kind / kind, lambda part, n=number: filled(part, 1000 + 2000 * n))
    marks = tmp_path / "packs" / "packs" / CHECKSUMS
    then = marks.stat().st_mtime - 10 * DAY_S
    os.utime(marks, (then, then))
    return tmp_path


def filled(part, size):
    (part / "a.bin").write_bytes(bytes(size))


def test_size_by_kind(cache, capsys):
    assert main(["cache"]) == 0
    first, *kinds = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{cache}: 4.")
    assert [line.split(",")[0] for line in kinds] == [
        "  packed tiles: 1",
        "  features of frozen networks: 1",
    ]


def test_check_takes_away_what_is_damaged(cache, capsys):
    assert main(["cache", "check"]) == 0
    assert "2 entries" in capsys.readouterr().out
    path = cache / "packs" / "packs" / "a.bin"
    path.write_bytes(b"\1" + path.read_bytes()[1:])
    (cache / "features" / "features-old.npy").write_bytes(b"of an earlier version")
    assert main(["cache", "check"]) == 1
    said = capsys.readouterr()
    assert said.out.count("taken away") == 2
    assert "a.bin is damaged" in said.out
    assert said.err == (
        "geotl: 2 of 3 entries were not as written; the next run makes them again\n"
    )
    assert main(["cache", "check"]) == 0


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--older-than", "5"], ["features"]),
        (["--older-than", "20"], ["packs", "features"]),
        (["--max-size", "0.000004"], ["features"]),
        (["--max-size", "0"], []),
        (["--max-size", "0", "--dry-run"], ["packs", "features"]),
    ],
)
def test_prune_by_age_and_size(cache, options, left):
    assert main(["cache", "prune", *options]) == 0
    assert [entry.kind for entry in entries(cache)] == left


@pytest.mark.parametrize("options", [[], ["--max-size", "-1"], ["--older-than", "nan"]])
def test_prune_without_a_bound_is_refused(cache, options, capsys):
    assert main(["cache", "prune", *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert len(entries(cache)) == 2


def test_opening_an_entry_counts_as_use(cache):
    kept(cache / "packs" / "packs", lambda part: pytest.fail("made again"))
    assert entries(cache)[0].kind == "features"


def test_no_cache_is_no_fault(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GEOTL_CACHE", str(tmp_path / "none"))
    for words in (["cache"], ["cache", "check"], ["cache", "prune", "--max-size", "1"]):
        assert main(words) == 0
    assert not (tmp_path / "none").exists()
