"""Fine-tuning from a probe: its preset, what held-out labels keep of it, and what a run says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.experiments import opened
from helpers.runs import SMALL, made_tiles, run

from geotl.experiments.compare import FittedDraw, fit_draw, variants
from geotl.experiments.presets import TUNED, settled
from geotl.experiments.recipe import RecipeError, load
from geotl.export.model_card import CardFacts, model_card
from geotl.models.model_file import load as load_model
from geotl.studies.study_techniques import trained_start
from geotl.training import strategies
from geotl.training.tuning import HALFWAY, SHARES

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "unrendered")

QUIET = (
    "evaluate.baselines=false",
    "evaluate.random_weights=false",
    "evaluate.rgb_only=false",
    "evaluate.explain=false",
)
TUNE = (
    "strategy=probe_then_finetune",
    "train.choice_folds=1",
    "train.precision=float32",
    *QUIET,
)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_tiles(tmp_path_factory.mktemp("tiles"))


@pytest.fixture(scope="module")
def weights(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A LeNet trained for an epoch."""
    out = tmp_path_factory.mktemp("source") / "run"
    assert run(tiles, out, "strategy=scratch", "train.epochs=1", *QUIET) == 0
    return f"model.weights={out / 'model.safetensors'}"


def fitted(tiles: Path, folder: Path, *more: str, resume: bool = False) -> FittedDraw:
    folder.mkdir(exist_ok=True)
    (folder / "small.yaml").write_text("title: small\n")
    recipe = load(folder / "small.yaml", [f"data.root={tiles}", *SMALL, *more])
    experiment = opened(recipe, folder / "run")
    object.__setattr__(experiment, "resume", resume)
    return fit_draw(experiment, experiment.draw(0))


def same_bits(one: FittedDraw, other: FittedDraw) -> bool:
    first, second = one.fitted.network.state_dict(), other.fitted.network.state_dict()
    return all(t.numpy().tobytes() == second[name].numpy().tobytes() for name, t in first.items())


def test_a_training_that_destroys_the_network_gives_back_the_probe_bit_for_bit(
    tiles: Path, tmp_path: Path, weights: str
) -> None:
    wild = ("train.lr=10", "train.head_lr=10", "train.optimizer=sgd")
    tuned = fitted(tiles, tmp_path / "tuned", weights, *TUNE, *wild)
    tuning = tuned.fitted.tuning
    assert tuning is not None
    assert tuning.share == 0.0
    probe_keys = [f"{k}={str(v).lower()}" for k, v in TUNED.items() if not k.startswith("train.")]
    probe = fitted(tiles, tmp_path / "probe", weights, "strategy=probe", *probe_keys, *TUNE[1:])
    assert same_bits(tuned, probe)
    np.testing.assert_array_equal(tuned.fitted.features, probe.fitted.features)


def test_every_epoch_is_run_and_the_mean_of_probe_and_training_is_kept(
    tiles: Path, tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[float] = []

    def kept(logits, truth):
        scored.extend(logits)
        return strategies.Tuning(0.5, dict.fromkeys(logits, 0.4), {}, 1.25)

    monkeypatch.setattr(strategies, "choose_share", kept)
    rates = ("train.lr=0.01", "train.lr_decay=1", "train.head_lr=0")
    made = fitted(tiles, tmp_path / "a", weights, *TUNE, "train.patience=1", *rates)
    assert scored == list(SHARES)
    history = made.fitted.history
    assert history is not None
    assert [line["epoch"] for line in history.epochs] == [0, 1, 2]
    assert history.best_epoch == 2
    assert "val_loss" in history.epochs[-1]
    network = made.fitted.network
    assert float(network.temperature) == 1.25
    assert network.frozen_until == "c3"  # the last two of four stages are trained
    unchosen = ("train.choice_folds=0", *rates)
    half = fitted(tiles, tmp_path / "b", weights, *TUNE, *unchosen)
    assert half.fitted.tuning is not None
    assert half.fitted.tuning.share == HALFWAY
    begin = fitted(tiles, tmp_path / "c", weights, *TUNE, *unchosen, "train.lr=1e-12")
    monkeypatch.setattr(strategies, "HALFWAY", 1.0)
    end = fitted(tiles, tmp_path / "d", weights, *TUNE, *unchosen)
    name = "backbone.stages.f6.conv.weight"
    ends = [one.fitted.network.state_dict()[name] for one in (begin, end)]
    assert not np.allclose(ends[0], ends[1], rtol=0, atol=1e-4)
    for middle in (network, half.fitted.network):
        line = (ends[0] + ends[1]) / 2
        np.testing.assert_allclose(middle.state_dict()[name], line, atol=1e-5)


@pytest.mark.parametrize(("folds", "held"), [(1, 6), (2, 12)])
def test_the_choice_rests_on_the_tiles_of_all_folds_that_choose(
    tiles: Path,
    tmp_path: Path,
    weights: str,
    monkeypatch: pytest.MonkeyPatch,
    folds: int,
    held: int,
) -> None:
    asked = []

    def kept(logits, truth):
        asked.append([len(truth), *(rows.shape for rows in logits.values())])
        return strategies.Tuning(0.0, {}, {}, 1.0)

    monkeypatch.setattr(strategies, "choose_share", kept)
    fitted(tiles, tmp_path / "a", weights, *TUNE, f"train.choice_folds={folds}", "train.epochs=1")
    assert asked == [[held, (held, 3), (held, 3)]]


def test_without_labels_to_hold_out_the_probe_is_kept(
    tiles: Path, tmp_path: Path, weights: str
) -> None:
    made = fitted(tiles, tmp_path / "a", weights, *TUNE, "split.shots=1")
    assert made.fitted.tuning is not None
    assert made.fitted.tuning.share == 0.0
    assert made.fitted.history is None


def test_a_killed_fine_tuning_goes_on_to_the_same_bits(
    tiles: Path, tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = strategies.Tuning(0.5, {}, {}, 1.0)
    monkeypatch.setattr(strategies, "choose_share", lambda *_: half)
    often = ("train.checkpoint_every_steps=1", "train.lr=0.003")
    straight = fitted(tiles, tmp_path / "a", weights, *TUNE, *often)
    shutil.rmtree(tmp_path / "a" / "run" / "draws" / "00" / "final")
    again = fitted(tiles, tmp_path / "a", weights, *TUNE, *often, resume=True)
    assert same_bits(straight, again)
    assert straight.fitted.tuning == again.fitted.tuning == half


def test_a_run_says_how_much_of_the_training_is_kept(
    tiles: Path, tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(tiles, out, weights, *TUNE, "train.lr=0.003", options=()) == 0
    said = capsys.readouterr().out
    metrics = json.loads((out / "metrics.json").read_text())
    share = metrics["tuning"]["share"]
    assert set(metrics["tuning"]["fold_loss"]) == {str(s) for s in SHARES}
    assert f"fine-tuning: {100 * share:.0f} % of the way from the probe is kept" in said
    assert "strategy probe_then_finetune: probe.head=discriminant" in said


def test_the_model_card_says_where_nothing_of_the_training_was_kept(
    tiles: Path, tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for share, wanted in ((0.0, "was tried and did not help"), (0.5, "was trained further")):
        tuning = strategies.Tuning(share, {}, {}, 1.0)
        monkeypatch.setattr(strategies, "choose_share", lambda *_, kept=tuning: kept)
        out = tmp_path / f"run_{share:g}"
        assert run(tiles, out, weights, *TUNE, "train.epochs=1") == 0
        facts = CardFacts(None, None, None, None, (), ("field", 0.9))
        assert wanted in model_card(load_model(out / "model.safetensors"), facts)


def test_the_model_on_all_labels_keeps_the_median_share(
    tiles: Path, tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares, given = iter([0.5, 0.0, 0.5]), []
    monkeypatch.setattr(
        strategies, "choose_share", lambda *_: strategies.Tuning(next(shares), {}, {}, 1.0)
    )
    between = strategies.between

    def noted(start, trained, share):
        given.append(share)
        return between(start, trained, share)

    monkeypatch.setattr(strategies, "between", noted)
    several = ("split.repeats=3", "keep=all", "train.lr=0.01", "train.epochs=1")
    assert run(tiles, tmp_path / "run", weights, *TUNE, *several) == 0
    assert given == [*SHARES, 0.5, *SHARES, *SHARES, 0.5, 0.5]  # 0 needs no network between
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["tuning"]["share"] == 0.5


def test_the_preset_fills_what_the_recipe_leaves_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("model: {weights: w.pth, pool: mean}\nstrategy: probe_then_finetune\n")
    found, line = settled(load(path, ["train.lr=0.002", "model.freeze_until=layer2"]), 50, 64)
    assert found.strategy == "probe_then_finetune"
    assert (found.model.pool, found.train.lr, found.freeze_until) == ("mean", 0.002, "layer2")
    taken = {key for key in TUNED if f"{key}=" in line}
    rates = {"train.lr", "train.lr_decay", "train.head_lr"}  # stated with the first of them
    assert taken == set(TUNED) - {"model.pool"} - rates
    assert (found.train.lr_decay, found.train.head_lr) == (0.5, None)
    for key in taken:
        section, _, name = key.partition(".")
        assert getattr(getattr(found, section), name) == TUNED[key]
    assert settled(found, 50, 64) == (found, "")


def test_random_weights_beside_are_trained_by_the_recipe_and_not_by_the_preset(
    tiles: Path, tmp_path: Path, weights: str
) -> None:
    (tmp_path / "small.yaml").write_text("title: small\n")
    given = [f"data.root={tiles}", *SMALL, weights, TUNE[0], "evaluate.rgb_only=false"]
    experiment = opened(load(tmp_path / "small.yaml", given), tmp_path / "run")
    beside = variants(experiment.recipe, experiment.samples)["random weights"]
    assert experiment.recipe.train.head_lr == 0
    assert (beside.strategy, beside.train.head_lr) == ("scratch", None)
    assert (beside.train.lr, beside.train.lr_decay) == (1e-3, 0.5)
    assert beside.train.epochs == 3  # stated


def test_a_study_of_a_recipe_with_a_fixed_head_begins_at_random(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text("strategy: probe_then_finetune\n")
    given = load(tmp_path / "small.yaml", ["train.head_lr=0", "model.weights=a.pth"])
    assert trained_start(given).train.head_lr is None


def test_a_head_that_begins_at_random_cannot_stay_so(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("strategy: scratch\n")
    with pytest.raises(RecipeError, match=r"train\.head_lr: given 0 with strategy scratch"):
        load(path, ["train.head_lr=0"])


def test_a_finished_run_of_a_version_without_a_key_is_still_finished(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(tiles, out, "strategy=probe", *QUIET) == 0
    held = out / "recipe.yaml"
    earlier = [line for line in held.read_text().splitlines() if "head_lr" not in line]
    held.write_text("\n".join(earlier) + "\n")
    assert run(tiles, out, "strategy=probe", *QUIET, options=("--resume",)) == 0
    assert "already finished" in capsys.readouterr().out
    assert run(tiles, out, "strategy=probe", "seed=5", *QUIET, options=("--resume",)) == 2
    assert "another recipe" in capsys.readouterr().err
