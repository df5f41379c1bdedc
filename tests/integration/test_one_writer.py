"""Of two processes that write one output the second says who writes, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.commands import commands, made_inputs
from helpers.processes import python

from geotl.cli.main import main

HOLD = """
import contextlib, sys, time
from pathlib import Path
from geotl.io.locks import output_lock
with contextlib.ExitStack() as held:
    for name in sys.argv[1:]:
        held.enter_context(output_lock(Path(name)))
    print("held", flush=True)
    time.sleep(600)
"""
NAMES = tuple(commands(Path()))
FILE = {  # what is locked below the output
    "lecture": "lecture/residual_identity.json",
    "label": "project/labels.gpkg",
}


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A folder with inputs and locked outputs, and the number of the process that holds them."""
    folder = tmp_path_factory.mktemp("inputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOTL_CACHE", str(folder / "cache"))
        assert made_inputs(folder) == 0
        every = commands(folder)
        outputs = [folder / name / FILE.get(name, every[name].name) for name in NAMES]
        child = python(["-c", HOLD, *map(str, outputs)])
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        yield folder, child.pid
        child.kill()
        child.communicate()


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", NAMES)
def test_a_second_writer_is_refused_with_the_number_of_the_first(
    held: tuple[Path, int], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder, pid = held
    before = {path for path in (folder / name).rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(commands(folder)[name].into(folder / name)) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f": process {pid} on " in told
    assert {path for path in (folder / name).rglob("*") if path.is_file()} == before
