"""Weights that torchgeo publishes: found by name, their bands, their scaling, their credit."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.models
from helpers.experiments import quietly, samples_of
from helpers.hub_cache import make_file, own_hub
from helpers.tiles import write_tile
from helpers.timm_models import drawn

import geotl
from geotl.cli.main import main
from geotl.errors import ModelError, RecipeError, WeightsError
from geotl.experiments.build import build_network
from geotl.experiments.recipe import load
from geotl.imagery.sensors import SENSORS, custom_sensor
from geotl.io.files import sha256_of
from geotl.models.model_file import read_header
from geotl.models.normalisation import IMAGENET, Normalisation, as_dn, from_dn
from geotl.models.pretrained import _torchgeo_file, published_file, torchgeo_names
from geotl.models.receptive_field import receptive_fields
from geotl.models.registry import REGISTRY, build_backbone, describe_backbone, freeze, get_backbone
from geotl.models.weight_loading import InitialWeights

models = pytest.importorskip("torchgeo.models", reason="needs the extra torchgeo")

KNOWN_SETS = (
    "SSL4EO-S12",
    "SSL4EO-L",
    "fMoW Dataset",
    "SeCo Dataset",
    "SSL4Eco Dataset",
    "CrisisLandMark",
)
# torchgeo's entry -> (sensor of its bands, what a number in its files measures)
TOA, SR, KELVIN = (0.4 / 256, 0.0), (0.3 / 256, 0.0), (70 / 256, 248.15)
ENTRIES = {
    "SENTINEL2_RGB_MOCO": ("sentinel2_l1c", [(1e-4, 0.0)] * 3),
    "SENTINEL2_ALL_MOCO": ("sentinel2_l1c", [(1e-4, 0.0)] * 13),
    "LANDSAT_TM_TOA_MOCO": ("landsat5_toa", [*[TOA] * 5, KELVIN, TOA]),
    "LANDSAT_ETM_TOA_SIMCLR": ("landsat7_toa", [*[TOA] * 5, KELVIN, KELVIN, TOA, TOA]),
    "LANDSAT_ETM_SR_MOCO": ("landsat7_sr", [SR] * 6),
    "LANDSAT_OLI_TIRS_TOA_MOCO": ("landsat8_toa", [*[TOA] * 9, KELVIN, KELVIN]),
    "LANDSAT_OLI_SR_SIMCLR": ("landsat8_sr", [SR] * 7),
}
RADAR = custom_sensor("radar", [{"name": "VV"}, {"name": "VH"}], 0.01, -50.0, measures="decibel")
GROUPS = [
    "ResNet18_Weights",
    "ResNet50_Weights",
    "ResNet152_Weights",
    "ViTSmall16_Weights",
    "ViTBase16_Weights",
    "ViTLarge16_Weights",
    "ViTHuge14_Weights",
    "ViTSmall14_DINOv2_Weights",
    "ViTBase14_DINOv2_Weights",
    "Swin_V2_T_Weights",
    "Swin_V2_B_Weights",
]


@pytest.fixture(scope="module", autouse=True)
def hub(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOTL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield own_hub(tmp_path_factory.mktemp("hub"), patch)


def cached(hub: Path, entry, **options):
    """The file of an entry, made in the cache, and the backbone it holds."""
    path = hub / Path(entry.url).name
    bands = entry.meta.get("bands") or ("red", "green", "blue")
    return path, make_file(path, [str(band) for band in bands], **options)


def normalise_steps(entry) -> torch.nn.Sequential:
    return torch.nn.Sequential(*(t for t in entry.transforms if type(t).__name__ == "Normalize"))


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_weights_of_each_sensor_meet_their_own_bands_and_numbers(hub, name):
    entry = models.ResNet18_Weights[name]
    path, made = cached(hub, entry)
    sensor = SENSORS[ENTRIES[name][0]]
    bands = sensor.canonical(entry.meta["bands"])
    network, report = build_backbone(
        "resnet18",
        bands,
        sensor.wavelengths(bands),
        initial=InitialWeights(f"torchgeo:ResNet18_Weights.{name}"),
        cut_after="layer1",
    )
    assert report.sha256 == sha256_of(path)
    assert report.source == f"torchgeo:ResNet18_Weights.{name}"
    assert all(
        torch.equal(value, network.state_dict()[key]) for key, value in made.state_dict().items()
    )
    freeze(network, "layer1")
    assert entry.meta["publication"] in report.summary()
    assert entry.meta["dataset"] in json.dumps(report.provenance())

    # torchgeo's transforms on its own numbers, ours on what the tiles' sensor writes for them
    own = torch.rand(1, len(bands), 4, 4, generator=torch.Generator().manual_seed(1)) * 255
    measured = torch.stack([own[0, i] * by + zero for i, (by, zero) in enumerate(ENTRIES[name][1])])
    expected = normalise_steps(entry)(own.clone())[0]
    mean, sd = as_dn(report.normalisation, sensor, bands, eight_bit=False)
    for i in range(len(bands)):
        dn = (measured[i] - sensor.offset) / sensor.scale
        np.testing.assert_allclose((dn - mean[i]) / sd[i], expected[i], atol=1e-4)


def test_other_bands_and_orders_are_met_by_wavelength(hub):
    _, made = cached(hub, models.ResNet18_Weights.SENTINEL2_ALL_MOCO)
    kernels = made.state_dict()["stages.stem.conv1.weight"]

    def first(sensor: str, *names: str) -> torch.Tensor:
        bands = SENSORS[sensor].canonical(names)
        network, report = build_backbone(
            "resnet18",
            bands,
            SENSORS[sensor].wavelengths(bands),
            initial=InitialWeights("torchgeo:ResNet18_Weights.SENTINEL2_ALL_MOCO"),
            cut_after="stem",
        )
        assert report.count("adapted") == 1
        return network.state_dict()["stages.stem.conv1.weight"]

    every = SENSORS["sentinel2_l1c"].names
    assert torch.equal(first("sentinel2_l1c", *every[::-1]), kernels.flip(1))
    # B4 is red on Landsat 8 and infrared on Landsat 5, whatever Sentinel-2 calls B04
    eight = first("landsat8_sr", "B2", "B3", "B4")
    five = first("landsat5_sr", "B2", "B3", "B4")
    red, green, nir = every.index("B04"), every.index("B03"), every.index("B08")
    assert torch.equal(eight[:, 1], kernels[:, green])
    assert within(eight[:, 2], kernels[:, red])
    assert within(five[:, 1], kernels[:, red])
    assert within(five[:, 2], kernels[:, nir])
    assert not within(five[:, 2], kernels[:, red])


def within(mixed: torch.Tensor, kernel: torch.Tensor) -> bool:
    """Whether one kernel has a part in a mixture of kernels that are independent of each other."""
    return float(torch.corrcoef(torch.stack([mixed.flatten(), kernel.flatten()]))[0, 1]) > 0.15


@pytest.mark.parametrize("group", GROUPS)
def test_every_entry_of_torchgeo_says_which_bands_it_is_for(group, monkeypatch):
    """No file is read: the tables here must know every entry that the library has."""
    monkeypatch.setattr("geotl.models.pretrained._cached_file", lambda entry, source, known: known)
    units = set()
    for entry in getattr(models, group):
        known = _torchgeo_file(entry)
        assert len(known.bands) == len(set(known.bands)) == entry.meta["in_chans"]
        optical = entry.name.startswith(("SENTINEL2", "LANDSAT", "FMOW", "NAIP"))
        optical &= not entry.name.startswith(("LANDSAT_MI", "LANDSAT_SI"))
        placed = [
            nm is not None
            for name, nm in zip(known.bands, known.wavelengths, strict=True)
            if name != "NDVI"
        ]
        assert all(placed) == optical
        if entry.meta["dataset"] in KNOWN_SETS and (optical or "CLOSP" not in entry.name):
            of = zip(known.bands, known.units, strict=True)
            assert [band for band, unit in of if unit == "unknown"] in ([], ["NDVI"])
        units |= set(known.units)
    assert units - {"unknown"}
    backbone = group.removesuffix("_Weights").lower()
    if backbone in REGISTRY:
        listed = {f"torchgeo:{entry}" for entry in getattr(models, group)}
        assert set(torchgeo_names(REGISTRY[backbone])) == listed
        assert all(name in describe_backbone(backbone) for name in listed)


# names


def test_a_bare_name_means_torchgeo_only_where_torchvision_has_none(hub):
    cached(hub, models.ResNet18_Weights.SENTINEL2_RGB_MOCO)
    spec = get_backbone("resnet18")
    assert published_file(spec, "ResNet18_Weights.SENTINEL2_RGB_MOCO").source.startswith("torchgeo")
    with pytest.raises(WeightsError, match=r"resnet18-f37072fd\.pth"):  # torchvision's own
        published_file(spec, "ResNet18_Weights.IMAGENET1K_V1")
    with pytest.raises(WeightsError, match=r"IMAGENET1K_V1.*did you mean 'SENTINEL2_ALL_MOCO'"):
        published_file(spec, "torchgeo:ResNet18_Weights.SENTINEL2_ALL_MOCA")
    with pytest.raises(WeightsError, match=r"none of resnet18's.*for$"):
        published_file(spec, "torchgeo:ResNet50_Weights.SENTINEL2_ALL_MOCO")


def test_without_torchgeo_the_remedy_is_one_line(hub, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "torchgeo", None)
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"data: {{root: {tiles_in(tmp_path / 'tiles')}, sensor: sentinel2_l2a}}\n")
    for name in ("torchgeo:ResNet18_Weights.SENTINEL2_ALL_MOCO", "ResNet18_Weights.ANY"):
        given = [f"model.weights={name}", "data.bands=B02,B03,B04,B08", "split.inner_folds=2"]
        out = str(tmp_path / name.partition(".")[2])
        assert main(["run", str(recipe), *given, "--output", out, "-q"]) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        assert "pip install 'geotl[torchgeo]'" in message
        assert name in message
    assert torchgeo_names(get_backbone("lenet5")) == ()


def test_a_file_that_is_not_there_or_not_whole_is_named(hub):
    entry = models.ResNet18_Weights.LANDSAT_TM_TOA_SIMCLR
    path = hub / Path(entry.url).name
    bands = SENSORS["landsat5_toa"].names
    options = {"initial": InitialWeights(f"torchgeo:{entry}"), "cut_after": "layer1"}
    with pytest.raises(WeightsError, match=rf"put the file at {path}") as caught:
        build_backbone("resnet18", bands, **options)
    assert "\n" not in str(caught.value)
    path.write_bytes(b"cut short")
    with pytest.raises(WeightsError, match="damaged"):
        build_backbone("resnet18", bands, **options)
    make_file(path, ["a", "b", "c"])
    with pytest.raises(WeightsError, match="takes 3 bands, not the 7 it is for"):
        build_backbone("resnet18", bands, **options)


# the weights' own normalisation


def test_imagenets_figures_on_eight_bit_pictures_are_what_they_always_were():
    for sensor in ("rgb", "eurosat_rgb"):
        mean, sd = as_dn(IMAGENET, SENSORS[sensor], ["blue", "red"], eight_bit=True)
        assert mean == [255 * 0.406, 255 * 0.485]
        assert sd == [255 * 0.225, 255 * 0.229]


def test_figures_are_met_by_name_by_wavelength_or_because_all_share_them():
    known = Normalisation(
        ("B04", "x"), (664.6, None), (0.1, 0.2), (0.5, 0.6), ("reflectance", "reflectance")
    )
    assert as_dn(known, SENSORS["sentinel2_l2a"], ["B04"], eight_bit=False) == ([1000.0], [5000.0])
    mean, sd = as_dn(known, SENSORS["landsat8_sr"], ["red"], eight_bit=False)
    assert mean[0] * 2.75e-5 - 0.2 == pytest.approx(0.1)
    assert sd[0] * 2.75e-5 == pytest.approx(0.5)
    with pytest.raises(RecipeError, match=r"on B04, x, not on band B08; allowed: tr"):
        as_dn(known, SENSORS["sentinel2_l2a"], ["B08"], eight_bit=False)
    alike = from_dn(SENSORS["sentinel2_l1c"], ["B02", "B03"], [0.0, 0.0], [1e4, 1e4])
    assert as_dn(alike, SENSORS["planetscope8"], ["yellow"], eight_bit=False)[0] == [0.0]
    with pytest.raises(RecipeError, match="not on band B6"):
        as_dn(alike, SENSORS["landsat5_toa"], ["B6"], eight_bit=False)


@pytest.mark.parametrize(
    ("known", "sensor", "band", "eight_bit", "says"),
    [
        (IMAGENET, "sentinel2_l2a", "B04", False, "shares of the full scale.*with reflectance"),
        (IMAGENET, "naip", "nir", True, "not on band nir"),
        (
            "SENTINEL2_ALL_MOCO",
            "rgb",
            "red",
            True,
            "were trained on reflectance in band B04, for tiles with 8",
        ),
        ("SENTINEL1_GRD_CLOSP", "radar", "VV", False, "meaning is not published"),
        ("SENTINEL1_GRD_MOCO", "sentinel2_l2a", "B04", False, "trained on VV, VH, not on"),
    ],
)
def test_figures_that_do_not_apply_are_one_clear_line(hub, known, sensor, band, eight_bit, says):
    if isinstance(known, str):
        entry = models.ResNet50_Weights[known]
        cached(hub, entry, network="resnet50")
        known = published_file(get_backbone("resnet50"), f"torchgeo:{entry}").normalisation
    with pytest.raises(RecipeError, match=rf"model\.normalise: given weights.*{says}") as caught:
        as_dn(known, {**SENSORS, "radar": RADAR}[sensor], [band], eight_bit=eight_bit)
    assert "allowed: training" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["SENTINEL2_ALL_CLOSP", "SENTINEL2_ALL_NDVI_SECO_ECO"])
def test_sets_of_surface_reflectance_are_met_by_surface_reflectance(hub, name):
    """What torchgeo's transforms make of a DN, ours make of the same reflectance."""
    entry = models.ResNet50_Weights[name]
    cached(hub, entry, network="resnet50")
    known = published_file(get_backbone("resnet50"), f"torchgeo:{entry}").normalisation
    mean, sd = as_dn(known, SENSORS["sentinel2_l2a_n0400"], ["B04", "B8A"], eight_bit=False)
    np.testing.assert_allclose(mean, [1000.0, 1000.0])  # reflectance 0 since baseline 04.00
    np.testing.assert_allclose(sd, [10_000.0, 10_000.0])


def test_seco_is_standardised_as_its_authors_did(hub):
    """8 bits of reflectance 0 to 1, stretched from each band's own quantiles, then ImageNet's."""
    entry = models.ResNet18_Weights.SENTINEL2_RGB_SECO
    cached(hub, entry)
    known = published_file(get_backbone("resnet18"), f"torchgeo:{entry}").normalisation
    bands = ["B02", "B03", "B04"]
    mean, sd = as_dn(known, SENSORS["sentinel2_l2a"], bands, eight_bit=False)
    dn = np.array([500.0, 800.0, 1200.0])
    stored = dn / 10_000 * 255
    low, high = np.array([3.0, 2.0, 0.0]), np.array([88.0, 103.0, 129.0])
    stretched = (stored - low) / (high - low)
    wanted = (stretched - np.array([0.406, 0.456, 0.485])) / np.array([0.225, 0.224, 0.229])
    np.testing.assert_allclose((dn - mean) / sd, wanted, rtol=1e-9)


@pytest.mark.parametrize("name", ["SENTINEL1_GRD_MOCO", "SENTINEL1_GRD_DECUR"])
def test_radar_is_met_in_decibels(hub, name):
    entry = models.ResNet50_Weights[name]
    cached(hub, entry, network="resnet50")
    _, report = build_backbone(
        "resnet50",
        ["VH", "VV"],
        initial=InitialWeights(f"torchgeo:{entry}"),
        cut_after="layer1",
    )
    assert report.count("adapted") == 1  # the two bands in the other order
    mean, sd = as_dn(report.normalisation, RADAR, ["VH", "VV"], eight_bit=False)
    decibel = np.array([-18.0, -9.0])
    dn = (decibel + 50) / 0.01
    wanted = (decibel - np.array([-20.26, -12.59])) / np.array([5.91, 5.26])
    np.testing.assert_allclose((dn - mean) / sd, wanted, rtol=1e-6)


# transformers of timm


def vit_file(hub: Path, entry, network: str, *, leave: str = "head.", **options):
    """A file of an entry as torchgeo publishes it: timm's names, its own bands, no head."""
    made = drawn(network, in_chans=entry.meta["in_chans"], dynamic_img_size=True, **options)
    tensors = {k: v for k, v in made.state_dict().items() if not k.startswith((leave, "head."))}
    torch.save(tensors, hub / Path(entry.url).name)
    return made


def test_a_transformer_takes_torchgeos_multiband_weights(hub):
    entry = models.ViTSmall16_Weights.SENTINEL2_ALL_DINO
    made = vit_file(hub, entry, "vit_small_patch16_224")
    sensor = SENSORS["sentinel2_l2a"]
    bands = sensor.canonical(["B02", "B03", "B04", "B08"])
    backbone, report = build_backbone(
        "timm:vit_small_patch16_224",
        bands,
        sensor.wavelengths(bands),
        initial=InitialWeights(f"torchgeo:{entry}"),
    )
    assert report.count("adapted") == 1
    assert report.count("missing") == 0
    assert torch.equal(
        backbone.state_dict()["stages.block2.net.attn.qkv.weight"],
        made.state_dict()["blocks.1.attn.qkv.weight"],
    )
    assert as_dn(report.normalisation, sensor, bands, eight_bit=False) == ([0.0] * 4, [10000.0] * 4)
    assert f"torchgeo:{entry}" in describe_backbone("timm:vit_small_patch16_224")
    with pytest.raises(WeightsError, match="none of timm:vit_tiny_patch16_224's"):
        build_backbone("timm:vit_tiny_patch16_224", bands, initial=InitialWeights(f"{entry}"))


def test_a_file_without_its_last_normalisation_is_never_random(hub):
    entry = models.ViTSmall16_Weights.LANDSAT_TM_TOA_MOCO
    vit_file(hub, entry, "vit_small_patch16_224", leave="norm.")
    given = {"initial": InitialWeights(f"torchgeo:{entry}")}
    bands = SENSORS["landsat5_toa"].names
    with pytest.raises(
        WeightsError, match=r"model\.truncate_after=block12 or start them at random"
    ):
        build_backbone("timm:vit_small_patch16_224", bands, **given)
    cut, _ = build_backbone("timm:vit_small_patch16_224", bands, **given, cut_after="block12")
    assert not cut.random_stages


def test_positions_of_another_grid_are_resampled_and_said(hub):
    entry = models.ViTSmall14_DINOv2_Weights.SENTINEL2_ALL_SOFTCON
    made = vit_file(hub, entry, "vit_small_patch14_dinov2", img_size=224)
    bands = SENSORS["sentinel2_l1c"].names
    backbone, report = build_backbone(
        "timm:vit_small_patch14_dinov2", bands, initial=InitialWeights(f"torchgeo:{entry}")
    )
    assert "position embeddings: 16x16 patches, resampled to 37x37" in report.summary()
    image = torch.rand(1, 13, 224, 224)
    with torch.no_grad():
        found = backbone.eval()(image)["top"].flatten(1)
        wanted = made.forward_head(made.forward_features(image), pre_logits=True)
    assert float(torch.nn.functional.cosine_similarity(found, wanted)) > 0.99


def test_swin_takes_satlas_weights_with_their_bands_and_numbers(hub):
    entry = models.Swin_V2_T_Weights.SENTINEL2_SI_MS_SATLAS
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = torchvision.models.swin_v2_t(weights=None).eval()
        made.features[0][0] = torch.nn.Conv2d(9, 96, 4, 4)
    torch.save(made.state_dict(), hub / Path(entry.url).name)
    sensor = SENSORS["sentinel2_l1c"]
    bands = sensor.canonical(entry.meta["bands"])
    backbone, report = build_backbone(
        "swin_v2_t", bands, sensor.wavelengths(bands), initial=InitialWeights(f"torchgeo:{entry}")
    )
    image = torch.rand(2, 9, 64, 96)
    with torch.no_grad():
        outputs = backbone.eval()(image)
        wanted = made.norm(made.features(image)).permute(0, 3, 1, 2)
    assert torch.equal(outputs["top"], wanted)
    assert report.count("adapted") == report.count("missing") == 0
    mean, sd = as_dn(report.normalisation, sensor, ["B05", "B11"], eight_bit=False)
    assert mean == [0.0, 0.0]
    assert sd == [8160.0, 8160.0]
    with pytest.raises(ModelError, match="takes means or attention over the window"):
        receptive_fields(backbone)


BANDS = ["B02", "B03", "B04", "B08"]
LEVELS = np.array([400, 700, 900, 2600])


def tiles_in(root: Path, *, plus: int = 0, flip: bool = False) -> Path:
    """Two classes of constant-per-band tiles; one row of them is nodata."""
    for k, name in enumerate(["crop", "wood"]):
        for i in range(6):
            data = np.empty((4, 32, 32), np.uint16)
            data[:] = (LEVELS + 150 * k + 20 * i + plus)[:, None, None]
            data[:, 0] = 0
            names = BANDS[::-1] if flip else BANDS
            path = root / name / f"{i}.tif"
            write_tile(path, data[::-1] if flip else data, names=names)
    return root


def test_order_and_offset_leave_the_standardised_tensors_as_they_are(hub, tmp_path):
    """Trap 5: constant tiles in two orders, with and without baseline 04.00's offset."""
    entry = models.ResNet18_Weights.SENTINEL2_ALL_MOCO
    cached(hub, entry)
    seen = {}
    for sensor, plus in (("sentinel2_l2a", 0), ("sentinel2_l2a_n0400", 1000)):
        for flip in (False, True):
            root = tiles_in(tmp_path / f"{sensor}{flip}", plus=plus, flip=flip)
            recipe = tmp_path / "r.yaml"
            recipe.write_text(
                f"data: {{root: {root}, sensor: {sensor}, bands: [{', '.join(BANDS)}]}}"
            )
            told = load(
                recipe,
                [
                    f"model.weights=torchgeo:{entry}",
                    "model.normalise=weights",
                    "model.truncate_after=layer1",
                    "split.inner_folds=2",
                ],
            )
            source = samples_of(told)
            experiment = quietly(told, source)
            network, report = build_network(experiment, experiment.draw(0))
            images = torch.from_numpy(np.asarray(source.pack.images).astype(np.float32))
            seen[sensor, flip] = network.normalise(images), network.features(images)
    standard, features = seen["sentinel2_l2a", False]
    valid = standard[:, :, 1:]
    np.testing.assert_allclose(valid[0, :, 0, 0], LEVELS / 10000, atol=1e-6)
    blank = standard[0, :, 0, 0].numpy() * 10000 - LEVELS  # nodata: the training tiles' mean
    assert ((blank > 50) & (blank < 200)).all()
    for other, found in seen.values():
        torch.testing.assert_close(other, standard, atol=2e-6, rtol=0)
        torch.testing.assert_close(found, features, atol=1e-4, rtol=1e-4)
    assert "standardised as the weights' were" in report.summary()


@pytest.mark.usefixtures("unrendered")
def test_a_run_keeps_the_weights_figures_in_the_model(hub, tmp_path, capsys):
    entry = models.ResNet50_Weights.SENTINEL2_ALL_SOFTCON
    path, _ = cached(hub, entry, network="resnet50")
    old = tiles_in(tmp_path / "old")
    new = tiles_in(tmp_path / "new", plus=1000)
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"""
data: {{root: {old}, sensor: sentinel2_l2a, bands: [{", ".join(BANDS)}]}}
split: {{shots: 3, folds: 2}}
model:
  backbone: resnet50
  weights: {entry}
  sha256: {sha256_of(path)}
  cut_after: layer1
  normalise: weights
evaluate: {{bootstrap_rounds: 20, random_weights: false}}
""")
    run = ["run", str(recipe)]
    bad = [f"model.sha256={'0' * 64}", "-q", "--output", str(tmp_path / "bad")]
    assert main([*run, *bad]) == 2
    assert sha256_of(path) in capsys.readouterr().err
    assert main([*run, "-q", "--output", str(tmp_path / "run")]) == 0
    model = geotl.load(tmp_path / "run" / "model.safetensors")
    at = [list(entry.meta["bands"]).index(name) for name in ("B2", "B3", "B4", "B8")]
    own = normalise_steps(entry)[0]
    np.testing.assert_allclose(model.network.normalise.mean, np.array(own.mean)[at], rtol=1e-5)
    np.testing.assert_allclose(model.network.normalise.sd, np.array(own.std)[at], rtol=1e-5)
    weights = read_header(tmp_path / "run" / "model.safetensors")["weights"]
    assert weights["source"] == f"torchgeo:{entry}"
    assert weights["normalisation"]["units"] == ["reflectance"] * 13
    assert any("2405.20462" in note for note in weights["notes"])
    assert [file["sha256"] for file in weights["chain"]] == [sha256_of(path)]
    before = model.predict(old)
    after = model.predict(new, sensor=SENSORS["sentinel2_l2a_n0400"])
    np.testing.assert_allclose(before.logits, after.logits, atol=1e-3)


@pytest.mark.usefixtures("unrendered")
def test_a_run_on_radar_tiles_is_standardised_in_decibels(hub, tmp_path):
    entry = models.ResNet50_Weights.SENTINEL1_GRD_SOFTCON
    cached(hub, entry, network="resnet50")
    random = np.random.default_rng(1)
    for k, name in enumerate(["water", "wood"]):
        for i in range(5):
            decibel = random.normal([[[-22.0]], [[-28.0]]], 1.0, (2, 32, 32)) + 12 * k
            path = tmp_path / "tiles" / name / f"{i}.tif"
            write_tile(path, decibel.astype(np.float32), names=["VV", "VH"])
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"""
data:
  root: {tmp_path / "tiles"}
  custom_sensor: {{bands: [{{name: VV}}, {{name: VH}}], measures: decibel}}
split: {{shots: 3, folds: 2}}
model:
  backbone: resnet50
  weights: torchgeo:{entry}
  cut_after: layer1
  normalise: weights
evaluate: {{bootstrap_rounds: 20, random_weights: false, explain: false}}
""")
    assert main(["run", str(recipe), "-q", "--output", str(tmp_path / "run")]) == 0
    model = geotl.load(tmp_path / "run" / "model.safetensors")
    np.testing.assert_allclose(model.network.normalise.mean, [-12.59, -20.26], rtol=1e-6)
    assert model.predict(tmp_path / "tiles").logits.shape == (10, 2)
