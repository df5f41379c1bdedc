"""The contract: every backbone, for 1, 3, 4 and 13 bands, with and without frozen stages."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.timm_models import SMALLEST, TRANSFORMERS
from torch import nn
from torch.nn import functional as F

from geotl.errors import DataError, ModelError
from geotl.imagery.sensors import custom_sensor
from geotl.models import model_file
from geotl.models.backbone import SteadyBatchNorm2d
from geotl.models.classifier import FeatureSpec, Normalise, TileClassifier
from geotl.models.registry import (
    REGISTRY,
    Backbone,
    build_backbone,
    freeze,
    get_backbone,
    parameter_groups,
)

pytestmark = pytest.mark.usefixtures("one_thread")

SENTINEL_NM = (443, 490, 560, 665, 705, 740, 783, 842, 865, 945, 1375, 1610, 2190)
BAND_NM = {1: (None,), 3: (665, 560, 490), 4: (665, 560, 490, 842), 13: SENTINEL_NM}
CLASSES = ("a", "b", "c")
NAMES = [*sorted(REGISTRY), *SMALLEST.values()]
CASES = [(name, bands) for name in [*NAMES, *TRANSFORMERS.values()] for bands in BAND_NM]


@functools.lru_cache(maxsize=1)
def shared(name: str, bands: int) -> TileClassifier:
    """One classifier for all tests of a case: the scope of these sets them one after another."""
    nm = tuple(None if w is None else float(w) for w in BAND_NM[bands])
    backbone, _ = build_backbone(name, [f"b{i}" for i in range(bands)], nm, seed=7)
    torch.manual_seed(7)
    spec = FeatureSpec(backbone.stage_names[-2:], views=1)
    return TileClassifier(backbone, Normalise([0.5] * bands, [0.2] * bands), spec, len(CLASSES))


def tiles(backbone: Backbone, count: int = 2, less: int = 0) -> torch.Tensor:
    side = backbone.min_px - less
    generator = torch.Generator().manual_seed(3)
    return torch.rand((count, len(backbone.bands), side, side), generator=generator)


def bits(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: held.clone() for name, held in module.state_dict().items()}


def same(module: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    held = module.state_dict()
    return held.keys() == before.keys() and all(
        torch.equal(held[n].flatten().view(torch.uint8), t.flatten().view(torch.uint8))
        for n, t in before.items()
    )


def train_one_step(network: TileClassifier) -> None:
    """One step at the smallest tile, whatever train() is called, with decay where it belongs."""
    network.train()
    for stage in network.backbone.stages.values():
        stage.apply(lambda module: module.train())
    groups = parameter_groups(
        network.backbone, network.head, lr=0.01, lr_decay=0.5, weight_decay=0.1
    )
    check_groups(network, groups)
    optimiser = torch.optim.SGD(groups)
    loss = F.cross_entropy(network(tiles(network.backbone)), torch.tensor([0, 1]))
    loss.backward()
    trained = [p for group in groups for p in group["params"]]
    norm = nn.utils.clip_grad_norm_(trained, 1.0)  # deep random networks give large ones
    assert bool(torch.isfinite(norm))
    assert norm > 0
    optimiser.step()
    optimiser.zero_grad()
    network.eval()


def check_groups(network: TileClassifier, groups: list[dict]) -> None:
    """Every trainable tensor once; decay on matrices alone; rates falling from the head back."""
    given = [id(p) for group in groups for p in group["params"]]
    wanted = [id(p) for p in network.parameters() if p.requires_grad]
    assert sorted(given) == sorted(wanted)
    for group in groups:
        assert all((p.ndim >= 2) == (group["weight_decay"] == 0.1) for p in group["params"])
    rates = [group["lr"] for group in groups]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(("name", "bands"), CASES, scope="module")
def test_stages_shapes_and_the_smallest_tile(name: str, bands: int) -> None:
    spec, network = get_backbone(name), shared(name, bands)
    backbone = network.backbone.eval()
    with torch.no_grad():
        outputs = backbone(tiles(backbone))
        logits = network.eval()(tiles(backbone))
    assert tuple(outputs) == tuple(backbone.stages) == spec.stages
    assert [x.shape[1] if x.ndim == 4 else x.shape[2] for x in outputs.values()] == [*spec.channels]
    assert all(len(x) == 2 and x.shape[-1] >= 1 for x in outputs.values())
    assert all(bool(torch.isfinite(x).all()) for x in outputs.values())
    assert logits.shape == (2, len(CLASSES))
    assert outputs[spec.stages[-1]].shape[-1] == 1  # the smallest indeed
    with pytest.raises(DataError, match=f"needs {spec.min_px} px.*input_px.*truncate_after"):
        backbone(tiles(backbone, less=1))
    assert all(
        isinstance(m, SteadyBatchNorm2d)
        for m in backbone.modules()
        if isinstance(m, nn.BatchNorm2d)
    )


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "free"])
@pytest.mark.parametrize(("name", "bands"), CASES, scope="module")
def test_freezing_decay_and_the_model_file(
    name: str, bands: int, frozen: bool, tmp_path: Path
) -> None:
    network = shared(name, bands)
    backbone = network.backbone
    stages = list(backbone.stages.items())
    upto = len(stages) // 2 if frozen else 0
    last = stages[upto - 1][0] if frozen else None
    freeze(backbone, last, allow_random=True)
    network.frozen_until = last
    before = [bits(stage) for _, stage in stages]
    train_one_step(network)
    kept = [same(stage, held) for (_, stage), held in zip(stages, before, strict=True)]
    assert kept == [True] * upto + [False] * (len(stages) - upto)

    path = tmp_path / "model.safetensors"
    model_file.save(
        path, model_file.ModelFile(network, contract(network), training_samples(network))
    )
    again = model_file.load(path).network
    path.unlink()
    assert same(again, bits(network))
    assert again.frozen_until == last
    with torch.no_grad():
        image = tiles(backbone)
        torch.testing.assert_close(again(image), network(image), atol=1e-4, rtol=1e-4)


def contract(network: TileClassifier) -> model_file.Contract:
    backbone = network.backbone
    return model_file.Contract(
        backbone=backbone.name,
        cut_after=None,
        frozen_until=network.frozen_until,
        bands=backbone.bands,
        wavelengths=backbone.wavelengths,
        sensor=custom_sensor("custom", [{"name": b} for b in backbone.bands]),
        file_bands=None,
        tile_px=backbone.min_px,
        fit="pad_or_crop",
        classes=CLASSES,
        colours=("#000000",) * 3,
        spec=network.spec,
    )


def training_samples(network: TileClassifier) -> model_file.TrainingSamples:
    image = tiles(network.backbone).numpy()
    return model_file.TrainingSamples(
        examples=image,
        example_valid=np.ones(image.shape, bool),
        example_logits=np.zeros((2, 3), np.float32),
        features=np.zeros((2, 4), np.float32),
        labels=np.zeros(2, np.int64),
        folds=np.zeros(2, np.int64),
        footprints=np.zeros((2, 4)),
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_stage_knows_its_own_smallest_tile(name: str) -> None:
    """One pixel less and the stage gives nothing; or, where all is padded, less than a stride."""
    spec = get_backbone(name)
    stages = shared(name, 4).backbone.eval().stages

    def through(upto: int, side: int) -> torch.Tensor:
        x = torch.rand(1, 4, side, side)
        for stage in spec.stages[: upto + 1]:
            x = stages[stage](x)
        return x

    with torch.no_grad():
        for place, (stride, least) in enumerate(zip(spec.strides, spec.least_px, strict=True)):
            assert through(place, least).numel()
            try:
                smaller = through(place, least - 1)
            except RuntimeError:
                continue
            assert spec.family in ("resnet", "swin", "timm")
            assert smaller.shape[-1] * stride > least - 1


def test_a_backbone_cut_earlier_takes_smaller_tiles() -> None:
    cut, _ = build_backbone("inception_v3", ["a"], cut_after="mixed5")
    assert cut.min_px == 27
    assert cut.eval()(torch.rand(1, 1, 27, 27))["mixed5"].shape == (1, 288, 1, 1)
    with pytest.raises(ModelError, match="mixed5"):
        build_backbone("inception_v3", ["a"], cut_after="mixed55")
