"""The lecture's figures that are known, and claims that a broken technique must not pass."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch

from geotl.lecture import (
    architectures,
    run,
    stages,
    transfer,
)
from geotl.lecture.figures import Bars, Histograms, Lines, MeanChange, Pictures, Series
from geotl.lecture.recipes import (
    BackboneTable,
    Bottleneck,
    Levels,
    Pictured,
    Transferred,
    load_lecture,
)
from geotl.lecture.samples import draw, sample
from geotl.lecture.texts import Both, Claim
from geotl.models.backbone import freeze
from geotl.models.classifier import FeatureSpec, Normalise, TileClassifier
from geotl.models.registry import build_backbone

SMALL = {"shots": 2, "judged": 18, "seeds": 2, "epochs": 2}


@pytest.fixture(scope="module", autouse=True)
def one_cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOTL_CACHE", str(tmp_path_factory.mktemp("cache")))
        sample.cache_clear()
        yield
    sample.cache_clear()


def held(shown) -> dict[str, bool]:
    return {key: bool(found.held) for key, found in shown.findings.items()}


# ------------------------------------------------------------------------------------- effects


def test_an_effect_is_visible_only_beyond_its_interval() -> None:
    noise = MeanChange.of([0.5, 0.6, 0.7], [0.7, 0.5, 0.72])
    assert not noise.visible
    assert "no visible effect" in noise.words("accuracy")
    assert MeanChange.of([0.5, 0.6, 0.7], [0.61, 0.7, 0.8]).rises
    assert MeanChange.of([0.5, 0.6], [0.4, 0.5]).falls
    assert not MeanChange.of([0.5], [0.9]).visible


# ------------------------------------------------------------------------------------ transfer


@pytest.fixture(scope="module")
def transferred() -> Transferred:
    return Transferred(**SMALL, cut_after="layer1", input_px=16, source_epochs=1, source_shots=2)


def test_a_frozen_stage_stays_and_one_that_is_let_go_is_told(
    transferred: Transferred, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert held(transfer.search_space(transferred))["frozen"]
    monkeypatch.setattr(transfer, "freeze", lambda backbone, upto: freeze(backbone, None))
    loose = transfer.trained(transferred, 0, pretrained=True, upto=None)
    assert transfer.distances(loose[0], loose[1].last)["stem"] > 0
    assert not transfer._same_state(loose[0], loose[1].last, "stem")


def test_both_arms_share_head_draw_and_order_and_differ_in_the_backbone(
    transferred: Transferred,
) -> None:
    source = sample(transferred.region, transferred.bands)
    rows = draw(transferred, 0).split
    random, no = transfer.started(transferred, source, rows.train, 0, pretrained=False)
    tuned, sha = transfer.started(transferred, source, rows.train, 0, pretrained=True)
    assert torch.equal(random.head.weight, tuned.head.weight)
    first = "stages.stem.conv1.weight"
    assert not torch.equal(random.backbone.state_dict()[first], tuned.backbone.state_dict()[first])
    assert no == ""
    assert re.fullmatch("[0-9a-f]{64}", sha)
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


# ------------------------------------------------------------------------------- architectures


def test_the_table_has_the_known_counts() -> None:
    shown = architectures.parameter_table(BackboneTable())
    assert {name: tuple(v.values()) for name, v in shown.values.items()} == {
        "lenet5": (61_706, 61_706),
        "alexnet": (61_100_840, 61_100_840),
        "googlenet": (6_624_904, 13_004_888),
        "inception_v3": (23_834_568, 27_161_264),
        "vgg16": (138_357_544, 138_357_544),
        "resnet18": (11_689_512, 11_689_512),
        "resnet50": (25_557_032, 25_557_032),
    }
    assert held(shown) == {"counts": True, "fewer": True}
    assert not held(architectures.parameter_table(BackboneTable(names=("resnet18",))))["counts"]


def test_the_1x1_convolution_saves_nine_multiplications_in_ten() -> None:
    assert architectures.multiplications(28, 192, 32, 5, 16) == (120_422_400, 12_443_648)
    wide = Bottleneck(narrow=2000, repeats=1, side=4)
    assert not held(architectures.bottleneck(wide))["multiplications"]


def test_lenet5s_slide_is_right_in_three_statements_and_wrong_in_two() -> None:
    shown = architectures.lenet5(Pictured(shots=1))
    assert held(shown) == {
        "parameters": True,
        "grey": True,
        "after_pooling": True,
        "linear": False,
        "same_filters": False,
    }
    assert (shown.values["dense"], shown.values["sparse"]) == (61_706, 60_000)


def test_vgg16_is_13_convolutions_of_3x3_and_5_pools_of_2x2_and_no_inception() -> None:
    shown = architectures.vgg16(Levels())
    assert held(shown) == {"kernels": True, "pools": True, "parameters": True, "inception": False}
    assert shown.values["fc6"] == 102_764_544


def test_googlenets_block_is_several_kernels_put_together() -> None:
    shown = architectures.parallel_filters(Pictured(shots=1))
    assert held(shown) == {"parallel": True, "one_by_one": True, "no_choice": False}
    assert list(shown.values["widths"].values()) == [64, 128, 32, 32]


def test_a_zeroed_residual_block_is_the_identity_and_a_plain_one_is_not() -> None:
    assert held(architectures.zeroed_residual(Levels())) == {
        "identity": True,
        "shortcut": True,
    }


def test_plain_and_residual_have_the_same_weights_but_for_the_shortcuts() -> None:
    residual, _ = build_backbone("resnet18", ["grey"], cut_after="layer2", seed=2)
    plain = architectures.without_shortcuts(residual)
    mine, theirs = plain.state_dict(), residual.state_dict()
    assert {name for name in theirs if name not in mine} == {
        name for name in theirs if "downsample" in name
    }
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())
    x = torch.randn(1, 1, 16, 16)
    assert plain(x)["layer2"].shape == residual(x)["layer2"].shape


# -------------------------------------------------------------------------------- all together


def test_all_go_on_one_page_and_finished_ones_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from geotl.experiments.recipe import lectures

    some = {n: p for n, p in lectures().items() if n in ("gradient_descent", "dropout_masks")}
    monkeypatch.setattr(run, "lectures", lambda: some)
    page = run.show_all(tmp_path, quiet=True)
    html = page.read_text(encoding="utf-8")
    assert html.count("data:image/png;base64,") == 4  # each in two languages
    assert not re.search(r"(src|href)=\"(?!data:|#)", html)
    assert html.index("gradient_descent") < html.index("dropout_masks")  # by part, not by name
    for name in some:
        recipe = load_lecture(name)[1]
        for text in (recipe.title, *recipe.claims.values()):
            assert text.fr in unescape(html)
            assert text.en in unescape(html)
    assert "2 recipes; 5 of 5 claims that must hold were seen" in capsys.readouterr().out

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("run again though finished")

    monkeypatch.setattr(run, "show", refused)
    assert run.show_all(tmp_path, quiet=True).read_text(encoding="utf-8") == html
    path = tmp_path / "dropout_masks.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"recipe": "of another time"}))
    with pytest.raises(AssertionError, match="run again"):
        run.show_all(tmp_path, quiet=True)


def test_claims_that_nobody_answers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = load_text("gradient_descent").replace("  start:", "  begin:")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="name the claims so"):
        run.show(str(path), tmp_path)


def test_a_claim_that_need_not_hold_says_why_and_is_shown_so() -> None:
    with pytest.raises(ValueError, match="needs a reason"):
        Claim(fr="bruit", en="noise", theory="wrong")
    claims = [("holds", True), ("holds", False), ("wrong", False), ("open", True), ("open", False)]
    records = [{"claims": [{"theory": theory, "held": held} for theory, held in claims]}]
    assert run.Counts.of(records) == run.Counts(expected=2, seen=1, wrong=1, open=2, open_seen=1)
    assert [run.status_of(held, theory) for theory, held in claims] == [
        "holds",
        "missed",
        "wrong",
        "holds",
        "open",
    ]


def load_text(name: str) -> str:
    from geotl.experiments.recipe import lectures

    return lectures()[name].read_text(encoding="utf-8")


def test_every_kind_of_panel_is_drawn() -> None:
    from geotl.lecture.figures import panels_figure

    tile = np.zeros((4, 4))
    panels = (
        Lines(
            Both(fr="perte", en="loss"),
            "x",
            "y",
            (Series("s", [1, 2], [3, 4], [0.1, float("nan")]),),
            marks={1: "m"},
            level=(3.5, "goal"),
            log_x=True,
            log_y=True,
        ),
        Bars(
            "b",
            ("p", "q"),
            {"off": [1, 2], "on": [2, 3]},
            sds={"on": [0.1, 0.2]},
            words={"off": ["one", "two"]},
        ),
        Histograms("c", "v", {"one": [1.0, 2.0], "two": [2.0, 2.5]}, log=True),
        Pictures("d", (tile, tile, tile), ("one", "two", "three"), columns=2),
    )
    png = panels_figure(panels, columns=2)
    assert png[:4] == b"\x89PNG"
    assert png == panels_figure(panels, columns=2)
    assert png != panels_figure(panels, columns=2, language="fr")
