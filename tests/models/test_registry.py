"""One contract over every backbone, its weights, and what freezing keeps."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from geotl.errors import BandError, ModelError, WeightsError
from geotl.io.files import sha256_of
from geotl.models.backbone_names import NAMES
from geotl.models.normalisation import IMAGENET
from geotl.models.registry import (
    REGISTRY,
    Backbone,
    build_backbone,
    describe_backbone,
    freeze,
    get_backbone,
    hold_batchnorm,
    parameter_groups,
)
from geotl.models.weight_loading import InitialWeights

pytestmark = pytest.mark.usefixtures("one_thread")

RGB = (("red", "green", "blue"), (665.0, 560.0, 490.0))


def bands_of(count: int) -> tuple[tuple[str, ...], tuple[float, ...]]:
    return tuple(f"b{i}" for i in range(count)), tuple(450.0 + 100 * i for i in range(count))


@pytest.fixture(scope="module", params=sorted(REGISTRY))
def network(request) -> Backbone:
    """Each backbone once, for four bands; tests leave it as they find it."""
    return build_backbone(request.param, *bands_of(4))[0].eval()


def image(bands: int, size: int = 64, count: int = 2) -> torch.Tensor:
    return torch.randn((count, bands, size, size), generator=torch.Generator().manual_seed(0))


def digest(module: nn.Module) -> str:
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        total.update(name.encode() + tensor.detach().numpy().tobytes())
    return total.hexdigest()


def train_a_little(network: Backbone, steps: int = 2) -> None:
    trainable = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trainable, lr=0.1, weight_decay=0.1)
    for _ in range(steps):
        last = list(network(image(len(network.bands), 32, 4) * 3 + 1).values())[-1]
        optimiser.zero_grad()
        last.square().mean().backward()
        optimiser.step()


def side_of(network: Backbone, least: int = 32) -> int:
    return max(least, network.min_px)


def test_a_backbone_without_seed_is_one_that_a_state_fills(network):
    """No number is drawn for it, and with a state it is the network that the state is of."""
    names, nm = bands_of(4)
    empty = Backbone(get_backbone(network.name), names, nm, seed=None).eval()
    drawn = get_backbone(network.name).draws
    assert all(tensor.is_meta != drawn for tensor in empty.state_dict().values())
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    incomplete = dict(list(state.items())[1:])
    with pytest.raises(RuntimeError, match="Missing key"):
        empty.load_state_dict(incomplete, assign=True)
    empty.load_state_dict(state, assign=True)
    pixels = image(4, side_of(network), 1)
    for stage, values in network(pixels).items():
        assert torch.equal(empty(pixels)[stage], values)


def test_strides_are_those_promised(network):
    """What convolutions without padding lose at the edges is the same for every size."""
    small, large = network(image(4, 96, 1)), network(image(4, 128, 1))
    for stage, stride in network.strides.items():
        assert large[stage].shape[-1] - small[stage].shape[-1] == 32 // stride


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_parameters_are_those_of_torchvisions_own_network(name):
    spec, own = get_backbone(name), {}
    if spec.family in ("vgg", "inception"):
        own = {"init_weights": False}
    with torch.device("meta"):
        stages = spec.build()
    count = sum(p.numel() for stage in stages.values() for p in stage.parameters())
    if name == "lenet5":
        assert count + 850 == spec.parameters == 61_706
        return
    with torch.device("meta"):
        aux = {"aux_logits": False} if spec.auxiliary else {}
        theirs = torchvision.models.get_model(name, weights=None, **own, **aux)
    named = dict(theirs.named_parameters())
    head = sum(p.numel() for n, p in named.items() if n.startswith(spec.head))
    assert count + head == sum(p.numel() for p in named.values()) == spec.parameters


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("alexnet", 61_100_840),
        ("googlenet", 6_624_904),
        ("vgg16", 138_357_544),
        ("resnet18", 11_689_512),
        ("resnet50", 25_557_032),
        ("lenet5", 61_706),
    ],
)
def test_parameters_are_the_published_number(name, parameters):
    assert get_backbone(name).parameters == parameters


@pytest.mark.parametrize(
    ("name", "total"), [("googlenet", 13_004_888), ("inception_v3", 27_161_264)]
)
def test_auxiliary_classifiers_make_up_the_published_number(name, total):
    spec = get_backbone(name)
    with torch.device("meta"):
        heads = [entry.build(1000) for entry in spec.auxiliary]
    extra = sum(p.numel() for head in heads for p in head.parameters())
    assert spec.parameters + extra == total


def test_prefix_and_rest_equal_the_whole_bit_for_bit(network):
    x = image(4, side_of(network))
    whole = network(x)
    for stage in network.stages:
        first = network.prefix(x, stage)
        rest = network.from_stage(first[stage], stage)
        assert tuple(first) + tuple(rest) == tuple(whole)
        assert all(torch.equal(whole[name], y) for name, y in (first | rest).items())


def test_a_later_stage_leaves_earlier_outputs_alone(network):
    x = image(4, side_of(network))
    first = next(iter(network.stages))
    assert torch.equal(network(x)[first], network.prefix(x, first)[first])


def test_channels_last_gives_the_same_features(network):
    x = image(4, side_of(network))
    expected = network(x)
    turned = copy.deepcopy(network).to(memory_format=torch.channels_last)
    found = turned(x.contiguous(memory_format=torch.channels_last))
    for stage, x in expected.items():
        assert torch.allclose(found[stage], x, atol=1e-4 * x.detach().abs().max().item())


def test_another_number_of_bands_is_refused(network):
    with pytest.raises(BandError, match=r"3 bands for a .* of 4"):
        network(image(3))


def test_one_seed_one_network_and_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    first, again, other = (build_backbone("lenet5", *bands_of(2), seed=s)[0] for s in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert digest(first) == digest(again) != digest(other)


def test_a_stage_starts_the_same_whatever_the_bands_and_the_cut():
    wide, _ = build_backbone("resnet18", *bands_of(13), seed=5)
    cut, _ = build_backbone("resnet18", *RGB, cut_after="layer2", seed=5)
    assert digest(wide.stages["layer2"]) == digest(cut.stages["layer2"])


def test_lenet_is_the_dense_network_at_32_px():
    network, _ = build_backbone("lenet5", ["grey"])
    dense = nn.Sequential(
        nn.Flatten(), nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh()
    )
    with torch.no_grad():
        for layer, stage in ((dense[1], "c5"), (dense[3], "f6")):
            layer.weight.copy_(network.stages[stage].conv.weight.flatten(1))
            layer.bias.copy_(network.stages[stage].conv.bias)
    outputs = network(image(1, 32))
    assert outputs["c3"].shape == (2, 16, 5, 5)
    assert torch.allclose(dense(outputs["c3"]), outputs["f6"].flatten(1), atol=1e-6)


# freezing


@pytest.mark.parametrize("name", ["googlenet", "resnet18", "vgg16_bn"])
def test_frozen_stages_keep_every_bit_whatever_train_is_called(name):
    network, _ = build_backbone(name, *bands_of(4))
    names = network.stage_names
    freeze(network, names[1], allow_random=True)
    before = [digest(stage) for stage in network.stages.values()]
    network.train()
    train_a_little(network)
    network.train()
    network.stages[names[0]].train()
    nn.Sequential(network).train()
    network.apply(lambda module: module.train())
    train_a_little(network)
    after = [digest(stage) for stage in network.stages.values()]
    assert after[:2] == before[:2]
    assert all(a != b for a, b in zip(after[2:], before[2:], strict=True))
    assert network.training


def test_frozen_stages_stay_in_evaluation_mode(network):
    """Dropout in a frozen stage would change what it gives from pass to pass."""
    network = copy.deepcopy(network)
    names = network.stage_names
    freeze(network, names[1], allow_random=True)
    network.train()
    assert not any(m.training for name in names[:2] for m in network.stages[name].modules())
    assert all(network.stages[name].training for name in names[2:])
    network.stages[names[0]].train()  # past the network, straight to a frozen stage
    norms = [m for m in network.stages[names[0]].modules() if isinstance(m, nn.BatchNorm2d)]
    assert not any(norm.training for norm in norms)


def test_freezing_nothing_frees_everything_again():
    network, _ = build_backbone("resnet18", *RGB, cut_after="layer1")
    freeze(network, "stem", allow_random=True)
    freeze(network, None)
    network.train()
    before = digest(network.stages["stem"])
    train_a_little(network)
    assert digest(network.stages["stem"]) != before


@pytest.mark.parametrize("name", ["resnet18", "vgg16_bn"])
def test_held_batchnorm_keeps_its_statistics_and_learns_its_scale(name):
    network, _ = build_backbone(name, *RGB, cut_after=REGISTRY[name].stages[1])
    hold_batchnorm(network)
    network.train()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    weights = [m.weight.detach().clone() for m in norms]
    train_a_little(network)
    network.apply(lambda module: module.train())
    train_a_little(network)
    assert norms
    for norm, weight in zip(norms, weights, strict=True):
        assert not norm.running_mean.any()
        assert (norm.running_var == 1).all()
        assert not torch.equal(norm.weight, weight)
    hold_batchnorm(network, frozen=False)
    train_a_little(network)
    assert norms[0].running_mean.any()


def test_random_stages_are_not_frozen_unless_that_is_wanted():
    network, _ = build_backbone("lenet5", ["grey"])
    with pytest.raises(WeightsError, match="c1, c3 hold random weights"):
        freeze(network, "c3")
    freeze(network, "c3", allow_random=True)
    assert network.frozen == ("c1", "c3")


def test_rates_fall_by_stage_and_decay_spares_vectors():
    network, _ = build_backbone("resnet18", *RGB, cut_after="layer2")
    head = nn.Linear(128, 10)
    freeze(network, "stem", allow_random=True)
    groups = parameter_groups(network, head, lr=1.0, lr_decay=0.5, weight_decay=0.1)
    assert {g["name"].split(",")[0]: g["lr"] for g in groups} == {
        "head": 1.0,
        "layer2": 0.5,
        "layer1": 0.25,
    }
    for group in groups:
        assert all((p.ndim >= 2) == (group["weight_decay"] == 0.1) for p in group["params"])
    chosen = [id(p) for g in groups for p in g["params"]]
    wanted = [id(p) for m in (network, head) for p in m.parameters() if p.requires_grad]
    assert sorted(chosen) == sorted(wanted)


def test_decay_with_no_loss_changes_trainable_matrices_alone():
    network, _ = build_backbone("vgg16_bn", *RGB, cut_after="block2")
    freeze(network, "block1", allow_random=True)
    head = nn.Linear(128, 3)
    named = [*network.named_parameters(), *((f"head.{n}", p) for n, p in head.named_parameters())]
    for _, parameter in named:
        parameter.grad = torch.zeros_like(parameter)
    before = {n: p.detach().clone() for n, p in named}
    groups = parameter_groups(network, head, lr=0.1, lr_decay=0.5, weight_decay=0.1)
    torch.optim.AdamW(groups).step()
    changed = {n for n, p in named if not torch.equal(before[n], p)}
    assert changed == {n for n, p in named if p.ndim >= 2 and p.requires_grad}


# weights


@pytest.fixture(scope="module")
def resnet_file(tmp_path_factory) -> Path:
    """A complete ResNet-18 file as torchvision would write it, with its head."""
    torch.manual_seed(11)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    return path


def load_torchvision(path: Path) -> nn.Module:
    network = torchvision.models.resnet18(weights=None)
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval()


def test_a_complete_file_gives_torchvisions_own_features(resnet_file):
    network, report = build_backbone("resnet18", *RGB, initial=InitialWeights(str(resnet_file)))
    theirs = load_torchvision(resnet_file)
    theirs.fc = nn.Identity()
    ours = network.eval()(image(3))["layer4"].mean((2, 3))
    assert torch.allclose(ours, theirs(image(3)), atol=1e-5)
    assert (report.count("loaded"), report.count("missing")) == (120, 0)
    assert {r.tensor for r in report.rows if r.status == "unused"} == {"fc.weight", "fc.bias"}
    assert report.sha256 == hashlib.sha256(resnet_file.read_bytes()).hexdigest()
    assert report.normalisation is None
    assert not network.random_stages


def test_bands_in_another_order_give_the_same_features(resnet_file):
    straight, _ = build_backbone(
        "resnet18", *RGB, initial=InitialWeights(str(resnet_file)), cut_after="layer1"
    )
    turned, report = build_backbone(
        "resnet18",
        ("B02", "B03", "B04"),
        (492.4, 559.8, 664.6),
        initial=InitialWeights(str(resnet_file)),
        cut_after="layer1",
    )
    x = image(3)
    expected, found = straight.eval()(x), turned.eval()(x.flip(1))
    assert torch.allclose(expected["layer1"], found["layer1"], atol=1e-4)
    assert report.rows[0].status == "adapted"
    assert "B02 = blue" in report.summary()


def test_more_bands_keep_the_response_to_grey_and_may_be_frozen(resnet_file):
    grey = image(1)
    three, _ = build_backbone(
        "resnet18", *RGB, initial=InitialWeights(str(resnet_file)), cut_after="layer1"
    )
    ten, report = build_backbone(
        "resnet18", *bands_of(10), initial=InitialWeights(str(resnet_file)), cut_after="layer1"
    )
    expected = three.eval()(grey.expand(-1, 3, -1, -1))["layer1"]
    found = ten.eval()(grey.expand(-1, 10, -1, -1))["layer1"]
    assert torch.allclose(expected, found, atol=1e-4)
    assert report.count("adapted") == 1
    assert "64x3x7x7" in report.table()
    assert "64x10x7x7" in report.table()
    freeze(ten, "layer1")


def test_rgb_only_ignores_the_other_bands(resnet_file):
    bands, nm = ("nir", *RGB[0]), (842.0, *RGB[1])
    network, _ = build_backbone(
        "resnet18",
        bands,
        nm,
        initial=InitialWeights(str(resnet_file), first_conv="rgb_only"),
        cut_after="stem",
    )
    three, _ = build_backbone(
        "resnet18", *RGB, initial=InitialWeights(str(resnet_file)), cut_after="stem"
    )
    x = image(4)
    assert torch.allclose(
        network.eval()(x)["stem"], three.eval()(x[:, 1:].contiguous())["stem"], atol=1e-5
    )
    with pytest.raises(BandError, match="no blue band"):
        build_backbone(
            "resnet18",
            bands[:3],
            nm[:3],
            initial=InitialWeights(str(resnet_file), first_conv="rgb_only"),
        )


def test_a_random_first_convolution_is_told_and_never_frozen(resnet_file):
    network, report = build_backbone(
        "resnet18",
        *RGB,
        initial=InitialWeights(str(resnet_file), first_conv="random"),
        cut_after="layer1",
    )
    assert report.rows[0].status == "fresh"
    assert "starts at random" in report.summary()
    with pytest.raises(WeightsError, match="stem hold random"):
        freeze(network, "layer1")


def test_a_stage_named_fresh_starts_at_random_as_a_whole(resnet_file):
    network, report = build_backbone(
        "resnet18", *RGB, initial=InitialWeights(str(resnet_file), fresh=["layer4"]), seed=2
    )
    random, _ = build_backbone("resnet18", *RGB, seed=2)
    assert digest(network.stages["layer4"]) == digest(random.stages["layer4"])
    assert digest(network.stages["layer3"]) != digest(random.stages["layer3"])
    assert network.random_stages == {"layer4"}
    assert all(r.status == "unused" for r in report.rows if r.stage == "layer4")
    freeze(network, "layer3")
    with pytest.raises(WeightsError, match="layer4 hold random"):
        freeze(network, "layer4")


def partial(path: Path, to: Path, *without: str) -> str:
    tensors = torch.load(path, weights_only=True)
    torch.save({n: t for n, t in tensors.items() if not n.startswith(without)}, to)
    return str(to)


def test_a_partial_file_needs_its_gaps_cut_or_named_fresh(resnet_file, tmp_path):
    file = partial(resnet_file, tmp_path / "part.pth", "layer4.1", "fc")
    with pytest.raises(
        WeightsError,
        match=r"part\.pth: lacks 10 tensors of layer4 .*_after=layer3 or .*allow_random=\[layer4\]",
    ):
        build_backbone("resnet18", *RGB, initial=InitialWeights(file))
    _, cut = build_backbone("resnet18", *RGB, initial=InitialWeights(file), cut_after="layer3")
    assert cut.count("missing") == 12
    assert "12 missing (not needed)" in cut.summary()
    _, fresh = build_backbone("resnet18", *RGB, initial=InitialWeights(file, fresh=["layer4"]))
    assert fresh.count("fresh") == 12
    with pytest.raises(WeightsError, match="of layer4"):
        build_backbone("resnet18", *RGB, initial=InitialWeights(file, fresh=["layer3"]))


def test_a_missing_batch_count_is_no_gap(resnet_file, tmp_path):
    tensors = torch.load(resnet_file, weights_only=True)
    older = {n: t for n, t in tensors.items() if not n.endswith("num_batches_tracked")}
    torch.save(older, tmp_path / "older.pth")
    network, report = build_backbone(
        "resnet18", *RGB, initial=InitialWeights(str(tmp_path / "older.pth"))
    )
    assert report.count("missing") == 20
    assert network.state_dict()["stages.stem.bn1.num_batches_tracked"] == 0


@pytest.mark.parametrize(
    "name", ["resnet34", "resnet152", "vgg11", "googlenet", "alexnet", "lenet5"]
)
def test_a_file_of_another_architecture_is_named_for_what_it_is(name, resnet_file):
    with pytest.raises(
        WeightsError, match=f"another architecture, not {name} .*backbone to resnet18"
    ) as caught:
        build_backbone(name, *RGB, initial=InitialWeights(str(resnet_file)))
    assert "\n" not in str(caught.value)
    assert str(resnet_file) in str(caught.value)


def test_a_deeper_file_does_not_pass_for_a_shallower_network(tmp_path):
    torch.save(torchvision.models.resnet34(weights=None).state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"another architecture.*layer1\.2.*to resnet34"):
        build_backbone("resnet18", *RGB, initial=InitialWeights(str(tmp_path / "w.pth")))


def test_a_digest_that_differs_is_refused(resnet_file):
    right = hashlib.sha256(resnet_file.read_bytes()).hexdigest()
    build_backbone("resnet18", *RGB, initial=InitialWeights(str(resnet_file), sha256=right.upper()))
    with pytest.raises(WeightsError, match=right):
        build_backbone("resnet18", *RGB, initial=InitialWeights(str(resnet_file), sha256="0" * 64))


def test_first_kernels_for_unnamed_bands_are_refused(resnet_file, tmp_path):
    tensors = torch.load(resnet_file, weights_only=True)
    tensors["conv1.weight"] = torch.randn(64, 13, 7, 7)
    torch.save(tensors, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="takes 13 bands that the file does not name"):
        build_backbone("resnet18", *bands_of(13), initial=InitialWeights(str(tmp_path / "w.pth")))
    _, report = build_backbone(
        "resnet18",
        *bands_of(13),
        initial=InitialWeights(str(tmp_path / "w.pth"), first_conv="random"),
    )
    assert report.rows[0].status == "fresh"


def test_only_the_values_used_must_be_numbers(resnet_file, tmp_path):
    tensors = torch.load(resnet_file, weights_only=True)
    tensors["layer4.0.conv1.weight"][0] = float("nan")
    torch.save(tensors, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"layer4\.0\.conv1\.weight has NaN"):
        build_backbone("resnet18", *RGB, initial=InitialWeights(str(tmp_path / "w.pth")))
    build_backbone(
        "resnet18", *RGB, initial=InitialWeights(str(tmp_path / "w.pth")), cut_after="layer3"
    )


def test_no_weights_means_all_fresh_and_says_so():
    network, report = build_backbone("resnet18", *bands_of(13))
    assert {row.status for row in report.rows} == {"fresh"}
    assert report.rows[0].network_shape == (64, 13, 7, 7)
    assert network.random_stages == set(network.stage_names)
    assert json.loads(json.dumps(report.provenance()))["source"] == "none"


# geotl's own model files as a source


def write_model(path: Path, network: Backbone, **changes) -> str:
    tensors = {f"backbone.{n}": t.contiguous() for n, t in network.state_dict().items()}
    contract = {
        "backbone": network.name,
        "bands": network.bands,
        "wavelengths": network.wavelengths,
    } | changes
    tensors["head.weight"] = torch.ones(3, 3)
    save_file(tensors, path, metadata={"geotl": json.dumps(contract)})
    return str(path)


def test_a_saved_backbone_comes_back_bit_for_bit(network, tmp_path):
    file = write_model(tmp_path / "m.safetensors", network)
    again, report = build_backbone(
        network.name, network.bands, network.wavelengths, initial=InitialWeights(file)
    )
    assert digest(again) == digest(network)
    assert {row.status for row in report.rows} == {"loaded"}
    freeze(again, again.stage_names[-1])


def test_a_models_bands_are_followed_by_name_and_by_wavelength(tmp_path):
    bands, nm = ("B02", "B04", "B08", "dem"), (492.0, 665.0, 833.0, None)
    source, _ = build_backbone("lenet5", bands, nm)
    file = write_model(tmp_path / "m.safetensors", source)
    kernels = source.state_dict()["stages.c1.conv.weight"]

    def adapted(bands, nm):
        network, report = build_backbone("lenet5", bands, nm, initial=InitialWeights(file))
        assert report.count("adapted") == 1
        return network.state_dict()["stages.c1.conv.weight"]

    assert torch.equal(adapted(bands[::-1], nm[::-1]), kernels.flip(1))
    fewer = adapted(("B04", "dem"), (665.0, None))
    assert torch.allclose(fewer[:, 1], kernels[:, 3], atol=1e-6)
    assert torch.allclose(fewer.sum(1), kernels.sum(1), atol=1e-6)
    other = adapted(("nir", "blue", "x"), (842.0, 490.0, None))
    assert torch.allclose(other.sum(1), kernels.sum(1), atol=1e-6)


def test_a_model_of_another_backbone_is_refused(tmp_path):
    source, _ = build_backbone("lenet5", ["grey"])
    file = write_model(tmp_path / "m.safetensors", source)
    with pytest.raises(WeightsError, match="another architecture, lenet5"):
        build_backbone("resnet18", *RGB, initial=InitialWeights(file))


# torchvision's names


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """A hub cache of our own, and no way to download."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*args, **kwargs):
        raise OSError("no network in tests")

    monkeypatch.setattr("socket.socket.connect", offline)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def published_tensors(made: Backbone) -> dict[str, torch.Tensor]:
    """A backbone's tensors as torchvision's file calls them, with a head that must not be used."""
    spec = get_backbone(made.name)
    prefixes = dict(zip(made.stages, spec.prefixes, strict=True))
    heads = {f"{prefix}held.weight": torch.full((2,), float("nan")) for prefix in spec.head}
    return heads | {
        prefixes[stage] + tensor: held
        for stage, module in made.stages.items()
        for tensor, held in module.state_dict().items()
    }


PUBLISHED = [(n, w) for n, spec in sorted(REGISTRY.items()) for w in spec.weights]


@pytest.mark.parametrize(
    ("name", "weights"), [*PUBLISHED, ("resnet50", "ResNet50_Weights.DEFAULT")]
)
def test_published_weights_come_through_the_hub_cache(hub, name, weights):
    made, _ = build_backbone(name, *RGB, seed=99)
    entry = torchvision.models.get_weight(weights)
    file = hub / Path(entry.url).name
    torch.save(published_tensors(made), file)
    network, report = build_backbone(name, *RGB, initial=InitialWeights(weights))
    assert same_tensors(network, made)
    assert report.sha256 == sha256_of(file)
    file.unlink()
    mean = 0.5 if get_backbone(name).family == "inception" else entry.transforms().mean[0]
    assert report.normalisation is not None
    assert report.normalisation.mean[0] == pytest.approx(mean)
    assert "not the file published" in report.summary()
    assert report.source.split(".")[0] == weights.split(".")[0]
    assert {r.tensor for r in report.rows if r.status == "unused"} == {
        f"{prefix}held.weight" for prefix in get_backbone(name).head
    }


def same_tensors(one: nn.Module, other: nn.Module) -> bool:
    held, wanted = one.state_dict(), other.state_dict()
    return held.keys() == wanted.keys() and all(torch.equal(held[n], wanted[n]) for n in held)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_transform_input_is_a_normalisation_of_its_own(name, tmp_path):
    """Torchvision's forward takes ImageNet-normalised input and centres it; ours takes centred."""
    torch.manual_seed(4)
    theirs = torchvision.models.get_model(
        name, weights=None, init_weights=False, aux_logits=True, transform_input=True
    )
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2)
            module.running_mean.normal_()
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    theirs.fc = nn.Identity()
    network, report = build_backbone(name, *RGB, initial=InitialWeights(str(tmp_path / "w.pth")))
    assert {r.tensor.split(".")[0] for r in report.rows if r.status == "unused"} > {"fc"}
    assert report.count("missing") == 0

    def normalised(pixels, mean, sd):
        return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(sd)[:, None, None]

    pixels = torch.rand((2, 3, 96, 96), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs.eval()(normalised(pixels, IMAGENET.mean, IMAGENET.sd))
        maps = list(
            network.eval()(
                normalised(pixels, report.normalisation.mean, report.normalisation.sd)
            ).values()
        )[-1]
    assert expected.std() > 1e-3
    assert torch.allclose(maps.mean((2, 3)), expected, atol=1e-4 * expected.abs().max().item())


def test_published_weights_that_cannot_be_had_say_where_to_put_them(hub):
    with pytest.raises(WeightsError, match=r"put the file at .*resnet18-f37072fd\.pth") as caught:
        build_backbone("resnet18", *RGB, initial=InitialWeights("ResNet18_Weights.IMAGENET1K_V1"))
    assert "\n" not in str(caught.value)


def test_a_damaged_file_in_the_cache_is_named(hub):
    (hub / "resnet18-f37072fd.pth").write_bytes(b"cut short")
    with pytest.raises(WeightsError, match=r"resnet18-f37072fd\.pth.*damaged"):
        build_backbone("resnet18", *RGB, initial=InitialWeights("ResNet18_Weights.IMAGENET1K_V1"))


@pytest.mark.parametrize("weights", ["ResNet50_Weights.IMAGENET1K_V1", "ResNet18_Weights.V9"])
def test_published_weights_of_another_network_are_refused(weights):
    with pytest.raises(WeightsError, match=r"ResNet18_Weights\.IMAGENET1K_V1"):
        build_backbone("resnet18", *RGB, initial=InitialWeights(weights))


# names and tables


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(ModelError, match="resnet18"):
        build_backbone("resnet81", *RGB)
    with pytest.raises(ModelError, match="layer3"):
        build_backbone("resnet18", *RGB, cut_after="layer33")
    with pytest.raises(ModelError, match="layer4"):
        build_backbone("resnet18", *RGB, initial=InitialWeights(fresh=["layer44"]))
    with pytest.raises(BandError, match="2 bands with 3 wavelengths"):
        build_backbone("resnet18", ["a", "b"], [1.0, 2.0, 3.0])


def test_the_tables_name_every_backbone_stage_and_weight():
    overview = describe_backbone()
    for name, spec in REGISTRY.items():
        assert name in overview
        table = describe_backbone(name)
        assert all(word in table for word in (*spec.stages, *spec.weights, f"{spec.parameters:,}"))
        rows = table.splitlines()[2 : 3 + len(spec.stages)]
        assert len({len(row) for row in rows}) == 1
    lines = overview.splitlines()[: 1 + len(REGISTRY)]
    ends = [line.index(spec.title) for line, spec in zip(lines[1:], REGISTRY.values(), strict=True)]
    assert set(ends) == {lines[0].index("title")}


# the real files


@pytest.mark.real_data
def test_the_real_partial_file_loads_when_cut_and_only_then(real_data):
    file = real_data / "weights" / "resnet18-imagenet1k_v1-conv1_to_layer3.pth"
    network, report = build_backbone(
        "resnet18", *RGB, initial=InitialWeights(str(file)), cut_after="layer3"
    )
    assert (report.count("loaded"), report.count("missing")) == (90, 24)
    assert report.folded_batchnorm
    held = torch.load(file, weights_only=True)
    assert torch.equal(network.state_dict()["stages.stem.conv1.weight"], held["conv1.weight"])
    freeze(network, "layer3")
    with pytest.raises(WeightsError, match="truncate_after=layer3"):
        build_backbone("resnet18", *RGB, initial=InitialWeights(str(file)))


@pytest.mark.real_data
def test_the_names_are_those_that_are_checked_without_torch() -> None:
    assert tuple(REGISTRY) == NAMES


@pytest.mark.parametrize("name", sorted(set(REGISTRY) - {"squeezenet1_1"}))
def test_the_real_squeezenet_is_told_from_other_architectures(real_data, name):
    file = real_data / "weights" / "squeezenet1_1-imagenet1k.pth"
    told = f"another architecture, not {name} .*model.backbone to squeezenet1_1"
    with pytest.raises(WeightsError, match=told):
        build_backbone(name, *RGB, initial=InitialWeights(str(file)))


@pytest.mark.real_data
def test_the_real_squeezenet_gives_torchvisions_own_features(real_data):
    file = real_data / "weights" / "squeezenet1_1-imagenet1k.pth"
    network, report = build_backbone("squeezenet1_1", *RGB, initial=InitialWeights(str(file)))
    theirs = torchvision.models.squeezenet1_1(weights=None)
    theirs.load_state_dict(torch.load(file, weights_only=True))
    x = image(3)
    with torch.no_grad():
        expected = theirs.eval().features(x)
        found = network.eval()(x)["fire8_9"]
    assert expected.std() > 0
    assert torch.allclose(found, expected, atol=1e-5 * expected.abs().max().item())
    assert {r.tensor for r in report.rows if r.status == "unused"} == {
        "classifier.1.weight",
        "classifier.1.bias",
    }
    freeze(network, "fire8_9")
