"""The model that a run keeps: fitted once more on all labels, or the first draw's."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
from helpers.experiments import opened
from helpers.finished_maps import made_facts, made_look
from helpers.labelled_scenes import PIXELS, made_scene
from helpers.runs import BANDS, SMALL, run
from helpers.tiles import write_tile
from rasterio.transform import from_origin
from safetensors.numpy import load_file

from geotl.cli.main import main
from geotl.errors import RecipeError
from geotl.evaluation.evaluate import fit_temperature
from geotl.experiments import kept_model
from geotl.experiments.compare import fit_draw, logits_of_test
from geotl.experiments.experiment import Experiment
from geotl.experiments.kept_model import whole_draw
from geotl.experiments.recipe import load
from geotl.export.model_card import CardFacts, model_card
from geotl.mapping.map_words import honest_notes
from geotl.models.model_file import bare, read_header, result_lines
from geotl.models.model_file import load as load_model
from geotl.models.pixel_file import load_pixel_model
from geotl.training import strategies

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "unrendered", "few_trees")

FOLDS = ("split.method=group", "split.kfold=3", "split.shots=null", "evaluate.baselines=false")
TRAINED = (*FOLDS, "strategy=scratch", "evaluate.explain=false")
ESTIMATE = "Accuracy is estimated by 3 folds by group; this model was fitted on all 36 labels."


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 12 tiles in six groups, 1 km apart."""
    root, random, rows = tmp_path_factory.mktemp("tiles"), np.random.default_rng(5), []
    for number in range(36):
        k, i = divmod(number, 12)
        level = np.array([700, 900, 800 + 300 * k, 2500 - 900 * k])[:, None, None]
        tile = (level + random.normal(0, 60 + 120 * k, (4, 32, 32))).clip(1).astype(np.uint16)
        name = f"{('field', 'town', 'water')[k]}/{i:02d}.tif"
        place = from_origin(500000 + 1000 * i, 4600000 + 1000 * k, 10, 10)
        write_tile(root / name, tile, names=BANDS, transform=place)
        rows.append(f"{name},g{i % 6}")
    (root / "tiles.csv").write_text("\n".join(["path,group", *rows]) + "\n")
    return root


def experiment_of(tiles: Path, folder: Path, *more: str) -> Experiment:
    path = folder / "small.yaml"
    path.write_text("title: small\n")
    return opened(load(path, [f"data.root={tiles}", *SMALL, *more]), folder / "direct")


def metrics_of(out: Path) -> dict:
    return json.loads((out / "metrics.json").read_text())


def network_of(path: Path) -> dict[str, np.ndarray]:
    return {k: v for k, v in load_file(path).items() if not k.startswith("companions.")}


@pytest.fixture(scope="module")
def probed(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("probed") / "run"
    assert run(tiles, out, *FOLDS, "strategy=probe") == 0
    return out


def test_a_probe_of_folds_is_the_one_fitted_directly_on_all_labels(
    tiles: Path, probed: Path, tmp_path: Path
) -> None:
    direct = experiment_of(tiles, tmp_path, *FOLDS, "strategy=probe")
    made = fit_draw(direct, whole_draw(direct.recipe, direct.samples))
    kept = network_of(probed / "model.safetensors")
    for name, value in made.fitted.network.state_dict().items():
        np.testing.assert_array_equal(kept[name], value.numpy(), err_msg=name)


def test_folds_over_all_labels_are_those_that_estimate_the_accuracy(
    tiles: Path, probed: Path, tmp_path: Path
) -> None:
    direct = experiment_of(tiles, tmp_path, *FOLDS, "strategy=probe")
    draw = whole_draw(direct.recipe, direct.samples)
    for number, (fit, held) in enumerate(draw.folds):
        split = direct.draw(number).split
        np.testing.assert_array_equal(draw.split.train[fit], split.train)
        np.testing.assert_array_equal(draw.split.train[held], split.test)
    assert sorted(np.concatenate([held for _, held in draw.folds]).tolist()) == [*range(36)]
    training_samples = load_model(probed / "model.safetensors").training_samples
    assert {*training_samples.folds.tolist()} == {
        0,
        1,
        2,
    }  # the area of applicability rests on them


def test_file_report_and_metrics_say_what_the_model_was_fitted_on(
    probed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, metrics = probed / "model.safetensors", metrics_of(probed)
    assert metrics["estimate"] == ESTIMATE
    assert metrics["kept"]["labels"] == metrics["kept"]["tiles"] == 36
    assert metrics["kept"]["seconds"] > 0
    header = read_header(path)
    assert header["training"]["accuracy"] == ESTIMATE
    assert header["training"]["labels"] == header["training"]["tiles"] == 36
    assert "seconds" not in header["metrics"]["kept"]
    assert ESTIMATE in (probed / "report.html").read_text()
    assert main(["inspect", str(path)]) == 0
    assert ESTIMATE in capsys.readouterr().out
    assert "first fold" not in (probed / "report.html").read_text().replace("first fold's", "")


def test_the_folds_results_are_those_of_a_run_that_keeps_the_first_model(
    tiles: Path, probed: Path, tmp_path: Path
) -> None:
    assert run(tiles, tmp_path / "run", *FOLDS, "strategy=probe", "keep=first") == 0
    first, every = metrics_of(tmp_path / "run"), metrics_of(probed)
    for key in ("overall_accuracy", "confusion", "draws", "calibration", "headline", "optimism"):
        assert first[key] == every[key], key
    table = "predictions.csv"
    assert (tmp_path / "run" / table).read_bytes() == (probed / table).read_bytes()


def test_keep_first_gives_the_first_folds_model(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(tiles, out, *FOLDS, "strategy=probe", "keep=first") == 0
    direct = experiment_of(tiles, tmp_path, *FOLDS, "strategy=probe")
    made = fit_draw(direct, direct.draw(0))
    kept = network_of(out / "model.safetensors")
    for name, value in made.fitted.network.state_dict().items():
        np.testing.assert_array_equal(kept[name], value.numpy(), err_msg=name)
    assert not {"estimate", "kept"} & {*metrics_of(out)}
    assert "accuracy" not in read_header(out / "model.safetensors")["training"]
    assert main(["inspect", str(out / "model.safetensors")]) == 0
    assert "the saved model is the first fold's" in capsys.readouterr().out


def test_a_training_runs_the_epochs_that_the_folds_chose(tiles: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(tiles, out, *TRAINED) == 0
    direct = experiment_of(tiles, tmp_path, *TRAINED)
    draws = [fit_draw(direct, direct.draw(number)) for number in range(3)]
    chosen = sorted(made.fitted.history.best_epoch + 1 for made in draws)[1]
    made = fit_draw(direct.inside("all"), whole_draw(direct.recipe, direct.samples), chosen)
    logits = np.concatenate([logits_of_test(direct, one) for one in draws])
    truth = np.concatenate([direct.samples.labels[one.draw.split.test] for one in draws])
    kept = network_of(out / "model.safetensors")
    assert float(kept.pop("temperature")) == pytest.approx(fit_temperature(logits, truth))
    for name, value in kept.items():
        np.testing.assert_array_equal(value, made.fitted.network.state_dict()[name].numpy())
    assert metrics_of(out)["training"]["best_epoch"] == chosen - 1


def test_a_run_that_ended_before_the_last_fit_goes_on_with_it_alone(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut, trained = tmp_path / "whole", tmp_path / "cut", []
    assert run(tiles, whole, *TRAINED) == 0
    with monkeypatch.context() as patch:
        patch.setattr(kept_model, "fit_on_all", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(tiles, cut, *TRAINED)
    fit = strategies.fit

    def counted(learner, *, folder, **more):
        if not (folder / "finished.json").exists():
            trained.append(folder)
        return fit(learner, folder=folder, **more)

    monkeypatch.setattr(strategies, "fit", counted)
    assert run(tiles, cut, *TRAINED, options=("-q", "--resume")) == 0
    assert [folder.relative_to(cut).as_posix() for folder in trained] == ["kept/draws/00/final"]
    for name in ("model.safetensors", "predictions.csv"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize(
    ("settings", "every"),
    [
        (("split.shots=4", "split.repeats=2"), False),
        (("split.shots=4", "split.repeats=2", "keep=all"), True),
        (("split.method=stratified", "split.shots=null", "split.repeats=2"), True),
        (
            (
                "split.method=stratified",
                "split.shots=null",
            ),
            False,
        ),
        (("split.method=stratified", "split.shots=null", "keep=all"), True),
        (("split.method=group", "split.kfold=3", "split.shots=4"), False),
        (("split.method=group", "split.kfold=3", "split.shots=4", "keep=all"), True),
    ],
)
def test_the_split_says_which_model_is_kept_unless_the_recipe_does(
    tiles: Path, tmp_path: Path, settings: tuple[str, ...], every: bool
) -> None:
    out, quick = tmp_path / "run", ("strategy=probe", "evaluate.baselines=false")
    assert run(tiles, out, *settings, *quick, "evaluate.explain=false") == 0
    header, metrics = read_header(out / "model.safetensors"), metrics_of(out)
    assert (header["training"]["tiles"] == 36) == every == ("estimate" in metrics)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["keep=all", "split.method=column"], "whose test tiles no model is fitted to"),
        (
            ["keep=all", "probe.semi_supervised=soft_labels", "probe.head=discriminant"],
            "which uses the pixels of the test tiles",
        ),
        (["keep=last"], "keep"),
    ],
)
def test_a_model_on_all_labels_is_refused_where_test_tiles_must_stay_apart(
    settings: list[str], words: str
) -> None:
    with pytest.raises(RecipeError, match=words):
        load(None, settings)


def test_maps_say_what_the_model_was_fitted_on(probed: Path) -> None:
    assert ESTIMATE in honest_notes(made_facts(made_look(), metrics=metrics_of(probed)))


def test_files_of_earlier_versions_say_what_they_did() -> None:
    assert result_lines({"headline": "0.9", "kfold": 5}).endswith(
        "the saved model is the first fold's"
    )


@pytest.fixture(scope="module")
def rare(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A scene whose class quarry has one label only."""
    scene, path = made_scene(tmp_path_factory.mktemp("scene"))
    points = geopandas.read_file(path)
    points.loc[len(points) // 2, "class"] = "quarry"
    points.to_file(path)
    return [f"data.scenes={scene}", f"labels.path={path}"]


def test_a_class_that_a_fold_lacks_is_in_the_model_of_pixels_that_is_kept(
    rare: list[str], tmp_path: Path
) -> None:
    for keep in ("all", "first"):
        recipe = tmp_path / f"{keep}.yaml"
        recipe.write_text(f"keep: {keep}\n")
        assert (
            main(["run", str(recipe), *PIXELS, *rare, "--output", str(tmp_path / keep), "-q"]) == 0
        )
    every, first = (load_pixel_model(tmp_path / k / "model.safetensors") for k in ("all", "first"))
    quarry = every.contract.classes.index("quarry")
    assert quarry in every.training.labels
    metrics = {k: metrics_of(tmp_path / k) for k in ("all", "first")}
    assert metrics["all"]["confusion"] == metrics["first"]["confusion"]
    assert metrics["first"]["estimate"].endswith(
        f"this model is the first fold's, fitted on {len(first.training.labels)} labels."
    )
    assert len(first.training.labels) < len(every.training.labels) == metrics["all"]["labels"]
    assert metrics["all"]["seconds"]["kept"] > 0


def test_the_model_card_says_what_the_model_was_fitted_on(probed: Path) -> None:
    facts = CardFacts(None, None, None, None, (), ("field", 0.9))
    text = model_card(load_model(probed / "model.safetensors"), facts)
    assert ESTIMATE in text
    assert "36 labelled tiles" in text


def test_a_bare_file_says_it_too(probed: Path) -> None:
    assert bare(load_model(probed / "model.safetensors")).notes["metrics"]["estimate"] == ESTIMATE
