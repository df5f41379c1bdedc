"""`geotl diagnose` on small made tiles, and the verdict inside every run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.browser import CHROMIUM, Browser
from helpers.runs import SMALL, made_tiles, run

from geotl.cli.main import main
from geotl.evaluation.metrics import wilson
from geotl.evaluation.regularisers import regularisers
from geotl.experiments.recipe import load
from geotl.experiments.results import Answers, Comparison, DrawResult, Results
from geotl.reporting.html import ReportContent, Section, page_html
from geotl.studies import diagnosis, learning_curve
from geotl.studies.diagnosis import Extent, without_regularisers
from geotl.studies.diagnosis_report import regularisers_table
from geotl.training.settings import augmentation_keys

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "unrendered")

TINY = Extent(test_tiles=12, noise_steps=60, own_tiles=12, own_epochs=60, rates=30)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_tiles(tmp_path_factory.mktemp("tiles"))


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "QUICK", TINY)


def diagnosed(tiles: Path, out: Path, *more: str, options: tuple[str, ...] = ()) -> int:
    recipe = out.parent / "small.yaml"
    recipe.write_text("title: small <tiles>\n")
    told = [f"data.root={tiles}", *SMALL, *more, "--quick", "--output", str(out), *options]
    return main(["diagnose", str(recipe), *told])


def found(out: Path) -> dict:
    return json.loads((out / "diagnosis.json").read_text())


@pytest.mark.rendered
def test_a_probe_is_diagnosed_whole(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "d"
    assert diagnosed(tiles, out, "strategy=probe", options=("--target", "0.6")) == 0
    said, told = capsys.readouterr().out, found(out)
    assert "a probe has no learning rate" in said
    assert "target 0.600" in said
    assert "stage 1, every regulariser off" in said
    assert told["verdict"]["target"] == 0.6
    assert told["verdict"]["validation"]["value"] == pytest.approx(
        told["parts"]["standing"]["validation"][0] / 12
    )
    path = told["parts"]["standing"]["head"]["path"]
    assert len(path) >= 7
    assert path[-1]["train"] >= path[0]["train"]
    left = {p.name for p in out.iterdir()}
    assert {"standing.png", "curves.png", "diagnosis.html", "recipe.yaml"} <= left
    assert not left & {"rates.png", "capacity.png"}


@pytest.mark.rendered
def test_a_training_is_diagnosed_whole_and_a_second_start_measures_nothing_anew(
    tiles: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "d"
    assert diagnosed(tiles, out, "strategy=scratch", "train.patience=0") == 0
    said, told = capsys.readouterr().out, found(out)
    assert "no target was set" in said
    assert told["parts"]["noise"]["accuracy"] == 1.0
    assert told["parts"]["noise"]["tiles"] == 64
    assert told["parts"]["own"]["accuracy"] == 1.0
    assert len(told["parts"]["rates"]["rates"]) > 20
    assert len(told["parts"]["standing"]["history"]) == 3
    page = (out / "diagnosis.html").read_text()
    assert "small &lt;tiles&gt;" in page
    assert "http" not in page.replace("http-equiv", "")
    for heading in ("Where do you stand", "What to try next", "Learning rate", "Regularisers"):
        assert heading in page

    def never(*_: object, **__: object) -> None:
        raise AssertionError("measured anew")

    for name in ("standing", "overfit_noise", "overfit_training_tiles", "rate_range"):
        monkeypatch.setattr(diagnosis, name, never)
    again = ("strategy=scratch", "train.patience=0")
    assert diagnosed(tiles, out, *again, options=("--target", "0.5")) == 0
    assert found(out)["verdict"]["target"] == 0.5
    assert found(out)["parts"] == told["parts"]


def test_a_diagnosis_cut_short_keeps_the_parts_that_were_done(
    tiles: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "d"
    with monkeypatch.context() as broken:
        broken.setattr(
            diagnosis, "overfit_training_tiles", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        assert diagnosed(tiles, out, "strategy=probe") == 130
    assert not (out / "diagnosis.json").exists()
    calls = []
    real = diagnosis.overfit_noise
    monkeypatch.setattr(diagnosis, "overfit_noise", lambda *a: calls.append(1) or real(*a))
    assert diagnosed(tiles, out, "strategy=probe") == 0
    assert not calls
    assert (out / "diagnosis.json").exists()
    first = found(out)["parts"]
    capsys.readouterr()
    noise = out / "parts" / "noise.json"
    noise.write_bytes(noise.read_bytes().replace(b'"accuracy": 1', b'"accuracy": 0'))
    own = json.loads((out / "parts" / "own.json").read_text())
    del own["checksum"]  # as earlier versions wrote it
    (out / "parts" / "own.json").write_text(json.dumps(own))
    assert diagnosed(tiles, out, "strategy=probe") == 0
    told = capsys.readouterr().err
    assert told == f"{noise}: is damaged; what it holds is computed again\n"
    assert (calls, found(out)["parts"]) == ([1], first)


def test_the_label_count_curve_is_the_commands_own_and_is_kept(
    tiles: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, calls = tmp_path / "d", []
    real = learning_curve.curve
    monkeypatch.setattr(learning_curve, "curve", lambda *a, **b: calls.append(1) or real(*a, **b))
    for wanted in (1, 1, 2):
        if wanted == 2:
            table = out / "curve" / "curve.csv"
            table.write_bytes(table.read_bytes().replace(b"0.", b"1.", 1))
        assert diagnosed(tiles, out, "strategy=probe", "probe.views=1", options=("--curve",)) == 0
        assert len(calls) == wanted
    told = capsys.readouterr().err
    assert told == f"{out / 'curve'}: curve.csv is damaged; it is made again\n"
    assert (out / "curve" / "curve.csv").exists()
    assert "What more labels bring" in (out / "diagnosis.html").read_text()
    assert found(out)["curve"][0].startswith("labels alone")


def test_another_recipe_in_the_folder_is_refused(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "d"
    assert diagnosed(tiles, out, "strategy=probe") == 0
    before = (out / "diagnosis.json").read_bytes()
    capsys.readouterr()
    assert diagnosed(tiles, out, "strategy=probe", "seed=3") == 2
    assert "another recipe" in capsys.readouterr().err
    assert (out / "diagnosis.json").read_bytes() == before


@pytest.mark.parametrize(
    ("option", "told"),
    [(("--target", "90"), "evaluate.target"), (("--test-tiles", "0"), "--test-tiles: given 0")],
)
def test_bad_arguments_are_one_line(
    tiles: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: tuple[str, ...],
    told: str,
) -> None:
    assert diagnosed(tiles, tmp_path / "d", "strategy=probe", options=option) == 2
    message = capsys.readouterr().err
    assert told in message
    assert message.count("\n") == 1
    assert not (tmp_path / "d" / "diagnosis.json").exists()


def test_stage_one_has_every_regulariser_off() -> None:
    recipe = load(
        "sample_source",
        [
            "strategy=probe_then_finetune",
            "model.weights=a.pth",
            "model.dropout=0.4",
            "augment.rotate_deg=20",
        ],
    )
    bare = without_regularisers(recipe)
    on = [
        one.name
        for one in regularisers(bare.model_dump(), augmentation_keys(), batchnorm="trained")
        if one.state == "on" and one.kind == "explicit"
    ]
    assert on == []
    assert (bare.probe.views, bare.strategy) == (1, "finetune")
    assert bare.model.weights == recipe.model.weights


def test_the_judged_tiles_are_never_learnt_from(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, set[int]] = {"learnt": set(), "judged": set()}
    real = diagnosis.memorise

    def noting(network, held, **more):  # type: ignore[no-untyped-def]
        if held.pack.fingerprint.startswith("noise"):
            return real(network, held, **more)
        seen["learnt"] |= set(held.rows.tolist())
        return real(network, held, **more)

    def named(network, pack, rows, **more):  # type: ignore[no-untyped-def]
        seen["judged"] |= set(rows.tolist())
        return predict(network, pack, rows, **more)

    predict = diagnosis.predict_rows
    monkeypatch.setattr(diagnosis, "memorise", noting)
    monkeypatch.setattr(diagnosis, "predict_rows", named)
    assert diagnosed(tiles, tmp_path / "d", "strategy=scratch", "train.epochs=1") == 0
    assert len(seen["learnt"]) == len(seen["judged"]) == 12
    assert not seen["learnt"] & seen["judged"]


@pytest.mark.parametrize("strategy", ["probe", "scratch"])
def test_a_run_says_where_it_stands(
    tiles: Path, tmp_path: Path, strategy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(tiles, out, f"strategy={strategy}", "evaluate.target=0.99") == 0
    metrics = json.loads((out / "metrics.json").read_text())
    verdict = metrics["diagnosis"]
    assert verdict["target"] == 0.99
    assert verdict["validation"]["value"] == pytest.approx(metrics["overall_accuracy"]["value"])
    assert 0 <= verdict["train"]["value"] <= 1
    page = (out / "report.html").read_text()
    assert "Where do you stand" in page
    assert "evaluation mode" in page
    assert "target of 0.99" in page
    assert '<ol class="steps">' in page


def test_of_folds_each_training_tile_counts_once() -> None:
    """Three folds of 12 tiles: each network learns 8, so each tile counts in two networks."""
    nothing, none = Comparison({}, {}), np.zeros(0, np.int64)
    answers = Answers(none, none, np.zeros((0, 2)), np.zeros(0))
    counts = [(8, 8), (6, 8), (4, 8)]
    results = Results([DrawResult(nothing, answers, count, 1.0) for count in counts])
    assert results.training(folds=True) == wilson(9, 12)
    assert results.training(folds=False) == wilson(8, 8)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: the table was not laid out")
@pytest.mark.parametrize("width", [500, 1200])
def test_a_long_setting_is_wrapped_and_not_cut_off(tmp_path: Path, width: int) -> None:
    long = load("sample_target", ["strategy=probe", f"model.weights=runs/{'a_long_name/' * 9}m.st"])
    table = regularisers_table(
        regularisers(long.model_dump(), augmentation_keys(), batchnorm="none")
    )
    section = Section("regularisers", "Regularisers", (table,))
    (tmp_path / "page.html").write_text(page_html(ReportContent("made", "made"), [section]))
    with Browser(width) as browser:
        browser.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        browser.call("Page.navigate", url=(tmp_path / "page.html").as_uri())
        browser.until("!!document.querySelector('td')")
        assert browser.value(
            "(() => { const s = document.querySelector('.scroll'); "
            "return s.scrollWidth <= s.clientWidth; })()"
        )
