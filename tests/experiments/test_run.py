"""The whole story on small made tiles: what a run leaves, repeats, refuses and resumes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from helpers.runs import BANDS, SMALL, made_tiles, run
from helpers.tiles import write_tile
from safetensors.numpy import load_file

import geotl
from geotl.cli.main import main
from geotl.experiments.compare import variants
from geotl.experiments.recipe import load as load_recipe
from geotl.export.metadata import model_metadata
from geotl.imagery.sensors import get_sensor
from geotl.models.model_file import bare, load, read_header, save

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "unrendered")


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_tiles(tmp_path_factory.mktemp("tiles"))


@pytest.mark.parametrize("strategy", ["probe", "scratch"])
@pytest.mark.rendered
def test_a_run_leaves_everything_it_promises(tiles: Path, tmp_path: Path, strategy: str) -> None:
    out = tmp_path / "run"
    assert run(tiles, out, f"strategy={strategy}") == 0
    left = {p.name for p in out.iterdir()}
    wanted = {
        "recipe.yaml",
        "metrics.json",
        "predictions.csv",
        "confusion.png",
        "curves.png",
        "mistakes.png",
        "evidence.png",
        "embedding.png",
        "pairs.png",
        "report.html",
        "model.safetensors",
        "weights.txt",
    }
    assert wanted <= left
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["tiles"] == 24
    assert set(metrics["baselines"]) == {"band mean and sd, logistic", "majority class"}
    assert len((out / "predictions.csv").read_text().splitlines()) == 25


def test_explanations_can_be_left_out(tiles: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(tiles, out, "evaluate.explain=false") == 0
    assert not {p.name for p in out.iterdir()} & {"evidence.png", "embedding.png"}
    assert "Tiles by likeness" not in (out / "report.html").read_text()


def test_a_saved_model_gives_its_example_logits_again(tiles: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(tiles, out) == 0
    training_samples = load(out / "model.safetensors").training_samples
    model = geotl.load(out / "model.safetensors")
    found = model.predict(training_samples.examples, precision="float32")
    np.testing.assert_allclose(found.logits, training_samples.example_logits, atol=1e-4)
    assert len(training_samples.features) == 12
    assert set(training_samples.folds) == {0, 1}
    assert np.isfinite(training_samples.footprints).all()


def test_predict_and_evaluate_agree_with_the_run(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    run(tiles, out)
    model, table = str(out / "model.safetensors"), tmp_path / "p.csv"
    assert main(["predict", model, str(tiles / "water"), "-o", str(table)]) == 0
    rows = table.read_text().splitlines()
    assert len(rows) == 13
    found = geotl.load(model).predict(tiles / "water")
    assert capsys.readouterr().out.endswith(f"{found}; written to {table}\n")
    assert sum(found.counts.values()) == 12
    assert repr(found) == f"<Predictions of {found}>"
    assert "array" not in repr(found)
    table.write_text("mine")
    again = ["predict", model, str(tiles), "-o", str(table)]
    assert main(again) == 2
    assert "is there already" in capsys.readouterr().err
    assert table.read_text() == "mine"
    assert main([*again, "--overwrite"]) == 0
    capsys.readouterr()
    assert main(["evaluate", model, str(tiles)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("overall accuracy ")
    assert "12 of 36 tiles are training tiles of the model and are left out; --all" in told
    assert told.count(" of 8 tiles") == 3
    assert main(["inspect", model]) == 0
    assert "B02, B03, B04, B08" in capsys.readouterr().out


def test_tiles_learnt_from_are_known_again_in_any_file_and_never_judged_untold(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiles, tmp_path / "run") == 0
    model = tmp_path / "run" / "model.safetensors"
    held = load(model)
    marks = held.notes["training"]["marks"]
    assert len(set(marks)) == 12
    assert {len(mark) for mark in marks} == {16}
    for number, row in enumerate(held.training_samples.labels[:4]):  # the examples, written anew
        name = held.contract.classes[row]
        picture = held.training_samples.examples[number].astype(np.float32)
        write_tile(tmp_path / "own" / name / f"{number}.tif", picture, names=BANDS)
    (tmp_path / "own" / "field").mkdir(exist_ok=True)
    write_tile(tmp_path / "own" / "town" / "t.tif", picture, names=BANDS)
    capsys.readouterr()
    assert main(["evaluate", str(model), str(tmp_path / "own")]) == 2
    assert (
        "5 of 5 tiles are training tiles of the model, so there is no test tile"
        in capsys.readouterr().err
    )
    assert main(["evaluate", str(model), str(tiles), "--include-training"]) == 0
    assert (
        "12 of 36 tiles are training tiles of the model and are included" in capsys.readouterr().out
    )
    told_in_onnx = model_metadata(held, views=1, precision="float32")["notes"]["training"]
    assert set(told_in_onnx) == {"dates", "tiles"}
    bare_file = tmp_path / "bare.safetensors"
    save(bare_file, bare(held))
    assert not any(mark.encode() in bare_file.read_bytes() for mark in marks)
    assert main(["evaluate", str(bare_file), str(tiles)]) == 0
    assert "does not list its training tiles" in capsys.readouterr().out


def test_shuffled_bands_give_the_same_answer(tiles: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(tiles, out)
    model = geotl.load(out / "model.safetensors")
    data = np.random.default_rng(0).integers(400, 3000, (4, 32, 32), dtype=np.uint16)
    straight = write_tile(tmp_path / "a.tif", data, names=BANDS)
    shuffled = write_tile(tmp_path / "b.tif", data[::-1], names=BANDS[::-1])
    found = model.predict([straight, shuffled])
    np.testing.assert_array_equal(found.logits[0], found.logits[1])


@pytest.mark.parametrize("strategy", ["probe", "scratch"])
def test_test_labels_change_no_byte_of_the_model(
    tiles: Path, tmp_path: Path, strategy: str
) -> None:
    """Undrawn tiles are moved between the class folders; all but the metrics stays the same."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first = tmp_path / "one" / "run"
    split = f"strategy={strategy}"
    rows = ["path,split"]
    other = tmp_path / "other"
    for folder in sorted(tiles.iterdir()):
        for i, path in enumerate(sorted(folder.iterdir())):
            side = "train" if i < 4 else "test"
            for root in (tmp_path / "tiles", other):
                cls = folder.name
                if root == other and side == "test":
                    names = sorted(p.name for p in tiles.iterdir())
                    cls = names[(names.index(cls) + 1) % 3]
                name = f"{folder.name}_{path.name}"
                target = root / cls / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
            rows.append(f"{folder.name}/{name},{side}")
    (tmp_path / "tiles" / "tiles.csv").write_text("\n".join(rows))
    moved = ["path,split"]
    for path in sorted(other.rglob("*.tif")):
        side = "train" if int(path.stem.split("_")[1]) < 4 else "test"
        moved.append(f"{path.parent.name}/{path.name},{side}")
    (other / "tiles.csv").write_text("\n".join(moved))
    column = ("split.method=column", "split.shots=null", split)
    second = tmp_path / "two" / "run"
    assert run(tmp_path / "tiles", first, *column) == 0
    assert run(other, second, *column) == 0
    a, b = (load_file(p / "model.safetensors") for p in (first, second))
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].tobytes() == b[name].tobytes(), name
    accuracy = [
        json.loads((p / "metrics.json").read_text())["overall_accuracy"] for p in (first, second)
    ]
    assert accuracy[0] != accuracy[1]  # the labels really were others


def test_the_same_seed_gives_the_same_bits(tiles: Path, tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        run(tiles, tmp_path / name / "run", "strategy=scratch")
        files.append((tmp_path / name / "run" / "model.safetensors").read_bytes())
    a, b = (load_file(tmp_path / n / "run" / "model.safetensors") for n in ("a", "b"))
    assert all(a[name].tobytes() == b[name].tobytes() for name in a)


def test_weights_that_are_not_there_are_told_before_tiles_are_read(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GEOTL_CACHE", str(tmp_path / "cache"))
    assert run(tiles, tmp_path / "run", "model.weights=nowhere.pth") == 2
    assert "nowhere.pth" in capsys.readouterr().err
    assert not (tmp_path / "cache" / "packs").exists()


def test_a_source_model_is_where_another_starts(tiles: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    run(tiles, source, "strategy=scratch")
    target = tmp_path / "target"
    weights = f"model.weights={source / 'model.safetensors'}"
    more = (
        "strategy=probe_then_finetune",
        weights,
        "evaluate.rgb_only=true",
        "train.choice_folds=0",
    )
    assert run(tiles, target, *more) == 0
    header = read_header(target / "model.safetensors")
    assert header["weights"]["source"].endswith("model.safetensors")
    assert header["weights"]["sha256"]
    first, last = (load_file(p / "model.safetensors") for p in (source, target))
    frozen = [n for n in first if n.startswith(("backbone.stages.c1", "backbone.stages.c3"))]
    assert frozen
    assert all(first[n].tobytes() == last[n].tobytes() for n in frozen)
    assert any(first[n].tobytes() != last[n].tobytes() for n in first if "stages.f6" in n)
    metrics = json.loads((target / "metrics.json").read_text())
    assert {"random weights", "frozen probe", "red, green and blue alone"} <= set(metrics["draws"])


def test_a_networks_scalars_keep_their_shape(tiles: Path, tmp_path: Path) -> None:
    """A ResNet's batch counters are scalars; another run must find them as such."""
    out, small = tmp_path / "run", ["model.backbone=resnet18", "model.truncate_after=stem"]
    run(tiles, out, *small)
    held = load_file(out / "model.safetensors")
    counters = [n for n in held if n.startswith("backbone.") and n.endswith("num_batches_tracked")]
    assert [held[n].shape for n in counters] == [()]
    next_run = tmp_path / "next"
    assert run(tiles, next_run, *small, f"model.weights={out / 'model.safetensors'}") == 0


@pytest.mark.parametrize("method", ["soft_labels", "pseudo_labels", "consistency", "propagation"])
@pytest.mark.rendered
def test_unlabelled_tiles_are_reported_apart(tiles: Path, tmp_path: Path, method: str) -> None:
    out = tmp_path / "run"
    assert run(tiles, out, "probe.head=discriminant", f"probe.semi_supervised={method}") == 0
    assert (
        "network, with unlabelled tiles" in json.loads((out / "metrics.json").read_text())["draws"]
    )
    a, b = (load_file(out / n) for n in ("model.safetensors", "model_unlabelled.safetensors"))
    assert a["head.weight"].tobytes() != b["head.weight"].tobytes()


def test_a_folder_with_another_run_is_refused_and_kept(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    run(tiles, out)
    before = (out / "model.safetensors").read_bytes()
    for changed, told in [
        ((), "already finished; --resume prints"),
        (("split.shots=2",), "holds another run"),
        (("seed=1",), "holds another run"),
        (("data.root=nowhere",), "nowhere"),
        (("model.weights=missing.pth",), "missing.pth"),
    ]:
        assert run(tiles, out, *changed) == 2
        assert told in capsys.readouterr().err
    assert run(tiles, out, "seed=1", options=("-q", "--resume")) == 2
    assert "another recipe" in capsys.readouterr().err
    assert run(tiles, out, options=("-q", "--resume")) == 0
    assert (out / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("data.root=nowhere", "nowhere"),
        ("split.shots=40", "40"),
        ("model.weights=missing.pth", "missing.pth"),
        ("data.bands=[B02,B99]", "B99"),
        ("data.sensor=sentinel9", "sentinel9"),
        ("model.backbone=resnet81", "resnet"),
        ("train.epochs=many", "train.epochs"),
    ],
)
def test_bad_input_is_one_clear_line(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str, told: str
) -> None:
    assert run(tiles, tmp_path / "run", setting) == 2
    message = capsys.readouterr().err
    assert told in message
    assert message.count("\n") <= 2
    assert "Traceback" not in message


# backbones, first convolutions and what stands beside

RGB_BESIDE = "red, green and blue alone"


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides for a made file of pretrained kernels, on a network that takes 17 px."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "squeezenet.pth"
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), path)
    return [
        "model.backbone=squeezenet1_1",
        f"model.weights={path}",
        "train.epochs=1",
        "probe.views=1",
        "probe.head=logistic",
        "evaluate.random_weights=false",
        "evaluate.explain=false",
    ]


@pytest.mark.parametrize(
    ("more", "beside"),
    [
        ([], {RGB_BESIDE}),
        (["evaluate.rgb_only=false"], set()),
        (["data.bands=[B04,B03,B02]"], set()),
        (["data.bands=[B04,B08]"], set()),
        (["model.weights=none"], set()),
        (["model.first_conv=rgb_only"], set()),
        (["strategy=finetune"], {f"frozen probe, {RGB_BESIDE}"}),
        (["strategy=finetune", "evaluate.rgb_only=true"], {RGB_BESIDE}),
    ],
)
def test_red_green_and_blue_stand_beside_pretrained_multiband_networks(
    squeezenet: list[str], tmp_path: Path, more: list[str], beside: set[str]
) -> None:
    (tmp_path / "small.yaml").write_text("title: small\n")
    settings = [*SMALL, *squeezenet, "strategy=probe", *more]
    recipe = load_recipe(str(tmp_path / "small.yaml"), settings)
    sensor = get_sensor(recipe.data.sensor)
    source = SimpleNamespace(pack=SimpleNamespace(bands=recipe.data.bands), sensor=sensor)
    found = variants(recipe, source)
    assert {name for name in found if RGB_BESIDE in name} == beside
    for name in beside:
        assert found[name].model.first_conv == "rgb_only"
        assert (found[name].strategy == "probe") == ("probe" in name or recipe.strategy == "probe")


@pytest.mark.rendered
def test_the_rgb_probe_is_reported_beside(
    tiles: Path, tmp_path: Path, squeezenet: list[str]
) -> None:
    assert run(tiles, tmp_path / "run", *squeezenet) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert RGB_BESIDE in metrics["draws"]
    assert RGB_BESIDE in (tmp_path / "run" / "report.html").read_text()


def test_weights_without_red_green_and_blue_say_why_these_are_not_beside(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").mkdir()
    source = tmp_path / "a" / "run"
    assert run(tiles, source, "strategy=scratch", "data.bands=[B08]") == 0
    recipe = tmp_path / "target.yaml"
    recipe.write_text("title: target\n")
    weights = f"model.weights={source / 'model.safetensors'}"
    told = [f"data.root={tiles}", *SMALL, weights, "evaluate.random_weights=false"]
    assert main(["run", str(recipe), *told, "--output", str(tmp_path / "target")]) == 0
    assert f"baseline {RGB_BESIDE} skipped: bands B08: no red" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("strategy", "noted"), [("probe", False), ("finetune", False), ("full", True)]
)
def test_a_run_says_where_the_first_stage_trains(
    tiles: Path, tmp_path: Path, squeezenet: list[str], strategy: str, noted: bool
) -> None:
    out = tmp_path / "run"
    beside = ["evaluate.rgb_only=false", "evaluate.baselines=false"]
    assert run(tiles, out, *squeezenet, *beside, f"strategy={strategy}") == 0
    notes = read_header(out / "model.safetensors")["weights"]["notes"]
    assert any("stem, the first stage, is trained: no stage is cached" in n for n in notes) == noted


def test_bands_that_start_at_zero_are_probed_or_trained_but_not_frozen(
    tiles: Path, tmp_path: Path, squeezenet: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    zero = [
        *squeezenet,
        "model.first_conv=zero",
        "evaluate.rgb_only=false",
        "evaluate.baselines=false",
    ]
    assert run(tiles, tmp_path / "a", *zero, "strategy=finetune") == 2
    assert "start at zero) and cannot be frozen" in capsys.readouterr().err
    assert run(tiles, tmp_path / "b", *zero) == 0
    assert run(tiles, tmp_path / "c", *zero, "strategy=full") == 0


def test_tiles_too_small_for_a_network_are_refused_before_training(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inception = [
        "model.backbone=inception_v3",
        "probe.views=1",
        "probe.head=logistic",
        "evaluate.explain=false",
    ]
    assert run(tiles, tmp_path / "a", *inception) == 2
    message = capsys.readouterr().err
    assert "32x32 px are too small: inception_v3 up to mixed7 needs 75 px" in message
    assert "model.input_px to [75] or more, or model.truncate_after" in message
    assert not (tmp_path / "a" / "draws").exists()
    assert run(tiles, tmp_path / "a", *inception, "model.input_px=[80,70]") == 2
    assert run(tiles, tmp_path / "a", *inception, "model.input_px=[75]") == 0
    assert run(tiles, tmp_path / "b", *inception, "model.truncate_after=mixed5") == 0


def test_the_coreset_in_the_model_file_belongs_to_its_labels(tiles: Path, tmp_path: Path) -> None:
    assert run(tiles, tmp_path / "run", "strategy=probe", "split.shots=8") == 0
    held = load(tmp_path / "run" / "model.safetensors")
    with torch.no_grad():
        said = (
            held.network.classify(torch.from_numpy(held.training_samples.features))
            .argmax(1)
            .numpy()
        )
    assert len(set(held.training_samples.labels.tolist())) == 3
    assert (said == held.training_samples.labels).mean() > 0.9


def test_what_a_run_leaves_can_be_read_by_others(tiles: Path, tmp_path: Path) -> None:
    assert run(tiles, tmp_path / "run") == 0
    modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "run").iterdir() if p.is_file()}
    assert {name for name, mode in modes.items() if mode & 0o044 != 0o044} == set()


@pytest.mark.parametrize("draws", [1, 2])
@pytest.mark.rendered
def test_figures_of_one_draw_among_several_are_named_as_such(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], draws: int
) -> None:
    out, many = tmp_path / "run", draws > 1
    assert run(tiles, out, f"split.repeats={draws}", options=()) == 0
    (stand,) = (line for line in capsys.readouterr().out.splitlines() if ", validation " in line)
    assert stand.endswith(" (first draw, whose model is kept)") == many
    assert ("of the first draw" in (out / "report.html").read_text()) == many
    assert main(["inspect", str(out / "model.safetensors")]) == 0
    told, metrics = capsys.readouterr().out, json.loads((out / "metrics.json").read_text())
    assert metrics["headline"] in told
    own = "the saved model, of the first repeat: overall accuracy "
    assert (f"{own}{metrics['overall_accuracy']['value']:.3f}" in told) == many


def test_evaluate_names_classes_without_tiles(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiles, tmp_path / "run") == 0
    for name in ("field", "town"):
        (tmp_path / "two").mkdir(exist_ok=True)
        (tmp_path / "two" / name).symlink_to(tiles / name)
    assert (
        main(["evaluate", str(tmp_path / "run" / "model.safetensors"), str(tmp_path / "two")]) == 0
    )
    told = capsys.readouterr().out
    assert "water: no tiles" in told
    assert "nan" not in told
