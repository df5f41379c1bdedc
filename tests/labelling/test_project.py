"""A project on the disk: journal, labels.gpkg, kills, full disks, other programs."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import geopandas
import pandas
import pytest
import shapely
from helpers.full_disk import full_disk
from helpers.label_sessions import GRID, POINT, SQUARE, opened

from geotl.errors import DataError, OutputError
from geotl.labelling.choices import Choices
from geotl.labelling.folder import (
    ProjectRecord,
    address_shown,
    alone_in,
    check_scene,
    read_record,
    write_record,
)
from geotl.labelling.journal import Journal
from geotl.labelling.project import Project, StaleError

WATER = {"op": "add_class", "name": "water"}
ADD = {"op": "add", "class": 1, "geometry": POINT}
AREA = {"op": "add", "class": 1, "geometry": SQUARE}


def change(project: Project, *changes: object) -> None:
    project.change([*changes], project.snapshot().labels.revision)


def table(folder: Path) -> geopandas.GeoDataFrame:
    return geopandas.read_file(folder / "labels.gpkg", layer="labels")


def ids(project: Project) -> list[int]:
    return [one.id for one in project.snapshot().labels.labels]


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A closed project with a class and labels 1 (a point), 2 (an area) and 3 (a point)."""
    with opened(tmp_path / "p") as project:
        change(project, WATER, ADD)
        change(project, AREA)
        change(project, ADD)
    return tmp_path / "p"


def test_labels_are_written_in_the_scenes_reference_system(three: Path) -> None:
    there = table(three)
    assert str(there.crs) == "EPSG:32633"
    assert [*there["id"]] == [1, 2, 3]
    assert {*there["class"]} == {"water"}
    assert there.geometry[0] == shapely.Point(500035, 4599977.5)
    assert there.geometry[1].bounds == (500010, 4599950, 500050, 4599990)
    classes = json.loads((three / "classes.json").read_text())
    assert classes == [{"id": 1, "name": "water", "colour": "#1f6fc4"}]


def test_labels_are_in_the_file_within_a_second(tmp_path: Path) -> None:
    with opened(tmp_path) as project:
        change(project, WATER)
        begun = time.monotonic()
        change(project, ADD)
        while not (tmp_path / "labels.gpkg").exists() or len(table(tmp_path)) < 1:
            assert time.monotonic() - begun < 1.0
            time.sleep(0.02)


def test_a_project_goes_on_with_labels_undo_and_redo(three: Path) -> None:
    with opened(three) as project:
        project.undo(project.snapshot().labels.revision)
        project.undo(project.snapshot().labels.revision)
        assert ids(project) == [1]
    with opened(three) as project:
        now = project.snapshot()
        assert (ids(project), now.undo, now.redo) == ([1], True, True)
        project.redo(now.labels.revision)
        assert ids(project) == [1, 2]
        change(project, ADD)
        assert ids(project) == [1, 2, 4]  # 3 was given before
        with pytest.raises(DataError, match="nothing to make again"):
            project.redo(project.snapshot().labels.revision)


def test_a_change_of_old_labels_is_refused(three: Path) -> None:
    with opened(three) as project:
        before = (three / "history.jsonl").read_bytes()
        for stale in (2, 4, -1):
            with pytest.raises(StaleError, match="another tab"):
                project.change([ADD], stale)
            with pytest.raises(StaleError):
                project.undo(stale)
        assert (three / "history.jsonl").read_bytes() == before


def test_of_several_changes_all_are_made_or_none(three: Path) -> None:
    with opened(three) as project:
        with pytest.raises(DataError, match="no label 9"):
            project.change([ADD, {"op": "delete", "id": 9}], 3)
        assert ids(project) == [1, 2, 3]


def test_a_change_that_changes_nothing_makes_no_revision(three: Path) -> None:
    with opened(three) as project:
        change(project, {"op": "move", "id": 1, "geometry": POINT})
        change(project, {"op": "reclass", "id": 1, "class": 1})
        assert project.snapshot().labels.revision == 3


def test_threads_lose_no_change(tmp_path: Path) -> None:
    with opened(tmp_path) as project:
        change(project, WATER)
        made = threading.Semaphore(0)

        def work() -> None:
            for _ in range(10):
                while True:
                    try:
                        change(project, ADD)
                        break
                    except StaleError:
                        continue
            made.release()

        for _ in range(4):
            threading.Thread(target=work).start()
        for _ in range(4):
            assert made.acquire(timeout=30)
        assert len(ids(project)) == 40
    with opened(tmp_path) as project:
        assert len(ids(project)) == 40


@pytest.mark.parametrize(
    "torn", [b"{", b'{"revision":5,"kind":"ch', b"\x00\x00\x00", b"{\n", b"\n"]
)
def test_a_torn_last_line_is_dropped(three: Path, torn: bytes) -> None:
    journal = three / "history.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole + torn)
    with opened(three) as project:
        assert ids(project) == [1, 2, 3]
        assert journal.read_bytes().startswith(whole)
        change(project, ADD)
    with opened(three) as project:
        assert ids(project) == [1, 2, 3, 4]


def test_any_end_of_the_journal_is_a_moment_of_the_project(three: Path) -> None:
    """A kill of the machine may leave any beginning of the file."""
    whole = (three / "history.jsonl").read_bytes()
    for end in range(0, len(whole), 37):
        place = three.parent / f"cut{end}"
        place.mkdir()
        (place / "history.jsonl").write_bytes(whole[:end])
        with opened(place) as project:
            assert ids(project) == [1, 2, 3][: len(ids(project))]
        assert [*table(place)["id"]] == [1, 2, 3][: len(table(place))]


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[]",
        b"3",
        b'{"revision":9,"kind":"change","labels":[],"classes":[]}',
        b'{"revision":4,"kind":"undone","labels":[],"classes":[]}',
        b'{"revision":4,"kind":"redo","labels":[],"classes":[]}',
        b'{"revision":4,"kind":"change","labels":[[1,2]],"classes":[]}',
        b'{"written":[1]}',
    ],
)
def test_a_damaged_journal_is_refused_with_a_remedy(three: Path, line: bytes) -> None:
    journal = three / "history.jsonl"
    journal.write_bytes(journal.read_bytes() + line + b"\n" + b'{"written":[3,"a",null]}\n')
    with pytest.raises(DataError, match=r"history\.jsonl.*move the file"), opened(three):
        pass
    journal.rename(three.parent / "elsewhere")
    with opened(three) as project:
        assert len(ids(project)) == 3
        assert project.snapshot().labels.classes[0].colour == "#1f6fc4"


def test_a_kill_before_the_file_is_written_loses_nothing(three: Path) -> None:
    """The journal is newer than labels.gpkg, which is no change of another program."""
    old = (three / "labels.gpkg").read_bytes()
    with opened(three) as project:
        change(project, ADD)
    journal = three / "history.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    for kept in (lines[:-1], lines):  # the last one says what was about to be written
        journal.write_bytes(b"".join(kept))
        (three / "labels.gpkg").write_bytes(old)
        with opened(three) as project:
            assert ids(project) == [1, 2, 3, 4]
            assert project.snapshot().labels.revision == 4
        assert len(table(three)) == 4


def test_a_file_that_is_up_to_date_is_not_written_again(three: Path) -> None:
    before = (three / "labels.gpkg").stat()
    with opened(three):
        pass
    after = (three / "labels.gpkg").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_missing_file_is_made_from_the_journal(three: Path) -> None:
    (three / "labels.gpkg").unlink()
    with opened(three) as project:
        assert ids(project) == [1, 2, 3]
    assert [*table(three)["id"]] == [1, 2, 3]


def test_a_full_disk_refuses_a_change_and_loses_nothing(three: Path) -> None:
    with opened(three) as project:
        size = (three / "history.jsonl").stat().st_size
        with full_disk(size + 20), pytest.raises(OutputError, match="free some space") as refused:
            project.change([ADD], 3)
        assert "\n" not in str(refused.value)
        assert ids(project) == [1, 2, 3]
        assert (three / "history.jsonl").stat().st_size == size
        change(project, ADD)
    with opened(three) as project:
        assert ids(project) == [1, 2, 3, 4]


def test_a_file_that_cannot_be_written_is_written_later(three: Path) -> None:
    """The page gets a line, and another when it works again; the journal has the change."""
    lines: list[str] = []
    failed, works = threading.Event(), threading.Event()

    def noted(line: str) -> None:
        lines.append(line)
        (failed if line else works).set()

    with opened(three) as project:
        project.flush()
        project.on_problem = noted
        with full_disk(60_000):  # labels.gpkg has more
            change(project, ADD)
            assert failed.wait(10)
        assert works.wait(10)
        assert len(table(three)) == 4
    assert "labels.gpkg: could not be written" in lines[0]
    assert lines[-1] == ""


def edited(folder: Path, edit) -> None:
    """labels.gpkg as another program leaves it."""
    there = edit(table(folder))
    there.to_file(folder / "labels.gpkg", layer="labels", driver="GPKG", mode="w")


def test_a_file_changed_outside_is_one_change_that_can_be_undone(three: Path) -> None:
    def edit(there):
        there.loc[0, "class"] = "lake"
        there.loc[2, "geometry"] = shapely.Point(500045, 4599945)
        new = {"id": [None], "class": ["reed"], "geometry": [shapely.Point(500105, 4599905)]}
        more = geopandas.GeoDataFrame(new, crs=there.crs)
        return pandas.concat([there.drop(index=1), more])

    with opened(three) as project:
        areas = project.snapshot().labels
    edited(three, edit)
    with opened(three) as project:
        now = project.snapshot().labels
        names = {one.id: now.class_names[one.class_id] for one in now.labels}
        assert names == {1: "lake", 3: "water", 4: "reed"}
        assert now.labels[0].geometry == areas.labels[0].geometry
        assert now.labels[1].geometry.equals_exact(shapely.Point(4.5, 5.5), 1e-6)
        assert now.revision == areas.revision + 1
        undone = project.undo(now.revision).labels
        assert (undone.labels, undone.classes) == (areas.labels, areas.classes)
    with opened(three) as project:
        assert project.snapshot().labels.labels == areas.labels
    assert not (three / "labels_outside.gpkg").exists()


def test_a_file_rewritten_outside_without_change_is_none(three: Path) -> None:
    edited(three, lambda there: there)
    with opened(three) as project:
        assert project.snapshot().labels.revision == 3


def test_what_cannot_be_taken_from_outside_is_kept(
    three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def edit(there):
        line = shapely.LineString([(500000, 4599990), (500010, 4599990)])
        far = shapely.Point(0, 0)
        more = {
            "id": [8, 9],
            "class": ["water", "water"],
            "geometry": [line, far],
            "by": ["x", "y"],
        }
        return pandas.concat([there, geopandas.GeoDataFrame(more, crs=there.crs)])

    edited(three, edit)
    with opened(three) as project:
        assert ids(project) == [1, 2, 3]
    said = capsys.readouterr().out
    assert "feature 8: a LineString" in said
    assert "feature 9: it lies outside the scene" in said
    kept = geopandas.read_file(three / "labels_outside.gpkg")
    assert {8, 9} <= {*kept["id"]}
    assert "by" in kept


def test_a_file_changed_while_the_project_is_open_is_kept(three: Path) -> None:
    with opened(three) as project:
        edited(three, lambda there: there.head(1))
        change(project, ADD)
        project.flush()
        assert len(table(three)) == 4
    assert len(geopandas.read_file(three / "labels_outside.gpkg")) == 1


def test_a_file_that_another_program_is_changing_is_left_alone(three: Path) -> None:
    pending = three / "labels.gpkg-wal"
    with opened(three) as project:
        project.flush()
        before = (three / "labels.gpkg").read_bytes()
        pending.write_bytes(b"x")
        change(project, ADD)
        with pytest.raises(OutputError, match="close it there"):
            project.flush()
        assert (three / "labels.gpkg").read_bytes() == before
        pending.unlink()
    assert len(table(three)) == 4


def test_a_damaged_file_is_refused_in_one_line(three: Path) -> None:
    (three / "labels.gpkg").write_bytes(b"no GeoPackage")
    with pytest.raises(DataError, match=r"labels\.gpkg") as refused, opened(three):
        pass
    assert "\n" not in str(refused.value)


RECORD = ProjectRecord("/data/a/scene.tif", GRID, Choices("sentinel2_l2a", ("B02",), None, "none"))


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    assert read_record(folder) is None
    write_record(folder, RECORD)
    assert read_record(folder) == RECORD


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"version": 1, "grid": 3}', '{"version": 9}'])
def test_a_damaged_record_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "project.json").write_text(text)
    with pytest.raises(DataError, match=r"project\.json") as refused:
        read_record(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_project_belongs_to_one_scene_which_may_move(tmp_path: Path) -> None:
    check_scene(tmp_path, RECORD, Path("/data/b/scene.tif"), GRID)
    with pytest.raises(DataError, match="another scene"):
        check_scene(tmp_path, RECORD, Path("/data/a/other.tif"), GRID)
    other = type(GRID)(GRID.crs, GRID.transform, 10, 10)
    with pytest.raises(DataError, match="another scene"):
        check_scene(tmp_path, RECORD, Path("/data/a/scene.tif"), other)


def test_a_folder_of_other_things_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "labels.gpkg").write_bytes(b"somebody's work")
    with pytest.raises(OutputError, match="holds other files"):
        read_record(tmp_path)
    with pytest.raises(OutputError, match="a file"):
        read_record(tmp_path / "labels.gpkg")


@pytest.mark.parametrize(
    "name", ["labels.gpkg", "history.jsonl", "classes.json", "open.html", "run", "features"]
)
def test_a_link_out_of_the_project_is_refused(three: Path, name: str) -> None:
    """A folder from elsewhere must not make geotl write over other files."""
    write_record(three, RECORD)
    victim = three.parent / "victim"
    victim.write_text("untouched")
    (three / name).unlink(missing_ok=True)
    (three / name).symlink_to(victim)
    with pytest.raises(OutputError, match="a link"):
        read_record(three)
    assert victim.read_text() == "untouched"


def test_the_journal_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("")
    (tmp_path / "history.jsonl").symlink_to(tmp_path / "victim")
    with pytest.raises(OutputError):
        Journal(tmp_path / "history.jsonl")


def test_an_open_project_says_where_it_listens(tmp_path: Path) -> None:
    folder, address = tmp_path / "p", "http://127.0.0.1:4711/some-token_/"
    with alone_in(folder), address_shown(folder, address) as page:
        assert page.stat().st_mode & 0o777 == 0o600
        with pytest.raises(OutputError, match=address), alone_in(folder):
            pass
    assert not page.exists()
    with alone_in(folder):
        pass


def test_a_project_that_is_open_on_another_machine_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "http://127.0.0.1:4711/some-token_/"
    with alone_in(tmp_path), address_shown(tmp_path, address):
        monkeypatch.setattr("platform.node", lambda: "another")
        with pytest.raises(OutputError, match=rf"{address} on \S+, or end"), alone_in(tmp_path):
            pass


def test_the_address_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "open.html").symlink_to(tmp_path / "victim")
    with address_shown(tmp_path, "http://127.0.0.1:1/t/"):
        assert (tmp_path / "victim").read_text() == "untouched"


def test_classes_given_twice_are_there_once(three: Path) -> None:
    with opened(three) as project:
        project.add_classes([("Water", None), ("reed", "#010203")])
        project.add_classes([("reed", None)])
        names = [(c.name, c.colour) for c in project.snapshot().labels.classes]
        assert names == [("water", "#1f6fc4"), ("reed", "#010203")]


def test_a_copy_of_a_project_goes_on_by_itself(three: Path) -> None:
    copy = three.parent / "copy"
    shutil.copytree(three, copy)
    with opened(three) as one, opened(copy) as other:
        change(one, ADD)
        assert ids(other) == [1, 2, 3]
