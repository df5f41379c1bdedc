"""Few test tiles and few labels of a class are said in a line, with numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.runs import made_tiles, run

from geotl.data.splits import k_shot
from geotl.errors import DataError


def test_too_many_shots_name_the_smallest_class() -> None:
    labels = np.repeat([0, 1, 2], [7, 3, 5])
    with pytest.raises(DataError, match="class 'bog' has 3 different tiles, fewer than 8 shots"):
        k_shot(labels, 8, seed=0, names=["ash", "bog", "fen"])
    with pytest.raises(DataError, match=r"and 1 more have too few; lower split.shots to 3 "):
        k_shot(labels, 6, seed=0, names=["ash", "bog", "fen"])
    assert len(k_shot(labels, 3, seed=0).train) == 9


def test_a_run_says_how_many_test_tiles_there_are_and_warns_of_few(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run(made_tiles(tmp_path / "tiles", 6), tmp_path / "run", "strategy=probe", options=()) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    place = lines.index("12 training tiles, 6 test tiles")
    assert lines[place + 1] == (
        "warning: few test tiles (of field 2, town 2, water 2); accuracy on 6 is uncertain by up "
        "to 41 points"
    )
    again = run(tmp_path / "tiles", tmp_path / "run", "strategy=probe", "seed=3", options=())
    assert again == 2
    told = capsys.readouterr().err
    assert "choose a new folder with -o, or continue that run with --resume" in told
