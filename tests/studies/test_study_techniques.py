"""A study's pairs differ in one key and share the rest; its effects are counted as told."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import t as student

from geotl.errors import DataError, RecipeError
from geotl.evaluation.metrics import Interval
from geotl.experiments.recipe import Recipe, load
from geotl.studies import study_techniques
from geotl.studies.study import best_of, combined
from geotl.studies.study_effects import Effect, Errors, better_half, effect, paired, rungs
from geotl.studies.study_fits import Candidate, Found, TrialRow
from geotl.studies.study_report import study_csv, study_md
from geotl.studies.study_techniques import AS_IT_IS, TRAINED, Trial, alternative, changed, pair

WEIGHTS = ["model.weights=w.pth", "split.shots=10"]
PROBE = load(None, [*WEIGHTS, "strategy=probe"])
GIVEN = load(None, WEIGHTS)
BASE = study_techniques.trained_start(GIVEN)
TRAINING = study_techniques.training_trials(GIVEN, BASE, folded=False)
PROBING = study_techniques.probe_trials(PROBE, 64, folded=False)
# The lecture's list: COVERAGE's regularisers, transfer, freezing, families.
WANTED = {
    "weight_decay",
    "dropout",
    "flips",
    "quarter_turns",
    "rotation",
    "crop",
    "noise",
    "blur",
    "brightness",
    "contrast",
    "all_augmentation",
    "label_smoothing",
    "mixup",
    "early_stopping",
    "batch_norm",
    "pretrained",
    "freezing",
    "backbone",
}


def flat(recipe: Recipe) -> dict[str, str]:
    """Every key of a recipe by its dotted name."""
    found = {}
    for key, value in recipe.model_dump(mode="json").items():
        inside = value.items() if isinstance(value, dict) else [("", value)]
        found |= {f"{key}.{name}".rstrip("."): json.dumps(held) for name, held in inside}
    return found


def difference(one: Recipe, two: Recipe) -> set[str]:
    first, second = flat(one), flat(two)
    return {key for key in first if first[key] != second[key]}


@pytest.mark.parametrize("trial", TRAINING, ids=lambda trial: trial.name)
def test_a_pair_of_the_trained_start_differs_in_one_key(trial: Trial) -> None:
    found = difference(*pair(BASE, trial))
    if trial.key == "augment":  # all augmentations together are one section
        assert {key.partition(".")[0] for key in found} == {"augment"}
    else:
        assert found == {trial.key}


@pytest.mark.parametrize("trial", PROBING, ids=lambda trial: trial.name)
def test_a_pair_of_a_probe_differs_in_one_key(trial: Trial) -> None:
    assert difference(*pair(PROBE, trial)) == {trial.key}


def test_every_technique_of_the_lecture_has_a_trial_and_trials_have_names_of_their_own() -> None:
    assert {trial.technique for trial in TRAINING} >= WANTED
    assert len({trial.name for trial in TRAINING}) == len(TRAINING)
    assert len({trial.name for trial in PROBING}) == len(PROBING)
    sweep = [trial.on for trial in TRAINING if trial.technique == "weight_decay"]
    assert len(sweep) >= 4
    assert sweep == sorted(sweep)
    depths = {str(t.on) for t in TRAINING if t.technique == "freezing"}
    assert depths == {"stem", "layer1", "layer2", "layer4", "full"}  # layer3 is the start's own


def test_the_trained_start_has_every_regulariser_off() -> None:
    loud = changed(GIVEN, {"train.l2": 0.1, "model.dropout": 0.5, "augment.noise": 0.2})
    base = study_techniques.trained_start(loud)
    assert base.strategy == "finetune"
    assert (base.train.l2, base.train.weight_decay, base.model.dropout) == (0, 0, 0)
    assert (base.train.label_smoothing, base.train.choice_folds, base.probe.views) == (0, 0, 1)
    off = base.augment.model_dump()
    assert off | {"flips": False, "quarter_turns": False, "noise": 0.0} == off
    assert study_techniques.trained_start(Recipe()).strategy == "scratch"
    assert (
        study_techniques.trained_start(load(None, [*WEIGHTS, "train.epochs=7"])).train.epochs == 7
    )


def test_kornias_augmentations_are_tried_where_the_recipe_has_them() -> None:
    steps = "augment.kornia=[{RandomPerspective: {p: 0.5}}, RandomErasing]"
    given = load(None, [*WEIGHTS, steps])
    base = study_techniques.trained_start(given)
    assert base.augment.kornia == ()
    (trial,) = study_techniques.chosen(
        study_techniques.training_trials(given, base, folded=False), ["kornia"]
    )
    assert trial.name == "kornia RandomPerspective,RandomErasing"
    assert difference(*pair(base, trial)) == {"augment.kornia"}
    assert pair(base, trial)[1].augment.kornia == given.augment.kornia
    assert "kornia" not in {one.technique for one in TRAINING}


def test_folded_batch_norm_and_networks_without_are_not_asked_for_it() -> None:
    folded = study_techniques.training_trials(GIVEN, BASE, folded=True)
    names = {trial.technique for trial in TRAINING} - {trial.technique for trial in folded}
    assert names == {"batch_norm_tuned"}
    plain = load(None, ["model.backbone=lenet5"])
    trials = study_techniques.training_trials(
        plain, study_techniques.trained_start(plain), folded=False
    )
    assert not {"batch_norm", "freezing", "pretrained"} & {trial.technique for trial in trials}


def test_without_weights_their_checksum_goes_too() -> None:
    recipe = load(None, [*WEIGHTS, "strategy=full", f"model.sha256={'a' * 64}"])
    blank = changed(recipe, {"model.weights": "none"})
    assert (blank.model.weights, blank.model.sha256) == ("none", None)


def test_only_takes_known_techniques() -> None:
    names = {trial.technique for trial in study_techniques.chosen(TRAINING, ["dropout", "mixup"])}
    assert names == {"dropout", "mixup"}
    with pytest.raises(RecipeError, match="did you mean 'dropout'"):
        study_techniques.chosen(TRAINING, ["dropuot"])


def test_a_section_that_contradicts_itself_is_told() -> None:
    with pytest.raises(RecipeError, match="freeze_until"):
        changed(changed(BASE, {"freeze_until": "stem"}), {"strategy": "full"})


def test_what_does_not_apply_to_a_probe_is_said() -> None:
    said = study_techniques.not_for_a_probe(PROBE)
    assert {"dropout", "mixup", "early_stopping", "freezing"} <= set(said)
    assert not {"views", "weight_decay"} & set(said)
    assert study_techniques.not_for_a_probe(BASE) == []


# ------------------------------------------------------------------ effects


def errors(training: float, validation: float, seconds: float = 1.0) -> Errors:
    return Errors(training, validation, 80, 20, seconds)


def parts(training: list[float], validation: list[float]) -> dict[int, Errors]:
    return {n: errors(*both) for n, both in enumerate(zip(training, validation, strict=True))}


def test_the_interval_is_widened_for_folds_that_share_tiles() -> None:
    gaps = np.array([-0.10, -0.20, -0.15, -0.05])
    found, sd = paired(0.4 + gaps, np.full(4, 0.4), tiles=20, ratio=0.25)
    reach = student.ppf(0.975, 3) * gaps.std(ddof=1) * np.sqrt(1 / 4 + 0.25)
    assert sd == pytest.approx(gaps.std(ddof=1))
    assert found == pytest.approx((gaps.mean(), gaps.mean() - reach, gaps.mean() + reach))


def test_folds_that_agree_by_chance_are_no_certainty() -> None:
    """Three folds of 20 tiles that each lose one error: still no visible effect."""
    found, sd = paired([0.20] * 3, [0.25] * 3, tiles=20, ratio=0.25)
    assert sd == pytest.approx(0)
    assert found.low < found.value < 0 < found.high
    with pytest.raises(DataError, match="one for each fold"):
        paired([0.1], [0.1, 0.2], 20, 0.25)


@pytest.mark.parametrize(
    ("on_training", "on_validation", "falls", "stays", "word"),
    [
        ([0.0] * 6, [0.1] * 6, True, True, "a regulariser here"),
        ([0.05] * 6, [0.1] * 6, True, True, "a regulariser here"),
        ([-0.5] * 6, [0.1] * 6, True, False, "fits better"),
        ([0.0] * 6, [0.4, 0.35, 0.45, 0.4, 0.3, 0.5], False, True, "no visible effect"),
        ([0.0] * 6, [0.9] * 6, False, True, "hurts here"),
    ],
)
def test_both_clauses_of_the_lecture(
    on_training: list[float], on_validation: list[float], falls: bool, stays: bool, word: str
) -> None:
    off = parts([0.0] * 6, [0.4] * 6)
    found = effect(parts(on_training, on_validation), off)
    assert found is not None
    assert (found.falls, found.training_stays, found.word) == (falls, stays, word)


def test_only_parts_that_both_sides_have_are_compared() -> None:
    off = parts([0.0] * 4, [0.4, 0.4, 0.4, 0.9])
    found = effect(parts([0.0] * 3, [0.4, 0.4, 0.4]), off)
    assert found is not None
    assert (found.parts, found.validation.value) == (3, 0.0)
    assert effect({}, off) is None


def test_two_folds_say_nothing_yet() -> None:
    found = effect(parts([0.0] * 2, [0.0] * 2), parts([0.0] * 2, [0.9] * 2))
    assert found is not None
    assert (found.word, found.falls) == ("too few folds yet", False)


def test_halving_keeps_the_better_half_and_more_folds_come_at_each_rung() -> None:
    assert better_half({"a": 0.1, "b": 0.0, "c": -0.2, "d": 0.3, "e": 0.2}) == {"c", "b", "a"}
    assert [rungs(n) for n in (3, 4, 10, 16)] == [(3,), (3, 4), (3, 5, 10), (4, 8, 16)]


# ------------------------------------------------------------------ advice


def effect_of(change: float, *, spread: float = 0.01) -> Effect:
    ends = Interval(change, change - spread, change + spread)
    return Effect(6, ends, Interval(0, -0.01, 0.01), 0.01, 0.01, errors(0, 0.4), errors(0, 0.4))


def found_of(*rows: tuple[str, float]) -> Found:
    """A study of the trained start with these changes in validation error by trial."""
    known = {trial.name: trial for trial in TRAINING}
    made = [TrialRow(TRAINED, known[name], effect_of(change)) for name, change in rows]
    return Found(
        PROBE, {AS_IT_IS: PROBE, TRAINED: BASE}, rows=made, base_errors={TRAINED: errors(0, 0.4)}
    )


def test_what_helped_is_combined_and_a_key_is_taken_once_from_its_best() -> None:
    found = found_of(
        ("weight_decay 0.01", -0.05),
        ("weight_decay 0.1", -0.08),
        ("dropout 0.3", -0.02),
        ("mixup 0.2", 0.0),
        ("noise 0.1", 0.2),
    )
    (one,) = combined(found, TRAINED, "tuned")
    assert difference(BASE, one.recipe) == {"train.l2", "model.dropout"}
    assert one.recipe.train.l2 == 0.1
    assert combined(found, AS_IT_IS, "as it is") == []


def test_single_augmentations_and_all_together_exclude_each_other() -> None:
    (one,) = combined(found_of(("all_augmentation", -0.08), ("noise 0.1", -0.02)), TRAINED, "")
    assert one.recipe.augment == study_techniques.AUGMENT_ALL
    (one,) = combined(found_of(("all_augmentation", -0.02), ("noise 0.1", -0.08)), TRAINED, "")
    assert difference(BASE, one.recipe) == {"augment.noise"}


def test_what_the_start_has_and_hurts_is_turned_off() -> None:
    recipe = changed(PROBE, {"model.unit_length": True})
    trial = next(trial for trial in PROBING if trial.technique == "unit_length")
    off = alternative(recipe, trial)
    assert off is not None
    assert not off.model.unit_length
    found = Found(recipe, {AS_IT_IS: recipe}, rows=[TrialRow(AS_IT_IS, trial, effect_of(0.1))])
    (one,) = combined(found, AS_IT_IS, "")
    assert not one.recipe.model.unit_length
    found.rows[0].effect = effect_of(-0.1)  # it helps, and is on already
    assert combined(found, AS_IT_IS, "") == []


def test_what_only_shows_in_another_setting_recommends_nothing() -> None:
    (one,) = combined(found_of(("pretrained", -0.3), ("batch_norm", -0.3)), TRAINED, "")
    assert one.recipe == BASE


def test_the_recipe_as_it_is_stands_unless_another_is_better_beyond_doubt() -> None:
    default = Candidate("default", PROBE)
    doubtful = Candidate("doubtful", BASE, against=effect_of(-0.2, spread=0.3))
    good = Candidate("good", BASE, against=effect_of(-0.05))
    best = Candidate("best", BASE, against=effect_of(-0.08))
    assert best_of([default, doubtful]).name == "default"
    assert best_of([default, good, doubtful, best]).name == "best"


def test_tables_hold_every_row_and_say_what_could_not_be_run() -> None:
    found = found_of(("dropout 0.3", -0.02), ("noise 0.1", 0.2))
    found.rows.append(TrialRow(TRAINED, TRAINING[-1], refused="tiles too small"))
    told = study_md(found)
    assert "| dropout 0.3 | -2.0 ± 1.0 [-3.0, -1.0] |" in told
    assert "| hurts here |" in told
    assert "could not be run: tiles too small" in told
    lines = study_csv(found).splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("trained,dropout 0.3,dropout,explicit,model.dropout,")
