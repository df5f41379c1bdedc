"""strategy: auto takes a preset for the labels at hand, and leaves what the recipe states."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.tiles import write_tile

from geotl.errors import RecipeError
from geotl.experiments.build import fitting_px
from geotl.experiments.presets import PRESETS, input_sizes, regime, settled
from geotl.experiments.recipe import load, written_text
from geotl.experiments.run import run
from geotl.experiments.schema import Recipe
from geotl.io import yaml
from geotl.models.backbone_names import NAMES
from geotl.models.registry import get_backbone


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
    assert found.model.input_px == input_sizes(64)


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
    with pytest.raises(RecipeError, match=r"auto \(scarce labels\): probe.semi_supervised"):
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
    assert written_text(kept) == (tmp_path / "run" / "recipe.yaml").read_text()


@pytest.mark.parametrize("tile_px", [4, 8, 20, 64, 100, 256])
@pytest.mark.parametrize(
    ("name", "cut_after"), [(name, None) for name in NAMES] + [("resnet18", "layer3")]
)
def test_no_preset_chooses_a_size_that_its_network_refuses(tmp_path, name, cut_after, tile_px):
    """Red before: 8-px chips were to be seen at 8 and 16 px, which every ResNet refuses."""
    network = {"backbone": name, "cut_after": cut_after, "weights": "w.pth"}
    told = recipe(tmp_path, yaml.write({"model": network}))
    spec = get_backbone(name)
    stage = spec.stages.index(cut_after or spec.stages[-1])
    tuned = told.model_copy(update={"strategy": "probe_then_finetune"})
    blank = recipe(tmp_path, yaml.write({"model": {**network, "weights": "none"}}))
    for given, labels in ((told, 10), (tuned, 10), (blank, 500)):
        found, _ = settled(given, labels, tile_px, fitting_px(given))
        for side in found.model.input_px or (tile_px,):
            assert side >= max(spec.least_px[stage], 8 if found.model.input_px else 4)
            assert side % spec.multiple_px == 0
        assert load(None, [f"model.input_px={list(found.model.input_px)}"])


def test_sizes_of_a_network_that_cuts_patches_are_whole_patches(tmp_path):
    """Red before: 64 and 128 px, neither a multiple of 14."""
    told = recipe(tmp_path, "model: {backbone: 'timm:vit_small_patch14_dinov2', weights: w.pth}")
    found, line = settled(told, 10, 64, fitting_px(told))
    assert found.model.input_px == (70, 140, 210)
    assert "model.input_px=70,140,210" in line


@pytest.mark.usefixtures("unrendered")
def test_small_tiles_are_seen_at_a_size_that_the_network_takes(tmp_path, monkeypatch):
    """A whole run over tiles of 12 px with a ResNet-18, red before."""
    monkeypatch.setenv("GEOTL_CACHE", str(tmp_path / "cache"))
    random = np.random.default_rng(3)
    for k, name in enumerate(("field", "water")):
        for i in range(6):
            data = random.normal(900 + 900 * k, 90, (3, 12, 12)).astype(np.uint16)
            write_tile(tmp_path / "t" / name / f"{i}.tif", data, names=["B02", "B03", "B04"])
    words = [f"data.root={tmp_path / 't'}", "data.sensor=sentinel2_l2a", "split.shots=3"]
    words += ["data.bands=B02,B03,B04", "split.inner_folds=2", "evaluate.bootstrap_rounds=20"]
    lines: list[str] = []
    run(load(None, words), tmp_path / "run", quiet=True, log=lines.append)
    assert any("model.input_px=32,64" in line for line in lines)
    kept = load(tmp_path / "run" / "recipe.yaml").model
    assert (kept.input_px, kept.inner_activations) == ((32, 64), True)
    assert kept.renderings == ("given", "reversed", "shifted", "negative")
    weights = json.loads((tmp_path / "run" / "metrics.json").read_text())["head"]["renderings"]
    assert sum(weights.values()) == pytest.approx(1)
    shown = ", ".join(f"{name} {weights[name]:.2f}" for name in kept.renderings)
    assert f"weights of renderings: {shown}" in lines
    assert shown in (tmp_path / "run" / "report.html").read_text()
