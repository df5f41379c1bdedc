"""`geotl study` on small made tiles: what pairs share, what it leaves, resumes and refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.experiments import opened as open_quietly
from helpers.experiments import quietly
from helpers.runs import SMALL, made_tiles, run

from geotl.cli.main import main
from geotl.errors import DataError
from geotl.experiments.build import build_network, make_plan
from geotl.experiments.recipe import load
from geotl.studies import study_techniques
from geotl.studies.study_fits import Fits, Found, labelled_samples, make_part, of_part
from geotl.studies.study_techniques import Trial, changed, pair
from geotl.training.batches import epoch_order
from geotl.training.learner import Tiles
from geotl.training.strategies import fit_strategy

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "unrendered")

RESNET = [
    "model.backbone=resnet18",
    "model.truncate_after=layer1",
    "train.epochs=2",
    "probe.views=1",
    "split.shots=6",
    "split.inner_folds=3",
]
FEW = ["dropout", "early_stopping", "unit_length", "flips"]


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_tiles(tmp_path_factory.mktemp("tiles"))


@pytest.fixture(scope="module")
def weights(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of live batch normalisation, trained for an epoch."""
    out = tmp_path_factory.mktemp("source") / "run"
    settings = (
        "strategy=scratch",
        "model.backbone=resnet18",
        "model.truncate_after=layer1",
        "train.epochs=1",
        "evaluate.baselines=false",
    )
    assert run(tiles, out, *settings) == 0
    return out / "model.safetensors"


@pytest.fixture(scope="module")
def opened(tiles: Path, weights: Path) -> SimpleNamespace:
    """A study's source, labels and parts, as `study` makes them."""
    given = load(None, [f"data.root={tiles}", *SMALL, *RESNET, f"model.weights={weights}"])
    experiment = open_quietly(given)
    settled, source, draw = experiment.recipe, experiment.samples, experiment.draw(0)
    labelled = labelled_samples(source, draw.split.train, tiles.parent / "packs")
    found = [make_part(settled, labelled, number) for number in range(6)]
    return SimpleNamespace(
        given=given, settled=settled, source=source, draw=draw, labelled=labelled, parts=found
    )


def study(tiles: Path, weights: Path, out: Path, *options: str, more: tuple[str, ...] = ()) -> int:
    recipe = out.parent / "small.yaml"
    recipe.write_text("title: small\n")
    settings = [f"data.root={tiles}", *SMALL, *RESNET, f"model.weights={weights}", *more]
    return main(["study", str(recipe), *settings, "--output", str(out), *options])


def test_trials_see_the_labels_drawn_and_nothing_else(opened: SimpleNamespace) -> None:
    drawn, judged = opened.draw.split.train, opened.draw.split.test
    contents = np.array(opened.source.index.contents)
    assert set(opened.labelled.index.contents) == set(contents[drawn])
    assert not set(opened.labelled.index.contents) & set(contents[judged])
    np.testing.assert_array_equal(opened.labelled.pack.images, opened.source.pack.images[drawn])
    np.testing.assert_array_equal(opened.labelled.labels, opened.source.labels[drawn])


def test_a_round_of_parts_holds_every_label_out_once(opened: SimpleNamespace) -> None:
    first, second = opened.parts[:3], opened.parts[3:]
    for several in (first, second):
        held = np.concatenate([part.draw.split.test for part in several])
        assert sorted(held) == list(range(18))
    for part in opened.parts:
        fit, held = part.draw.split.train, part.draw.split.test
        assert not set(fit) & set(held)
        assert all(len(a) + len(b) == len(fit) for a, b in part.draw.folds)  # folds inside the fit
    assert any(
        not np.array_equal(a.draw.split.test, b.draw.split.test)
        for a, b in zip(first, second, strict=True)
    )
    assert len({part.seed for part in opened.parts}) == 6


def trials_of(opened: SimpleNamespace) -> list[tuple[object, Trial]]:
    base = study_techniques.trained_start(opened.given)
    trained = study_techniques.training_trials(opened.given, base, folded=False)
    probing = study_techniques.probe_trials(opened.settled, 32, folded=False)
    return [(base, t) for t in trained] + [(opened.settled, t) for t in probing]


def test_pairs_share_every_tensor_both_have_and_the_order_of_batches(
    opened: SimpleNamespace,
) -> None:
    """Only what a pair is about may differ: weights, the inputs' figures, adapted statistics."""
    about = {
        "pretrained": ("backbone.",),
        "weights_statistics": ("normalise.",),
        "batch_norm": ("running_", "num_batches_tracked"),
    }
    part = opened.parts[1]
    checked = 0
    for base, trial in trials_of(opened):
        if trial.technique == "backbone" and trial.on != "squeezenet1_1":
            continue  # others need larger tiles
        states, orders = [], []
        for side in pair(base, trial):
            recipe = of_part(side, part)
            experiment = quietly(recipe, opened.labelled)
            network, report = build_network(experiment, part.draw)
            plan = make_plan(experiment, report, part.draw)
            states.append(network.state_dict())
            orders.append(epoch_order(12, plan.training.settings.batch_size, plan.training.seed, 1))
        off, on = states
        both = [k for k in off.keys() & on.keys() if off[k].shape == on[k].shape]
        other_head = off["head.weight"].shape != on["head.weight"].shape
        if other_head:
            assert trial.technique in {
                "backbone",
                "depth",
                "inner_activations",
                "renderings",
                "sizes",
            }, trial.name
        for name in both:
            if any(word in name for word in about.get(trial.technique, ())):
                continue
            if other_head and name == "head.bias":  # of another layer: drawn for its width
                continue
            assert torch.equal(off[name], on[name]), (trial.name, name)
        for one, two in zip(*orders, strict=True):
            np.testing.assert_array_equal(one, two)
        checked += 1
    assert checked > 30


@pytest.mark.rendered
def test_a_study_leaves_tables_a_figure_and_a_recipe_that_runs(
    tiles: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    assert study(tiles, weights, out, "--seeds", "3", "--only", *FEW) == 0
    said = capsys.readouterr().out
    assert "does not apply to a probe: decoupled_decay, dropout" in said
    assert "stage 1 is" in said
    assert "on 18 tiles that no trial saw" in said
    left = {path.name for path in out.iterdir()}
    assert left == {
        "recipe.yaml",
        "study.md",
        "study.csv",
        "study.json",
        "study.png",
        "recommended.yaml",
        "trials",
    }
    told = json.loads((out / "study.json").read_text())
    assert {row["technique"] for row in told["rows"]} == set(FEW)
    assert all(row["folds"] == 3 for row in told["rows"])
    assert (out / "study.png").read_bytes().startswith(b"\x89PNG")
    lines = (out / "recommended.yaml").read_text().splitlines()
    assert lines[0] == f"# geotl run {out / 'recommended.yaml'}"
    assert (
        main([*lines[0].removeprefix("# geotl ").split(), "--output", str(tmp_path / "r"), "-q"])
        == 0
    )
    metrics = json.loads((tmp_path / "r" / "metrics.json").read_text())
    assert metrics["tiles"] == 18
    assert metrics["overall_accuracy"] == told["unseen"]["recommended"]
    capsys.readouterr()  # once more: nothing is fitted anew, and the same is found
    assert study(tiles, weights, out, "--seeds", "3", "--only", *FEW) == 2
    assert "--resume" in capsys.readouterr().err
    assert study(tiles, weights, out, "--seeds", "3", "--only", *FEW, "--resume") == 0
    again = json.loads((out / "study.json").read_text())
    assert again["fits_made"] == 0
    assert told | {"fits_made": 0} == again


def test_a_spent_budget_ends_well_and_a_resumed_study_equals_the_uninterrupted(
    tiles: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    options = ("--seeds", "3", "--only", "dropout")
    assert study(tiles, weights, whole, *options) == 0
    assert study(tiles, weights, cut, *options, "--budget", "0") == 0
    said = capsys.readouterr().out
    assert "the time budget is spent; --resume with a larger --budget goes on from there" in said
    halfway = json.loads((cut / "study.json").read_text())
    assert not halfway["finished"]
    assert halfway["recommended"] == "the recipe as it is"

    real, made = Fits._fit, []

    def killed(self: Fits, recipe: object, part: object) -> object:
        if len(made) == 4:
            raise KeyboardInterrupt
        made.append(1)
        return real(self, recipe, part)

    monkeypatch.setattr(Fits, "_fit", killed)
    assert study(tiles, weights, cut, *options, "--resume") == 130
    assert "--resume goes on" in capsys.readouterr().err
    monkeypatch.undo()
    kept = sorted((cut / "trials").iterdir())
    assert len(kept) == 4
    kept[0].write_bytes(kept[0].read_bytes().replace(b'"validation": 0', b'"validation": 1'))
    earlier = json.loads(kept[1].read_text())
    del earlier["checksum"]  # as earlier versions wrote it
    kept[1].write_text(json.dumps(earlier))
    assert study(tiles, weights, cut, *options, "--resume") == 0
    told = capsys.readouterr().err
    assert told == f"{kept[0]}: is damaged; what it holds is computed again\n"
    assert json.loads(kept[1].read_text()) == earlier
    one, two = (json.loads((at / "study.json").read_text()) for at in (whole, cut))
    timed = ("seconds_on", "seconds_off")
    for told in (one, two):
        told["fits_made"], told["starts"] = 0, {}
        told["candidates"] = [re.sub(r", \S+ s a fit", "", one) for one in told["candidates"]]
        for row in told["rows"]:
            row.update(dict.fromkeys(timed))
    assert one == two


def test_a_trial_that_cannot_be_run_says_why_and_the_others_go_on(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_techniques, "FAMILIES", ("alexnet",))
    out, path = tmp_path / "study", tmp_path / "small.yaml"
    path.write_text("title: small\n")
    settings = [f"data.root={tiles}", *SMALL, "train.epochs=2"]
    options = ["--seeds", "3", "--only", "backbone", "flips", "--output", str(out), "-q"]
    assert main(["study", str(path), *settings, *options]) == 0
    rows = {row["trial"]: row for row in json.loads((out / "study.json").read_text())["rows"]}
    assert rows["backbone alexnet"]["verdict"] == "could not be run"
    assert "63" in rows["backbone alexnet"]["refused"]
    assert rows["flips"]["folds"] == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--seeds", "2"), "--seeds: given 2; allowed: at least 3"),
        (("--only", "dropuot"), "--only: given dropuot; did you mean 'dropout'?"),
    ],
)
def test_options_that_make_no_sense_are_one_line(
    tiles: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    said: str,
) -> None:
    assert study(tiles, weights, tmp_path / "study", *options) == 2
    assert capsys.readouterr().err == f"geotl: {said}\n"
    assert not (tmp_path / "study").exists()


def test_one_label_a_class_is_too_few(
    tiles: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study(tiles, weights, tmp_path / "study", more=("split.shots=1",)) == 2
    assert "one label per class" in capsys.readouterr().err


def test_without_a_fold_that_chooses_all_epochs_are_run(
    opened: SimpleNamespace, tmp_path: Path
) -> None:
    part = opened.parts[0]
    recipe = of_part(study_techniques.trained_start(opened.given), part)
    epochs = {}
    for folds in (0, 1):
        told = changed(recipe, {"train.choice_folds": folds, "train.epochs": 3})
        experiment = quietly(told, opened.labelled)
        network, report = build_network(experiment, part.draw)
        plan = make_plan(experiment, report, part.draw)
        rows = part.draw.split.train
        fitted = fit_strategy(
            network,
            Tiles(opened.labelled.pack, rows, opened.labelled.labels[rows]),
            part.draw.folds,
            plan,
            folder=tmp_path / str(folds),
            features=lambda n, r: np.zeros((len(r), 1, n.head.in_features)),
        )
        assert fitted.history is not None
        epochs[folds] = ("val_loss" in fitted.history.epochs[-1], len(fitted.history.epochs))
        assert (float(fitted.network.temperature) == 1.0) == (folds == 0)
    assert epochs == {0: (False, 3), 1: (True, 3)}


def test_held_batch_normalisation_keeps_its_statistics_while_training(
    opened: SimpleNamespace, tmp_path: Path
) -> None:
    part = opened.parts[0]
    base = of_part(study_techniques.trained_start(opened.given), part)
    trial = next(t for _, t in trials_of(opened) if t.name == "batch_norm")
    moved = {}
    for held, side in zip((True, False), pair(base, trial), strict=True):
        experiment = quietly(side, opened.labelled)
        network, report = build_network(experiment, part.draw)
        plan = make_plan(experiment, report, part.draw)
        rows = part.draw.split.train
        fitted = fit_strategy(
            network,
            Tiles(opened.labelled.pack, rows, opened.labelled.labels[rows]),
            [],
            plan,
            folder=tmp_path / str(held),
            features=lambda n, r: np.zeros((len(r), 1, 1)),
        )
        means = [v for k, v in fitted.network.state_dict().items() if "running_mean" in k]
        assert means
        moved[held] = any(bool(mean.any()) for mean in means)
    assert moved == {True: False, False: True}


def test_too_few_parts_found_nothing(opened: SimpleNamespace) -> None:
    found = Found(opened.settled, {})
    assert found.ranked("trained") == []
    lone = labelled_samples(
        opened.source, opened.draw.split.train[[0, 6, 12]], Path(opened.labelled.pack.folder).parent
    )
    with pytest.raises(DataError, match="one label per class"):
        make_part(opened.settled, lone, 0)
