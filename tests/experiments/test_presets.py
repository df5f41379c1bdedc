"""strategy: auto takes a preset for the labels at hand, and leaves what the recipe states."""

from __future__ import annotations

import pytest

from geotl.errors import RecipeError
from geotl.experiments.presets import PRESETS, regime, settled, two_sizes
from geotl.experiments.recipe import dump, load
from geotl.experiments.run import run
from geotl.experiments.schema import Recipe


def recipe(tmp_path, text: str = "{}", *overrides: str) -> Recipe:
    (tmp_path / "mine.yaml").write_text(text)
    return load(tmp_path / "mine.yaml", overrides)


def test_auto_is_the_default_and_another_strategy_is_left_alone(tmp_path):
    assert recipe(tmp_path).strategy == "auto"
    told = recipe(tmp_path, "strategy: finetune")
    assert settled(told, 5, 64) == (told, "")


@pytest.mark.parametrize("labels", [1, 20, 21, 200, 201, 5000])
def test_every_key_of_the_preset_is_taken_where_the_recipe_is_silent(tmp_path, labels):
    found, line = settled(recipe(tmp_path, "model: {weights: w.pth}"), labels, 64)
    for key, value in PRESETS[regime(labels)].items():
        section, _, name = key.rpartition(".")
        assert getattr(getattr(found, section) if section else found, name) == value
        assert f"{key}=" in line
    assert found.model.input_px == two_sizes(64)


def test_what_the_recipe_or_the_command_line_states_stays(tmp_path):
    told = recipe(tmp_path, "model: {weights: w.pth, pool: mean}", "probe.head=logistic")
    found, line = settled(told, 10, 64)
    assert (found.model.pool, found.probe.head) == ("mean", "logistic")
    assert found.model.unit_length
    assert "model.pool" not in line
    assert "probe.head" not in line


def test_many_labels_without_weights_are_trained_from_random(tmp_path):
    assert settled(recipe(tmp_path), 500, 64)[0].strategy == "scratch"
    assert settled(recipe(tmp_path), 50, 64)[0].strategy == PRESETS["some"]["strategy"]


def test_keys_that_contradict_the_preset_are_one_clear_error(tmp_path):
    told = recipe(tmp_path, "probe: {unlabelled: soft_labels, head: logistic}")
    with pytest.raises(RecipeError, match=r"auto \(scarce labels\): probe.unlabelled"):
        settled(told, 10, 64)
    with pytest.raises(RecipeError, match="freeze_until"):
        recipe(tmp_path, "freeze_until: layer2")


@pytest.mark.usefixtures("unrendered")
def test_a_run_tells_and_keeps_what_auto_became(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOTL_CACHE", str(tmp_path / "cache"))
    told = load(
        "sample_target",
        [
            "model.weights=none",
            "split.shots=2",
            "split.repeats=1",
            "model.backbone=lenet5",
            "model.truncate_after=c3",
            "evaluate.baselines=false",
            "model.input_px=32",
        ],
    )
    told = told.model_copy(update={"strategy": "auto"})
    lines: list[str] = []
    run(told, tmp_path / "run", quiet=True, log=lines.append)
    assert any(line.startswith("strategy auto, scarce labels (2 per class)") for line in lines)
    kept = load(tmp_path / "run" / "recipe.yaml")
    assert kept.strategy == "probe"
    run(told, tmp_path / "run", resume=True, quiet=True, log=lines.append)
    assert "already finished" in lines[-1]
    assert dump(kept) == (tmp_path / "run" / "recipe.yaml").read_text()
