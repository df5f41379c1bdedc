"""Networks of timm by name: taken apart as timm calls them, under the names of its tensors."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch
from helpers.timm_models import SMALLEST, TRANSFORMERS, drawn, write_file

from geotl.errors import DataError, ModelError, WeightsError
from geotl.models.backbone import SteadyBatchNormAct2d, first_conv_of
from geotl.models.classifier import FeatureSpec, Normalise, TileClassifier
from geotl.models.normalisation import of_pictures
from geotl.models.receptive_field import receptive_fields
from geotl.models.registry import build_backbone, describe_backbone, freeze, get_backbone
from geotl.models.timm_networks import registered_name
from geotl.models.weight_loading import InitialWeights

pytestmark = pytest.mark.usefixtures("one_thread")

RGB = (["red", "green", "blue"], [665.0, 560.0, 490.0])
FOUR = (["blue", "green", "red", "nir"], [490.0, 560.0, 665.0, 842.0])
# beyond the smallest of each family: other blocks, heads before the pooling, deep stems
OTHERS = (
    "timm:convnextv2_atto",
    "timm:convnext_tiny_hnf",
    "timm:tf_efficientnetv2_b0",
    "timm:mobilenetv2_035",
    "timm:mobilenetv3_small_050",
    "timm:regnety_002",
    "timm:resnet10t",
)
OTHER_TRANSFORMERS = (
    "timm:test_vit4",
    "timm:vit_xsmall_patch16_clip_224",
    "timm:eva02_tiny_patch14_224",
    "timm:vit_pe_core_tiny_patch16_384",
    "timm:deit_tiny_patch16_224",
)


def filled(name, path, bands=RGB, **options):
    return build_backbone(name, *bands, initial=InitialWeights(str(path), **options))


@pytest.mark.parametrize("name", [*SMALLEST.values(), *OTHERS])
def test_a_network_from_a_file_gives_the_features_that_timm_gives(name, tmp_path):
    """Bit for bit, and every tensor but the stock head's is in its place."""
    path = tmp_path / "w.safetensors"
    made = write_file(path, name)
    backbone, report = filled(name, path)
    image = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = list(backbone.eval()(image).values())[-1]
        wanted = made.forward_features(image)
    assert torch.equal(found, wanted)
    spec = get_backbone(name)
    assert report.count("missing") == report.count("adapted") == 0
    unused = [row.tensor for row in report.rows if row.status == "unused"]
    assert unused
    assert all(tensor.startswith(spec.head) for tensor in unused)
    assert spec.parameters == sum(p.numel() for p in made.parameters())


@pytest.mark.parametrize("name", SMALLEST.values())
def test_other_bands_meet_the_first_convolution_by_wavelength(name, tmp_path):
    path = tmp_path / "w.pth"
    made = write_file(path, name)
    backbone, report = filled(name, path, FOUR)
    assert report.count("adapted") == 1
    kernels = next(m for m in made.modules() if isinstance(m, torch.nn.Conv2d)).weight
    mixed = first_conv_of(backbone).weight
    assert torch.equal(mixed[:, 0], kernels[:, 2])
    assert torch.equal(mixed[:, 1], kernels[:, 1])
    torch.testing.assert_close(mixed[:, 2] + mixed[:, 3], kernels[:, 0])  # red, shared with nir
    freeze(backbone, backbone.stage_names[0])
    grey = torch.rand(1, 1, 96, 96)
    with torch.no_grad():
        one = backbone.eval()(grey.expand(1, 4, 96, 96))
        wanted = made.forward_features(grey.expand(1, 3, 96, 96))
    torch.testing.assert_close(list(one.values())[-1], wanted, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("name", SMALLEST.values())
def test_the_same_seed_draws_the_same_bits_and_leaves_the_generator(name):
    torch.manual_seed(4)
    before = torch.get_rng_state()
    one, two, other = (build_backbone(name, *FOUR, seed=s)[0].state_dict() for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[key], two[key]) for key in one)
    first = next(key for key in one if one[key].ndim == 4)
    assert not torch.equal(one[first], other[first])
    cut, _ = build_backbone(name, *FOUR, seed=1, cut_after="stage1")
    assert all(torch.equal(value, one[key]) for key, value in cut.state_dict().items())


def test_activations_inside_a_normalisation_stay_when_it_is_held(tmp_path):
    backbone, _ = build_backbone("timm:test_efficientnet", *RGB)
    norms = [m for m in backbone.modules() if isinstance(m, SteadyBatchNormAct2d)]
    assert norms
    assert any(not isinstance(m.rest, torch.nn.Identity) for m in norms)
    freeze(backbone, "stage2", allow_random=True)
    backbone.train()
    held = [m.training for m in norms]
    assert True in held
    assert False in held


def test_the_name_brings_its_own_mean_and_sd(tmp_path):
    path = tmp_path / "w.safetensors"
    write_file(path, "test_convnext")
    _, report = filled("timm:test_convnext", path)
    assert report.normalisation == of_pictures((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    write_file(path, "test_efficientnet")
    _, report = filled("timm:test_efficientnet", path)
    assert report.normalisation.mean == (0.485, 0.456, 0.406)


# transformers


@pytest.mark.parametrize("name", [*TRANSFORMERS.values(), *OTHER_TRANSFORMERS])
@pytest.mark.parametrize("patches", [3, 14], ids=["small", "large"])
def test_a_transformer_from_a_file_gives_what_timm_gives_its_head(name, patches, tmp_path):
    """Bit for bit, at two sizes of image."""
    path = tmp_path / "w.safetensors"
    made = write_file(path, name, dynamic_img_size=True)
    backbone, report = filled(name, path)
    side = patches * get_backbone(name).multiple_px
    image = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        outputs = backbone.eval()(image)
        wanted = made.forward_head(made.forward_features(image), pre_logits=True)
        tokens = made.forward_intermediates(image, indices=[1], return_prefix_tokens=True)[1][0]
    assert torch.equal(outputs["top"].flatten(1), wanted)
    inner = outputs["block2"]
    if made.num_prefix_tokens:
        maps, prefix = tokens
        assert torch.equal(inner[:, : made.num_prefix_tokens], prefix)
    else:
        maps = tokens
    assert torch.equal(inner[:, made.num_prefix_tokens :], maps.flatten(2).transpose(1, 2))
    assert report.count("missing") == report.count("adapted") == 0
    unused = [row.tensor for row in report.rows if row.status == "unused"]
    assert all(tensor.startswith("head.") for tensor in unused)


@pytest.mark.parametrize("name", TRANSFORMERS.values())
def test_other_bands_meet_the_patch_embedding_by_wavelength(name, tmp_path):
    path = tmp_path / "w.pth"
    made = write_file(path, name, dynamic_img_size=True)
    backbone, report = filled(name, path, FOUR)
    assert [r.tensor for r in report.rows if r.status == "adapted"] == ["patch_embed.proj.weight"]
    grey = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        one = backbone.eval()(grey.expand(1, 4, 64, 64))["top"].flatten(1)
        features = made.forward_features(grey.expand(1, 3, 64, 64))
    torch.testing.assert_close(
        one, made.forward_head(features, pre_logits=True), atol=1e-4, rtol=1e-3
    )
    freeze(backbone, "block1")
    backbone.train()
    assert not any(p.requires_grad for p in backbone.stages["embed"].parameters())


@pytest.mark.parametrize(
    ("name", "by"),
    [("timm:test_vit", "class"), ("timm:test_vit2", "mean"), ("timm:test_vit3", "mean")],
)
@pytest.mark.parametrize("pool", ["mean", "mean_sd", "root_mean", "mean_log"])
def test_features_are_pooled_as_the_stock_head_pools(name, by, pool):
    backbone, _ = build_backbone(name, *RGB, seed=1)
    tokens = backbone.tokens
    assert tokens.pooled == by
    image = torch.rand(2, 3, 64, 64)
    network = TileClassifier(
        backbone, Normalise([0.0] * 3, [1.0] * 3), FeatureSpec(("block2",), pool, views=1), 3
    ).eval()
    with torch.no_grad():
        features = network.features(image)
        every = backbone(image)["block2"]
    patches = every[:, tokens.prefix :]
    mean = every[:, 0] if by == "class" else patches.mean(dim=1)
    wanted = {
        "mean": mean,
        "root_mean": mean.sign() * (mean.abs() + 1e-6).sqrt(),
        "mean_log": (mean if by == "class" else patches).clamp_min(0).log1p(),
        "mean_sd": torch.cat([mean, (patches.var(dim=1, correction=0) + 1e-6).sqrt()], dim=1),
    }[pool]
    wanted = wanted.mean(dim=1) if wanted.ndim == 3 else wanted
    torch.testing.assert_close(features, wanted, atol=1e-5, rtol=1e-4)


def test_a_transformer_reads_few_of_its_blocks_and_can_be_cut():
    whole, _ = build_backbone("timm:vit_tiny_patch16_224", *RGB)
    assert whole.read == ("block3", "block6", "block9", "top")
    cut, _ = build_backbone("timm:vit_tiny_patch16_224", *RGB, cut_after="block6")
    assert cut.read == ("block3", "block6")
    short, _ = build_backbone("timm:vit_tiny_patch16_224", *RGB, cut_after="block2")
    assert short.read == ("block1", "block2")


@pytest.mark.parametrize("side", [(50, 50), (64, 96)])
def test_sides_that_are_not_cut_into_whole_patches_are_one_line(side):
    backbone, _ = build_backbone("timm:test_vit", *RGB)
    says = r"squares with a side that is a multiple of 16 px; set model.input_px to \[(48|64)\] or"
    with pytest.raises(DataError, match=says):
        backbone(torch.rand(1, 3, *side))


# names


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("timm:convnext_tinny", "did you mean timm:convnext_tiny"),
        ("timm:convnext_tiny.fb_in1", r"did you mean timm:convnext_tiny\.fb_in1k"),
        ("timm:zzzzqqqq", r"timm\.list_models"),
        ("timm:hf-hub:someone/something", "has no such network"),
        ("timm:local-dir:/tmp", "has no such network"),
        ("timm:test_mambaout", "a MambaOut of timm.*ConvNeXt, EfficientNet.*VisionTransformer"),
        ("timm:vit_small_patch16_rope_mixed_224", "with trained rotary positions"),
        ("timm:vit_tiny_r_s16_p8_224", "takes only one size of image"),
        ("convnext_tiny", "timm:NAME"),
    ],
)
def test_names_that_are_not_there_are_one_line(name, says):
    with pytest.raises(ModelError, match=says) as caught:
        get_backbone(name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_without_timm_the_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match=r"pip install 'geotl\[timm\]'") as caught:
        registered_name("timm:convnext_atto")
    assert "\n" not in str(caught.value)


def test_timm_is_not_imported_before_it_is_asked_for():
    words = (
        "import sys, geotl.models.model_file, geotl.cli.main\n"
        "from geotl.models.registry import build_backbone\n"
        "build_backbone('lenet5', ['a'])\n"
        "assert 'timm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", words], check=True)


def test_a_network_is_described_with_its_stages_and_weights():
    text = describe_backbone("timm:test_convnext")
    assert "stage4        64      32        32" in text
    assert "weights: none, pretrained, timm:test_convnext.r160_in1k" in text
    assert "timm:NAME" in describe_backbone()
    text = describe_backbone("timm:test_vit")
    assert "multiple of 16 px" in text
    assert "read unless model.feature_stages names others: block1, block3, block4, top" in text
    assert "pretrained" not in describe_backbone("timm:mobilenetv2_035")  # timm has none of it


# files that do not fit


def test_a_file_of_another_network_is_refused(tmp_path):
    path = tmp_path / "w.pth"
    write_file(path, "test_convnext2")
    with pytest.raises(WeightsError, match="another architecture, not timm:test_convnext"):
        filled("timm:test_convnext", path)
    write_file(path, "test_convnext", in_chans=7)
    with pytest.raises(WeightsError, match="takes 7 bands that the file does not name"):
        filled("timm:test_convnext", path)


def as_meta_names(name: str) -> str:
    """A tensor of timm's ConvNeXt under the name that its first publisher gave it."""
    for ours, theirs in (
        ("stem.", "downsample_layers.0."),
        ("conv_dw", "dwconv"),
        ("mlp.fc", "pwconv"),
        ("head.norm", "norm"),
        ("head.fc", "head"),
    ):
        name = name.replace(ours, theirs)
    name = re.sub(r"stages\.(\d)\.downsample", r"downsample_layers.\1", name)
    return re.sub(r"stages\.(\d)\.blocks", r"stages.\1", name)


def test_a_publishers_own_names_are_brought_into_timms(tmp_path):
    """ConvNeXt as Meta wrote it, and DINOv2 with the token of its training beside its weights."""
    path = tmp_path / "w.pth"
    made = drawn("test_convnext")
    theirs = {as_meta_names(name): value for name, value in made.state_dict().items()}
    torch.save(theirs, path)
    backbone, report = filled("timm:test_convnext", path)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(backbone.eval()(image)["stage4"], made.forward_features(image))
    assert "renamed" in report.summary()
    assert report.count("missing") == 0

    made = drawn("vit_small_patch14_dinov2", img_size=518)
    torch.save({**made.state_dict(), "mask_token": torch.zeros(1, 384)}, path)
    _, report = filled("timm:vit_small_patch14_dinov2", path)
    assert report.count("loaded") == len(made.state_dict())


def test_a_file_of_seven_bands_may_start_its_first_convolution_at_random(tmp_path):
    path = tmp_path / "w.pth"
    write_file(path, "test_convnext", in_chans=7)
    backbone, report = filled("timm:test_convnext", path, FOUR, first_conv="random")
    assert backbone.random_stages == {"stem"}
    assert report.count("fresh") == 1


def test_tensorflows_padding_takes_no_silent_bands(tmp_path):
    path = tmp_path / "w.pth"
    write_file(path, "tf_efficientnetv2_b0")
    with pytest.raises(WeightsError, match="rgb_only is not for timm:tf_efficientnetv2_b0"):
        filled("timm:tf_efficientnetv2_b0", path, FOUR, first_conv="rgb_only")


# single pixels


def test_a_convnext_and_a_regnetx_know_where_their_pixels_lie():
    """A pixel of a stage changes with the image pixels of its field and with no other."""
    for name in ("timm:test_convnext", "timm:regnetx_002", "timm:test_resnet"):
        backbone, _ = build_backbone(name, *RGB, seed=3, cut_after="stage2")
        fields = receptive_fields(backbone.eval())
        image = torch.rand(1, 3, 256, 256)
        image.requires_grad_(True)
        for stage, output in backbone(image).items():
            at = output.shape[-1] // 2
            pixel = output[0, :, at, at] @ torch.linspace(1, 2, output.shape[1])
            (grad,) = torch.autograd.grad(pixel, image, retain_graph=True)
            rows = torch.nonzero(grad[0].abs().sum(dim=(0, 2)) > 0).flatten()
            field = fields[stage]
            assert field.first + at * field.stride <= int(rows[0]), (name, stage)
            assert int(rows[-1]) <= field.last + at * field.stride, (name, stage)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("timm:test_efficientnet", "takes means or attention over the window"),
        ("timm:convnextv2_atto", "takes means or attention over the window"),
        ("timm:regnety_002", "takes means or attention over the window"),
        ("timm:tf_efficientnetv2_b0", "pads as TensorFlow does"),
        ("timm:test_vit", "is a transformer, whose tokens see the whole window"),
    ],
)
def test_networks_that_see_the_whole_window_say_so(name, says):
    backbone, _ = build_backbone(name, *RGB)
    with pytest.raises(ModelError, match=rf"model\.backbone: {name} {says}.*allowed") as caught:
        receptive_fields(backbone)
    assert "\n" not in str(caught.value)


def test_a_random_network_has_features_of_every_stage():
    backbone, _ = build_backbone("timm:mobilenetv3_small_050", *FOUR)
    spec = FeatureSpec(backbone.read, "root_mean", (64, 96), views=1)
    network = TileClassifier(backbone, Normalise([0.5] * 4, [0.2] * 4), spec, 3).eval()
    assert network.features(torch.rand(2, 4, 64, 64)).shape == (2, 2 * (8 + 16 + 24 + 288))
    assert drawn("mobilenetv3_small_050").num_features == 288
