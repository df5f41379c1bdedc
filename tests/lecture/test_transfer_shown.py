"""Transfer: the source network, and claims that a broken technique must not pass."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.demonstrations import claims_seen

from geotl.errors import ModelError
from geotl.lecture import freezing, search, stages, transfer
from geotl.lecture.figures import MeanChange
from geotl.lecture.recipes import Transferred
from geotl.lecture.samples import draw, sample
from geotl.models.backbone import first_conv_of, freeze
from geotl.models.classifier import FeatureSpec, Normalise, TileClassifier
from geotl.models.registry import build_backbone

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("GEOTL_DATA", ROOT.parent / "shared" / "data"))
IMAGENET = DATA / "weights" / "resnet18-imagenet1k_v1-conv1_to_layer3.pth"
SMALL = {"shots": 2, "test_tiles": 18, "seeds": 2, "epochs": 2}
BANDS = list(transfer.SOURCE_BANDS)


pytestmark = pytest.mark.usefixtures("lecture_cache")


@pytest.fixture(scope="module")
def transferred() -> Transferred:
    return Transferred(**SMALL, cut_after="layer1", input_px=16)


@pytest.fixture(scope="module")
def maker():
    """The script that makes the source network."""
    here = ROOT / "sample_tiles"
    pytest.importorskip("geopandas", reason="the sample tiles' script needs geopandas")
    sys.path.insert(0, str(here))
    try:
        path = here / "make_source_network.py"
        spec = importlib.util.spec_from_file_location("make_source_network", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(here))
    return module


def test_the_source_network_fits_what_its_script_builds(maker) -> None:
    tiles = torch.randn(8, 4, 40, 40, generator=torch.Generator().manual_seed(0))
    made = maker.source_network(tiles, torch.arange(8), epochs=1).state_dict()
    shipped = transfer.source_state()
    floats = {name: value.shape for name, value in made.items() if value.is_floating_point()}
    assert {name: value.shape for name, value in shipped.items()} == floats
    assert tuple(maker.USED) == transfer.SOURCE_BANDS
    assert maker.BACKBONE == transfer.SOURCE_BACKBONE
    assert transfer.SOURCE_STAGES[-1] == maker.LAST


def test_the_scripts_patterns_are_of_their_directions(maker) -> None:
    image, labels = maker.oriented(np.random.default_rng(0), 400)
    assert image.shape == (400, 4, 28, 28)
    assert set(labels.tolist()) == set(range(maker.KINDS * maker.DIRECTIONS))
    upright = image[labels == 0].mean(dim=1)  # an edge across x
    down, right = (upright.diff(dim=d).abs().mean() for d in (1, 2))
    assert down.shape == right.shape
    steps = [upright.mean(dim=3 - d).diff(dim=1).abs().mean() for d in (1, 2)]
    assert steps[1] > 2 * steps[0]


def test_the_source_networks_kernels_show_edges_and_random_ones_do_not() -> None:
    backbone, _ = build_backbone("resnet18", BANDS, cut_after="layer2")
    random = stages.coherence(first_conv_of(backbone).weight.detach()).mean()
    transfer.load_source(backbone)
    shown = stages.coherence(first_conv_of(backbone).weight.detach()).mean()
    assert random < 0.35
    assert shown > 0.6


def test_the_source_network_is_refused_by_another_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, bands, cut in (
        ("resnet34", BANDS, "layer1"),
        ("resnet18", BANDS[:3], "layer1"),
        ("resnet18", BANDS, "layer3"),
    ):
        backbone, _ = build_backbone(name, bands, cut_after=cut)
        with pytest.raises(ModelError, match="give weights=FILE"):
            transfer.load_source(backbone)
    monkeypatch.setattr(transfer, "SOURCE_SHA256", "0" * 64)
    with pytest.raises(ModelError, match="not the file that came with geotl"):
        transfer.source_state()


@pytest.mark.skipif(not IMAGENET.is_file(), reason="no ImageNet weights beside the project")
def test_an_imagenet_file_shows_edges_too() -> None:
    numbers = Transferred(**SMALL, weights=str(IMAGENET))
    source, rows = sample("target", numbers.bands), draw(numbers, 0).split
    model = transfer.started(numbers, source, rows.train, 0, pretrained=True)
    assert stages.coherence(first_conv_of(model.backbone).weight.detach()).mean() > 0.45


def test_a_frozen_stage_stays_and_one_that_is_let_go_is_told(
    transferred: Transferred, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = transferred.model_copy(update={"seeds": 1})
    assert claims_seen(search.search_space(one))["frozen"]
    monkeypatch.setattr(transfer, "freeze", lambda backbone, upto: freeze(backbone, None))
    loose = transfer.trained(transferred, 0, pretrained=True, upto=None)
    assert transfer.distances(loose[0], loose[1].last)["stem"] > 0
    assert not search._same_state(loose[0], loose[1].last, "stem")


def test_both_arms_share_head_draw_and_order_and_differ_in_the_backbone(
    transferred: Transferred,
) -> None:
    source = sample(transferred.region, transferred.bands)
    rows = draw(transferred, 0).split
    random = transfer.started(transferred, source, rows.train, 0, pretrained=False)
    tuned = transfer.started(transferred, source, rows.train, 0, pretrained=True)
    assert torch.equal(random.head.weight, tuned.head.weight)
    first = "stages.stem.conv1.weight"
    assert not torch.equal(random.backbone.state_dict()[first], tuned.backbone.state_dict()[first])
    groups = [source.index.tiles[i].group for i in rows.train]
    assert not set(groups) & {source.index.tiles[i].group for i in rows.test}


def test_trainable_parameters_of_resnet18_by_freezing_depth() -> None:
    backbone, _ = build_backbone("resnet18", ["red", "green", "blue"])
    model = TileClassifier(backbone, Normalise([0.0] * 3, [1.0] * 3), FeatureSpec(("layer4",)), 10)
    for upto, wanted in (("layer4", 5_130), ("layer3", 8_398_858)):
        freeze(model.backbone, upto, allow_random=True)
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == wanted


def test_coherence_tells_an_edge_from_noise_and_a_blob() -> None:
    edge = torch.sign(torch.arange(7.0) - 3).expand(1, 4, 7, 7)
    slanted = (torch.arange(7.0)[:, None] + torch.arange(7.0)).tanh().expand(1, 1, 7, 7)
    noise = torch.randn(200, 4, 7, 7, generator=torch.Generator().manual_seed(0))
    y, x = torch.meshgrid(torch.arange(-3.0, 4), torch.arange(-3.0, 4), indexing="ij")
    blob = torch.exp(-(x * x + y * y) / 4).expand(1, 1, 7, 7)
    assert stages.coherence(edge)[0] == pytest.approx(1)
    assert stages.coherence(slanted)[0] > 0.95
    assert stages.coherence(noise).mean() < 0.3
    assert stages.coherence(blob)[0] < 0.2


@dataclasses.dataclass
class Fit:
    epochs: list[dict[str, float]]
    train: float
    test: float

    @property
    def gap(self) -> float:
        return self.train - self.test


def fits(first: float, last: float) -> list[Fit]:
    """Three trainings of two epochs, with these test accuracies."""
    return [
        Fit(
            [{"epoch": e, "val_accuracy": v + 0.01 * s} for e, v in enumerate((first, last))],
            1.0,
            last + 0.01 * s,
        )
        for s in range(3)
    ]


def test_weights_that_help_nothing_do_not_pass() -> None:
    numbers = Transferred(goal=0.6, epochs=2)
    random, tuned = fits(0.2, 0.5), fits(0.6, 0.8)
    apart = MeanChange.of([0.4, 0.5, 0.45], [0.1, 0.2, 0.12])
    assert all(claims_seen(transfer.transfer_shown(numbers, (random, tuned), apart)).values())
    same = MeanChange.of(apart.off, apart.off)
    assert not any(claims_seen(transfer.transfer_shown(numbers, (random, random), same)).values())


def test_one_valley_passes_and_two_do_not() -> None:
    far, near = np.array([1.2, 1.2, 1.21]), np.array([0.3, 0.31, 0.3])
    flat = np.full((3, 9), 0.95)
    deep = flat - 0.6 * np.sin(np.linspace(0, np.pi, 9)) * np.array([[0.9], [1.0], [0.95]])
    one = search.space_shown(np.stack([deep, flat], 1), np.stack([far, near], 1), [0.0], [True])
    assert claims_seen(one) == {"smaller": True, "frozen": True}
    two = search.space_shown(np.stack([deep, deep], 1), np.stack([far, near], 1), [0.1], [True])
    assert claims_seen(two) == {"smaller": False, "frozen": False}


def test_the_way_between_a_network_and_itself_is_level(transferred: Transferred) -> None:
    source, rows = sample(transferred.region, transferred.bands), draw(transferred, 0).split
    model = transfer.started(transferred, source, rows.train, 0, pretrained=True)
    assert len(set(search.road(transferred, 0, model, model))) == 1
    assert search.distance(model, model) == 0


def test_freezing_that_costs_or_saves_nothing_does_not_pass() -> None:
    test = np.array([[0.70, 0.71, 0.70, 0.5], [0.72, 0.72, 0.73, 0.5], [0.74, 0.74, 0.74, 0.55]])
    names = ("stem", "layer1", "layer2")
    good = freezing.freezing_shown(names, test, [400, 300, 200, 100], [4.0, 3.0, 2.0, 1.0])
    assert claims_seen(good) == {"time": True, "generic": True, "specific": True}
    turned = freezing.freezing_shown(names, test[:, [0, 1, 3, 2]], [400] * 4, [1.0] * 4)
    assert claims_seen(turned) == {"time": False, "generic": False, "specific": False}


def test_a_training_step_counts_fewer_operations_when_stages_are_frozen(
    transferred: Transferred,
) -> None:
    source, rows = sample(transferred.region, transferred.bands), draw(transferred, 0).split.train
    counts = []
    for upto in (None, "stem", "layer1"):
        model = transfer.started(transferred, source, rows, 0, pretrained=True)
        freeze(model.backbone, upto)
        model.frozen_until = upto
        counts.append(freezing.TrainingStep(model, source, rows).operations())
    assert counts[0] > counts[1] > counts[2] > 0


def test_probes_that_gain_alike_at_every_stage_do_not_pass() -> None:
    rng = np.random.default_rng(0)
    random = 0.5 + 0.01 * rng.standard_normal((2, 6, 3))
    gained = random + np.array([0.02, 0.1, 0.3])
    names = ("stem", "layer1", "layer2")
    assert claims_seen(stages.probes_shown(names, np.stack([random, gained]))) == {
        "generic": True,
        "specific": True,
    }
    alike = np.repeat(random[:, :, :1], 3, axis=2) + np.array([0.0, 0.0, 0.0])
    assert claims_seen(stages.probes_shown(names, np.stack([alike, alike + 0.1]))) == {
        "generic": False,
        "specific": False,
    }


def test_kernels_without_edges_do_not_pass() -> None:
    noise = torch.randn(32, 4, 7, 7, generator=torch.Generator().manual_seed(0))
    edges = torch.sign(torch.arange(7.0) - 3).expand(32, 4, 7, 7) + 0.1 * noise
    still, far = np.array([[0.1, 0.5], [0.12, 0.5]]), np.array([[0.5, 0.1], [0.5, 0.12]])
    assert claims_seen(stages.kernels_shown([noise, edges, edges], still)) == {
        "edges": True,
        "generic": True,
    }
    assert claims_seen(stages.kernels_shown([noise, noise, noise], far)) == {
        "edges": False,
        "generic": False,
    }
