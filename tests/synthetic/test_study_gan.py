"""Generated tiles in a study: who a fold's generator learns from; a recommendation runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.experiments import opened as open_quietly
from helpers.experiments import quietly
from helpers.runs import SMALL, made_tiles

from geotl.cli.main import main
from geotl.experiments.draws import Draw
from geotl.experiments.recipe import load
from geotl.experiments.samples import TileSamples
from geotl.studies.study import final_test
from geotl.studies.study_fits import Candidate, Fits, Found, labelled_samples, make_part
from geotl.studies.study_report import recommended_yaml
from geotl.studies.study_techniques import (
    AS_IT_IS,
    MADE_TILES,
    TRAINED,
    changed,
    pair,
    trained_start,
)
from geotl.synthetic import study
from geotl.synthetic.trial import SyntheticTiles

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "unrendered")

FEW = [*SMALL, "probe.views=1", "split.shots=4", "split.inner_folds=2", "train.epochs=1"]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A small study's tiles, and a list of the draws that generators learnt from."""
    tiles = made_tiles(tmp_path / "tiles")
    given = load(None, [f"data.root={tiles}", *FEW])
    experiment = open_quietly(given, tmp_path / "study")
    settled, source, draw = experiment.recipe, experiment.samples, experiment.draw(0)
    labelled = labelled_samples(source, draw.split.train, tmp_path / "packs")
    learnt: list[Draw] = []
    real = study.make_tiles

    def noted(source: TileSamples, draw: Draw, *args: Any, **kwargs: Any) -> SyntheticTiles:
        learnt.append(draw)
        return real(source, draw, *args, **kwargs)

    monkeypatch.setattr(study, "make_tiles", noted)
    monkeypatch.setattr(study, "STEPS", 3)
    return SimpleNamespace(
        tiles=tiles,
        given=given,
        settled=settled,
        experiment=experiment,
        source=source,
        draw=draw,
        labelled=labelled,
        learnt=learnt,
    )


def test_a_folds_generator_learns_from_the_folds_own_tiles_and_serves_both_starts(
    opened: SimpleNamespace, tmp_path: Path
) -> None:
    fits = Fits(opened.labelled, tmp_path / "trials", study.Generators())
    for number in range(2):
        part = make_part(opened.settled, opened.labelled, number)
        for base in (opened.settled, trained_start(opened.given)):
            off, on = pair(base, MADE_TILES)
            assert off == base
            told = [fits.errors(side, part) for side in (off, on)]
            assert {(one.learnt, one.held) for one in told} == {
                (len(part.draw.split.train), len(part.draw.split.test))
            }  # of real tiles alone
        assert len(opened.learnt) == number + 1
        np.testing.assert_array_equal(opened.learnt[-1].split.train, part.draw.split.train)


def test_generated_tiles_join_those_learnt_from_and_are_never_held_out(
    opened: SimpleNamespace, tmp_path: Path
) -> None:
    part = make_part(opened.settled, opened.labelled, 0)
    _, on = pair(opened.settled, MADE_TILES)
    own = study.Generators().join(quietly(on, opened.labelled, tmp_path), part.draw)
    index, split = own.experiment.samples.index, own.draw.split
    classes = len(index.classes)
    made = [row for row, tile in enumerate(index.tiles) if tile.sources is not None]
    assert len(made) == 20 * classes
    assert set(made) == set(split.train) - set(own.real)
    assert not set(made) & set(split.test)
    contents = [opened.labelled.index.contents[row] for row in part.draw.split.train]
    assert set(index.tiles[made[0]].sources or ()) == set(contents)
    assert own.experiment.recipe.data.synthetic is None


def test_a_recommended_recipe_with_generated_tiles_runs_to_the_same_accuracy(
    opened: SimpleNamespace, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    _, on = pair(opened.settled, MADE_TILES)
    bases = {AS_IT_IS: opened.settled, TRAINED: trained_start(opened.given)}
    found = Found(opened.settled, bases, recommended=Candidate("with what helped", on))
    verdict = final_test(found, opened.experiment, opened.draw, study.Generators())
    assert len(opened.learnt) == 1
    np.testing.assert_array_equal(opened.learnt[0].split.train, opened.draw.split.train)
    assert found.recommended is not None
    path = tmp_path / "recommended.yaml"
    path.write_text(recommended_yaml(replace(found, verdict=verdict), path))
    assert f"synthetic: {out / 'synthetic'}" in path.read_text()
    assert main(["run", str(path), "--output", str(tmp_path / "run"), "-q"]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["overall_accuracy"]["value"] == pytest.approx(verdict.recommended.value)


def test_the_study_tells_of_it_and_refuses_tiles_that_were_made_before(
    opened: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text("title: small\n")
    settings = [f"data.root={opened.tiles}", *FEW]
    options = ["--seeds", "3", "--only", "gan_tiles", "--output", str(tmp_path / "study"), "-q"]
    assert main(["study", str(recipe), *settings, *options]) == 0
    rows = json.loads((tmp_path / "study" / "study.json").read_text())["rows"]
    assert [row["start"] for row in rows] == [AS_IT_IS, TRAINED]
    assert all(row["folds"] == 3 and not row["refused"] for row in rows)
    capsys.readouterr()
    made = changed(opened.settled, {"data.synthetic": "somewhere"}).data.synthetic
    assert main(["study", str(recipe), *settings, f"data.synthetic={made}", "split.repeats=1"]) == 2
    assert "see the result of gan_tiles" in capsys.readouterr().err
