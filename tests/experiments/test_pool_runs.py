"""Runs whose head takes a pool of unlabelled tiles: a share of the undrawn ones, or a folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.experiments import quietly, samples_of
from helpers.runs import BANDS, SMALL, made_tiles, run
from helpers.tiles import write_tile
from safetensors.numpy import load_file

from geotl.errors import RecipeError
from geotl.experiments.compare import fit_draw
from geotl.experiments.draws import make_draw
from geotl.experiments.kept_model import keeps_all
from geotl.experiments.recipe import load
from geotl.export.model_card import CardFacts, model_card
from geotl.models.model_file import load as load_model
from geotl.models.model_file import read_header

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "unrendered")
PROBE = ("probe.head=discriminant", "evaluate.explain=false", "evaluate.baselines=false")


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_tiles(tmp_path_factory.mktemp("tiles"))


def metrics_of(out: Path) -> dict:
    return json.loads((out / "metrics.json").read_text())


def test_a_share_of_the_undrawn_tiles_is_used_and_not_tested(tiles: Path) -> None:
    settings = [f"data.root={tiles}", *SMALL, "probe.head=discriminant", "strategy=probe"]
    plain = load(None, settings)
    samples = samples_of(plain)
    with_pool = load(None, [*settings, "probe.pool=0.25"])
    for number in range(3):
        whole = make_draw(plain, samples, number)
        draw = make_draw(with_pool, samples, number)
        assert len(draw.pool) == 6
        assert not {*draw.pool.tolist()} & {*draw.split.test.tolist()}
        assert {*draw.pool.tolist()} <= {*draw.split.set_aside.tolist()}
        together = np.union1d(draw.pool, draw.split.test)
        np.testing.assert_array_equal(together, np.sort(whole.split.test))
        np.testing.assert_array_equal(draw.split.train, whole.split.train)
    assert not keeps_all(with_pool)


def test_run_file_report_and_card_say_what_became_of_the_pool(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(tiles, out, *PROBE, "probe.pool=0.5", options=()) == 0
    metrics, said = metrics_of(out), capsys.readouterr().out
    assert metrics["tiles"] == metrics["pool"]["tiles"] == 12
    assert "network, labels alone" in metrics["draws"]
    assert metrics["unlabelled"]["what"] == "pool of unlabelled tiles"
    assert "probe.pool: 12 unlabelled tiles " in said
    assert "12 unlabelled tiles " in (out / "report.html").read_text()
    used = 12 if metrics["pool"]["used"] else 0
    assert read_header(out / "model.safetensors")["training"]["unlabelled"] == used
    model = load_model(out / "model.safetensors")
    facts = CardFacts(None, None, None, None, (), ("field", 0.9))
    for count, words in ((0, "12 labelled tiles"), (12, "12 labelled tiles and 12 unlabelled")):
        model.notes["training"]["unlabelled"] = count
        assert words in model_card(model, facts)
        assert (" unlabelled ones" in model_card(model, facts)) == bool(count)


def test_no_pixel_of_a_test_tile_changes_the_head(tiles: Path, tmp_path: Path) -> None:
    recipe = load(None, [f"data.root={tiles}", *SMALL, *PROBE, "strategy=probe", "probe.pool=0.5"])
    samples = samples_of(recipe)
    draw = make_draw(recipe, samples, 0)
    images = np.array(samples.pack.images)
    images[draw.split.test] = images[draw.split.test] // 2 + 300
    altered = replace(samples, pack=replace(samples.pack, images=images, fingerprint="other"))
    heads = []
    for one in (samples, altered):
        fitted = fit_draw(quietly(recipe, one, tmp_path), draw).fitted
        assert fitted.pool is not None
        heads.append((fitted.network.head.weight.detach().numpy().tobytes(), fitted.pool.loss))
    assert heads[0] == heads[1]


def test_a_folder_gives_its_tiles_without_those_that_have_a_label(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "more"
    random = np.random.default_rng(3)
    for number in range(5):
        image = random.normal(900, 150, (4, 32, 32)).clip(1).astype(np.uint16)
        write_tile(folder / "any" / f"{number}.tif", image, names=BANDS)
    shutil.copy(tiles / "field" / "00.tif", folder / "copy.tif")
    out = tmp_path / "run"
    assert run(tiles, out, *PROBE, f"probe.pool={folder}", options=()) == 0
    metrics = metrics_of(out)
    assert (metrics["tiles"], metrics["pool"]["tiles"]) == (24, 5)
    assert "probe.pool: 5 unlabelled tiles, none of which is among" in capsys.readouterr().out


def test_a_pool_that_cannot_be_read_is_one_line(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiles, tmp_path / "run", *PROBE, "probe.pool=nowhere") == 2
    assert "probe.pool: nowhere is no folder" in capsys.readouterr().err
    assert run(tiles, tmp_path / "run", *PROBE, f"probe.pool={tiles}") == 2
    assert "all 36 tiles are among the labelled ones" in capsys.readouterr().err


def test_without_a_gain_the_model_is_that_of_the_labels_alone(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geotl.training.tile_pool.gains", lambda *_: False)
    for name, more in {"pool": "probe.pool=0.5", "alone": "probe.pool=null"}.items():
        assert run(tiles, tmp_path / name, *PROBE, more) == 0
    pool, alone = (load_file(tmp_path / name / "model.safetensors") for name in ("pool", "alone"))
    for name in ("head.weight", "head.bias", "temperature"):
        assert pool[name].tobytes() == alone[name].tobytes()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["probe.pool=0"], "probe.pool"),
        (["probe.pool=1"], "probe.pool"),
        (["probe.pool=0.5", "task=pixels"], "with task pixels, which uses labelled pixels alone"),
        (["probe.pool=windows"], "given windows without data.scenes"),
        (["probe.pool=0.5", "data.scenes=[s.tif]", "labels.path=l.gpkg"], "given 0.5 with data"),
        (["probe.pool=0.5", "probe.semi_supervised=soft_labels"], "allowed: one of the two"),
        (["probe.pool=0.5", "probe.head=logistic", "strategy=probe"], "with probe.head logistic"),
        (["probe.pool=0.5", "strategy=full"], "with probe.head"),
        (["probe.pool=0.5", "model.fuse_statistics=true"], "features alone"),
        (["probe.pool=0.5", "split.method=group", "split.kfold=3"], "each tile is tested"),
        (["probe.pool=0.5", "keep=all"], "leaves none"),
    ],
)
def test_what_contradicts_a_pool_is_one_clear_line(settings: list[str], words: str) -> None:
    with pytest.raises(RecipeError) as error:
        load(None, settings)
    assert any("pool" in line and words in line for line in str(error.value).splitlines())
