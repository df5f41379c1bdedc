"""Synthetic tiles: who they learn from, where they may stand, and what is said of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from helpers.experiments import opened
from helpers.tiles import write_tile

from geotl.cli.main import main
from geotl.data.manifest import read_synthetic
from geotl.data.tiles import index_folder
from geotl.errors import DataError
from geotl.experiments.draws import random_draw, with_synthetic
from geotl.experiments.named import recipe_sensor
from geotl.experiments.recipe import load
from geotl.models.model_file import load as load_model
from geotl.synthetic.gan import (
    BOUND,
    Critic,
    GanSettings,
    _sameness,
    doublings,
    generated_tiles,
    train_generator,
)
from geotl.synthetic.trial import join_samples, make_tiles, novelty

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache", "unrendered")

BANDS = ["B02", "B03", "B04", "B08"]
TINY = GanSettings(steps=3, batch_size=4, width=8, latent=4)
SMALL = [
    "data.sensor=sentinel2_l2a",
    "data.bands=[B02,B03,B04,B08]",
    "model.backbone=resnet18",
    "model.truncate_after=layer1",
    "strategy=probe",
    "split.shots=4",
    "split.inner_folds=2",
]


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of noisy 16-px tiles that differ in level, ten each."""
    root, random = tmp_path_factory.mktemp("tiles"), np.random.default_rng(3)
    for k, name in enumerate(["field", "water"]):
        for i in range(10):
            level = np.array([700, 900, 800 + 300 * k, 2500 - 900 * k])[:, None, None]
            tile = (level + random.normal(0, 120, (4, 16, 16))).clip(1).astype(np.uint16)
            write_tile(root / name / f"{i}.tif", tile, names=BANDS)
    return root


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text("title: small\n")
    return path


def settings(tiles: Path, *more: str) -> list[str]:
    return [f"data.root={tiles}", *SMALL, *more]


@pytest.fixture(scope="module")
def folder(tiles: Path, recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `geotl generate` leaves; two draws, nine steps."""
    out = tmp_path_factory.mktemp("out") / "made"
    told = ["generate", str(recipe_file), *settings(tiles, "split.repeats=2")]
    assert main([*told, "--output", str(out), "--per-class", "3", "--steps", "9", "-q"]) == 0
    return out


@pytest.fixture
def prepared(tiles: Path, recipe_file: Path):
    experiment = opened(load(str(recipe_file), settings(tiles)))
    return experiment.recipe, experiment.samples, experiment.draw(0)


# --- the networks


@pytest.mark.parametrize(("bands", "px"), [(1, 8), (13, 11), (4, 16), (2, 40)])
def test_tiles_of_any_band_count_and_size(bands: int, px: int) -> None:
    real = torch.randn(6, bands, px, px, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    generator = train_generator(real, labels, 3, replace(TINY, steps=1), seed=0)
    made = generated_tiles(generator, torch.tensor([2, 0]), seed=1)
    assert made.shape == (2, bands, px, px)
    assert made.abs().max() <= BOUND
    assert doublings(px) >= 1


def test_one_seed_gives_the_same_bits_and_another_does_not() -> None:
    real = torch.randn(6, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    before = torch.get_rng_state()
    a, b, c = (
        generated_tiles(train_generator(real, labels, 2, TINY, seed=seed), labels, seed=seed)
        for seed in (0, 0, 1)
    )
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(before, torch.get_rng_state())


def test_a_generator_learns_what_tells_the_classes_apart() -> None:
    """Two even classes at -1 and +1: after 200 steps every tile lies on its class's side."""
    labels = torch.arange(16) % 2
    noise = 0.1 * torch.randn(16, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    real = (2.0 * labels - 1).view(-1, 1, 1, 1) + noise
    told = GanSettings(steps=200, batch_size=8, width=8, latent=4, lr=1e-3)
    made = generated_tiles(train_generator(real, labels, 2, told, seed=0), labels, seed=5)
    level = made.mean(dim=(1, 2, 3))
    low, high = level[labels == 0], level[labels == 1]
    assert low.max() < -0.1
    assert high.min() > 0.1
    assert float(low.mean()) == pytest.approx(-1, abs=0.6)
    assert float(high.mean()) == pytest.approx(1, abs=0.6)


def test_the_loss_of_sameness_is_for_tiles_that_ignore_their_noise() -> None:
    noise = torch.tensor([[0.0], [1.0]])
    alike, apart = torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)
    apart[1] = 1.0
    assert float(_sameness(alike, noise)) == pytest.approx(10.0)
    assert float(_sameness(apart, noise)) == pytest.approx(1 / 1.1)


def test_every_layer_of_the_critic_has_spectral_norm_one() -> None:
    torch.manual_seed(0)
    critic = Critic(3, 16, 2, TINY)
    for _ in range(30):
        critic(torch.randn(2, 3, 16, 16), torch.tensor([0, 1]))
    critic.eval()
    layers = [m for m in critic.modules() if hasattr(m, "parametrizations")]
    assert len(layers) == 4
    for layer in layers:
        first = torch.linalg.svdvals(layer.weight.detach().flatten(1))[0]
        assert float(first) == pytest.approx(1.0, abs=0.02)


def test_what_cannot_be_learnt_is_refused() -> None:
    real = torch.zeros(2, 1, 8, 8)
    with pytest.raises(DataError, match="class 1 has no tiles"):
        train_generator(real, torch.tensor([0, 0]), 2, TINY, seed=0)
    with pytest.raises(DataError, match="at least 8"):
        doublings(7)
    with pytest.raises(DataError, match="multiples of 8"):
        GanSettings(width=12)


# --- what is said of the tiles


def test_copies_are_flagged_in_any_view_and_duplicates_set_no_bar() -> None:
    random = np.random.default_rng(0)
    real = random.normal(size=(5, 30))
    real[4] = real[3]
    turned = real[:, ::-1]
    made = np.stack([turned[1] + 1e-3, real[2] + 1e-3, 5 + random.normal(size=30)])
    found = novelty(made, [real, turned], ["a", "b", "c", "d", "d"])
    assert found.copies.tolist() == [True, True, False]
    assert found.row.tolist()[:2] == [1, 2]
    assert found.closest_real > 0.5
    assert not novelty(made, [real], ["same"] * 5).copies.any()


# --- trap 8: a generator that saw validation, synthetic tiles in validation


def test_the_generator_sees_the_training_side_alone(prepared) -> None:
    """Every judged pixel altered: the tiles made are the same to the bit."""
    recipe, source, draw = prepared
    told = {"per_class": 2, "seed": recipe.seed, "progress": lambda *_: None}
    made = make_tiles(source, draw, TINY, **told)
    images = np.array(source.pack.images)
    images[draw.split.test] = 65535
    other = replace(source, pack=replace(source.pack, images=images))
    again = make_tiles(other, draw, TINY, **told)
    np.testing.assert_array_equal(made.images, again.images)
    assert set(made.sources) == {source.index.contents[i] for i in draw.split.train}
    images[draw.split.train[0]] += 500
    changed = make_tiles(other, draw, TINY, **told)
    assert not np.array_equal(made.images, changed.images)


def test_made_values_are_native_and_within_the_range_seen(prepared) -> None:
    _, source, draw = prepared
    made = make_tiles(source, draw, TINY, per_class=4, seed=0, progress=lambda *_: None)
    seen = np.array(source.pack.images)[draw.split.train]
    assert made.images.dtype == seen.dtype == np.uint16
    for band in range(4):
        assert made.images[:, band].min() >= seen[:, band].min()
        assert made.images[:, band].max() <= seen[:, band].max()


def joined(prepared, tmp_path: Path):
    _, source, draw = prepared
    made = make_tiles(source, draw, TINY, per_class=2, seed=0, progress=lambda *_: None)
    return made, *join_samples(source, draw, made, tmp_path / "pack")


def test_synthetic_tiles_join_the_training_side_and_no_fold(prepared, tmp_path: Path) -> None:
    made, source, alone = joined(prepared, tmp_path)
    both = with_synthetic(alone, source)
    new = np.setdiff1d(both.split.train, alone.split.train)
    np.testing.assert_array_equal(source.pack.images[new], made.images)
    np.testing.assert_array_equal(source.labels[new], made.labels)
    np.testing.assert_array_equal(both.split.test, alone.split.test)
    touched = np.concatenate([part for fold in both.folds for part in fold])
    assert not np.isin(both.split.train[touched], new).any()
    np.testing.assert_array_equal(source.real.pack.images, source.pack.images[: -len(new)])


def test_trap_8_a_synthetic_tile_on_the_judged_side_is_an_error(prepared, tmp_path: Path) -> None:
    _, source, alone = joined(prepared, tmp_path)
    last = len(source.index) - 1
    wrong = replace(alone, split=replace(alone.split, test=np.append(alone.split.test, last)))
    with pytest.raises(DataError, match="a synthetic tile is a test tile"):
        with_synthetic(wrong, source)


def test_trap_8_a_generator_that_saw_a_judged_tile_is_an_error(prepared, tmp_path: Path) -> None:
    _, source, alone = joined(prepared, tmp_path)
    tiles = list(source.index.tiles)
    judged = tiles[alone.split.test[0]].content
    tiles[-1] = replace(tiles[-1], sources=tiles[-1].sources | {judged})
    index = replace(source.index, tiles=tuple(tiles))
    with pytest.raises(
        DataError, match=r"1 tiles outside the training side.* 1 of them test tiles"
    ):
        with_synthetic(alone, replace(source, index=index))


def test_trap_8_marked_files_are_found_wherever_tiles_are_listed(
    folder: Path, tiles: Path, tmp_path: Path, recipe_file: Path, capsys
) -> None:
    """One synthetic tile under another name among real ones: no split ever sees it."""
    root = tmp_path / "tiles"
    for path in sorted(tiles.rglob("*.tif")):
        copy = root / path.relative_to(tiles)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    assert len(index_folder(root)) == 20
    smuggled = root / "water" / "innocent.tif"
    smuggled.write_bytes((folder / "water" / "synthetic_0000.tif").read_bytes())
    with pytest.raises(DataError, match=r"innocent\.tif: a synthetic tile, one of 1 among 21"):
        index_folder(root)
    assert main(["run", str(recipe_file), *settings(root), "--output", str(tmp_path / "r")]) == 2
    assert "data.synthetic" in capsys.readouterr().err
    smuggled.unlink()
    (root / "tiles.csv").write_text("path,synthetic\nwater/3.tif,true\n")
    with pytest.raises(DataError, match=r"line 2 marks 'water/3\.tif' synthetic"):
        index_folder(root)
    assert main(["run", str(recipe_file), *settings(folder / "tiles.csv"), "-q"]) == 2
    error = capsys.readouterr().err
    assert error.count("synthetic;") == 1
    assert "(6 lines have this fault: 2, 3, 4, 5, 6 and more)" in error


# --- the command


def test_the_folder_tells_everything(folder: Path, tiles: Path) -> None:
    assert {p.name for p in folder.iterdir()} == {
        "field",
        "water",
        "tiles.csv",
        "sources.txt",
        "sheet.png",
        "generation.json",
        "recipe.yaml",
    }
    sources = (folder / "sources.txt").read_text().split()
    assert len(sources) == 8
    assert set(sources) <= set(index_folder(tiles).contents)
    with rasterio.open(folder / "water" / "synthetic_0002.tif") as file:
        assert file.tags()["GEOTL_SYNTHETIC"] == "generator"
        assert file.tags()["GEOTL_SOURCES"].split() == [one[:16] for one in sources]
        assert list(file.descriptions) == BANDS
        assert (file.dtypes[0], file.crs) == ("uint16", None)
    told = json.loads((folder / "generation.json").read_text())
    assert (told["tiles"], told["training_tiles"], len(told["accuracy"])) == (6, 8, 2)
    assert told["gain"]["word"] in ("gained", "not gained")
    assert set(told["features"]["diversity"]) == {"field", "water"}
    assert told["pixels"]["closest_real_pair"] > 0
    sensor = recipe_sensor(load(str(folder / "recipe.yaml"), []))
    found = read_synthetic(folder, ["field", "water"], sensor)
    assert [tile.label for tile in found] == [0, 0, 0, 1, 1, 1]
    assert all(tile.sources == frozenset(sources) for tile in found)


@pytest.mark.rendered
def test_the_same_seed_makes_the_same_files(
    folder: Path, tiles: Path, recipe_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "again"
    told = ["generate", str(recipe_file), *settings(tiles), "--output", str(out)]
    assert main([*told, "--per-class", "3", "--steps", "9", "--repeats", "1"]) == 0
    for path in sorted(folder.rglob("synthetic_*.tif")):
        assert (out / path.relative_to(folder)).read_bytes() == path.read_bytes()
    assert main([*told, "--steps", "1"]) == 2  # not into a folder that holds something


def test_a_recipe_learns_from_them_and_never_judges_on_them(
    folder: Path, tiles: Path, recipe_file: Path, tmp_path: Path, capsys
) -> None:
    made = Path(shutil.copytree(folder, tmp_path / "made"))
    more = [f"data.synthetic={made}", "evaluate.bootstrap_rounds=20", "evaluate.explain=false"]
    told = ["run", str(recipe_file), *settings(tiles, *more), "--output"]
    assert main([*told, str(tmp_path / "run")]) == 0
    assert "6 synthetic tiles" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["tiles"] == 12
    assert "synthetic" not in (tmp_path / "run" / "predictions.csv").read_text()
    kept = load_model(tmp_path / "run" / "model.safetensors").training_samples
    assert (len(kept.examples), len(kept.features), len(kept.footprints)) == (8, 8, 14)
    assert main([*told, str(tmp_path / "two"), "split.repeats=2"]) == 2
    assert "generator was trained on one draw" in capsys.readouterr().err
    assert main([*told, str(tmp_path / "other"), "seed=1"]) == 2
    assert "tiles outside the training side of draw 1" in capsys.readouterr().err
    (made / "sources.txt").write_text("0" * 64)
    assert main([*told, str(tmp_path / "three")]) == 2
    assert "names other sources" in capsys.readouterr().err


def test_they_change_what_is_learnt(
    folder: Path, tiles: Path, recipe_file: Path, tmp_path: Path
) -> None:
    told = ["run", str(recipe_file), *settings(tiles, "evaluate.bootstrap_rounds=20"), "-q"]
    told += ["evaluate.explain=false", "--output"]
    heads = []
    for name, more in (("without", []), ("with", [f"data.synthetic={folder}"])):
        assert main([*told, str(tmp_path / name), *more]) == 0
        model = load_model(tmp_path / name / "model.safetensors")
        heads.append(model.network.head.weight.detach().numpy())
    assert not np.allclose(*heads)


def test_the_random_split_beside_a_spatial_one_goes_without_them(prepared, tmp_path: Path) -> None:
    recipe, _, _ = prepared
    made, source, alone = joined(prepared, tmp_path)
    other = random_draw(recipe, source, with_synthetic(alone, source))
    used = np.concatenate([other.split.train, other.split.test])
    assert used.max() < len(source.index) - len(made.labels)
    assert len(other.split.train) == len(alone.split.train)


@pytest.mark.parametrize("option", ["--per-class", "--steps", "--test-tiles", "--repeats"])
def test_options_out_of_range_are_told(option: str, tiles: Path, recipe_file, capsys) -> None:
    assert main(["generate", str(recipe_file), *settings(tiles), option, "0", "-q"]) == 2
    assert f"{option}: given 0" in capsys.readouterr().err


def test_a_curve_refuses_them(folder: Path, tiles: Path, recipe_file: Path, capsys) -> None:
    told = ["curve", str(recipe_file), *settings(tiles, f"data.synthetic={folder}"), "-q"]
    assert main([*told, "--output", str(folder.parent / "curve")]) == 2
    assert "small sets of a curve" in capsys.readouterr().err
