"""What a study says, in every case, in French too: no sentence is English there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from helpers.french import not_french, strict_french

from geotl.evaluation.metrics import Interval
from geotl.experiments.recipe import load
from geotl.language import msg, translated
from geotl.studies import study_techniques
from geotl.studies.study import AS_GIVEN, combined
from geotl.studies.study_effects import Effect, Errors, Word
from geotl.studies.study_fits import Candidate, FinalTest, Found, TrialRow
from geotl.studies.study_report import effects_figure, recommended_yaml, study_md, write_study
from geotl.studies.study_techniques import AS_IT_IS, TRAINED
from geotl.studies.study_words import WORDS, base_line, found_lines, plan_lines

PROBE = load(None, ["model.weights=w.pth", "split.shots=10", "strategy=probe"])
GIVEN = load(None, ["model.weights=w.pth", "split.shots=10"])
BASE = study_techniques.trained_start(GIVEN)
TRAINING = study_techniques.training_trials(GIVEN, BASE, folded=False)
PROBING = study_techniques.probe_trials(PROBE, 64, folded=False)


def errors(training: float) -> Errors:
    return Errors(training, training + 0.25, 80, 20, 2.5)


def effect_of(change: float, parts: int = 6, training: float = 0.0) -> Effect:
    ends = Interval(change, change - 0.01, change + 0.01)
    fits = Interval(training, training - 0.01, training + 0.01)
    return Effect(parts, ends, fits, 0.01, 0.01, errors(0.02), errors(0.02))


@pytest.fixture
def found() -> Found:
    """A study with a row of every word, candidates, a recommendation and a final test."""
    effects = (effect_of(-0.05), effect_of(-0.05, training=-0.1), effect_of(0.005))
    effects += (effect_of(0.05), effect_of(-0.05, parts=2))
    rows = [TrialRow(TRAINED, one, two) for one, two in zip(TRAINING, effects, strict=False)]
    rows += [TrialRow(AS_IT_IS, PROBING[0]), TrialRow(AS_IT_IS, PROBING[1], refused="x.tif: 8 px")]
    made = Found(
        PROBE.model_copy(update={"name": "essai"}),
        {AS_IT_IS: PROBE, TRAINED: BASE},
        (16, 4, 20),
        6,
        rows,
        {AS_IT_IS: errors(0.02), TRAINED: errors(0.02)},
        study_techniques.not_for_a_probe(PROBE),
        finished=False,
        seconds=7.25,
    )
    made.candidates = [
        Candidate(AS_GIVEN, PROBE, errors=errors(0.0)),
        *combined(made, TRAINED, msg("fine-tuned")),
    ]
    return made


def said(study: Found) -> str:
    """Everything that a study prints and writes for people."""
    lines = [*plan_lines(study, 12), *found_lines(study, Path("out")), study_md(study)]
    return "\n".join(map(str, lines))


def variants(study: Found) -> Iterator[Found]:
    """Studies that end in every way there is."""
    against = replace(study.candidates[1], errors=errors(0.0), against=effect_of(-0.05))
    yield study
    for ends in ((-0.1, -0.2, -0.05), (0.01, -0.1, 0.1), (0.0, 0.0, 0.0)):
        same = Interval(0.8, 0.7, 0.9)
        verdict = FinalTest(same, same, Interval(*ends), 40)
        yield replace(study, candidates=[against], recommended=against, verdict=verdict)
    yield replace(study, recommended=study.candidates[0], finished=True)
    yield replace(study, base_errors={TRAINED: errors(0.4)})
    scratch = BASE.model_copy(update={"strategy": "scratch"})
    yield replace(study, bases={AS_IT_IS: PROBE, TRAINED: scratch}, base_errors={})
    yield replace(study, rows=study.rows[:1])


def test_a_study_speaks_french_however_it_ends(found: Found) -> None:
    with strict_french():
        for study in variants(found):
            lines = [translated(line) for line in plan_lines(study, 12)]
            lines += [*found_lines(study, Path("out")), study_md(study)]
            assert not_french("\n".join(lines)) == []
        assert "tableau  out/study.md" in lines
        assert "-5,0 ± 1,0 [-6,0\u00a0; -4,0]" in study_md(found)
        assert "2,5 s par ajustement" in study_md(found)
        assert "# Étude\u00a0: essai" in study_md(found)


def test_a_study_in_english_is_as_it_was(found: Found) -> None:
    assert "| weight_decay 0.0001 | -5.0 ± 1.0 [-6.0, -4.0] | +0.0 ± 1.0" in study_md(found)
    assert "yes/yes | 6 | x1.0 | a regulariser here |" in study_md(found)
    assert "could not be run: x.tif: 8 px" in said(found)
    assert base_line(found, TRAINED).endswith("2.5 s a fit; stage 1 is reached: it can overfit")


def test_every_word_of_a_row_is_a_message() -> None:
    assert {*WORDS} == {*get_args(Word), "could not be run", "not reached"}


def test_the_figures_are_french_and_records_english(found: Found, tmp_path: Path) -> None:
    with strict_french() as texts:
        write_study(found, tmp_path)
        effects_figure({})
    assert "baisse l'erreur de validation" in texts
    assert not_french("\n".join(texts)) == []
    record = json.loads((tmp_path / "study.json").read_text(encoding="utf-8"))
    assert record["rows"][0]["verdict"] == "not reached"
    assert "not confirmed" in record["candidates"][1]
    assert "Recommended by geotl study: the recipe as it is" in recommended_yaml(found, tmp_path)
