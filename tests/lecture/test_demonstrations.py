"""The lecture's figures that are known, and claims that a broken technique must not pass."""

from __future__ import annotations

import dataclasses
import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from geotl.lecture import (
    architectures,
    explicit,
    fitting,
    implicit,
    run,
    stages,
    transfer,
)
from geotl.lecture.figures import Bars, Histograms, Lines, MeanChange, Pictures, Series
from geotl.lecture.recipes import (
    NUMBERS,
    BackboneTable,
    Batchnorm,
    Bottleneck,
    Capacity,
    Descent,
    Gradient,
    Levels,
    Masks,
    Pictured,
    Standardised,
    Stopping,
    Transferred,
    load_lecture,
)
from geotl.lecture.samples import draw, learn, network, plain_training, sample
from geotl.lecture.texts import Both, Claim
from geotl.models.backbone import freeze
from geotl.models.classifier import FeatureSpec, Normalise, TileClassifier
from geotl.models.registry import build_backbone
from geotl.training.augment import augment
from geotl.training.learner import Learner
from geotl.training.settings import Augmentation

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


# ------------------------------------------------------------------------------------- fitting


def test_where_a_network_stands_against_a_target_of_point_nine() -> None:
    pairs = ((0.60, 0.58), (0.99, 0.70), (0.93, 0.91))
    found = [fitting.standing(*pair, 0.9) for pair in pairs]
    assert found == ["under", "over", "right"]


def test_lenet5_learns_noise_by_heart_and_one_that_does_not_learn_is_told() -> None:
    numbers = Capacity(trap="lenet5", trap_steps=1)
    assert held(fitting.capacity_check(numbers))["memorise"]
    lazy = numbers.model_copy(update={"lr": 1e-9, "steps": 3})
    assert not held(fitting.capacity_check(lazy))["memorise"]


def test_training_mode_makes_a_resnet_look_perfect_and_evaluation_mode_does_not() -> None:
    """The trap of the capacity check; without batch normalisation there is none."""
    numbers = Capacity(steps=1, trap_steps=2)
    shown = fitting.capacity_check(numbers)
    assert held(shown)["trap"]
    _, looks, in_use = shown.values["path"][shown.values["trap_step"] - 1]
    assert looks == 1.0
    assert in_use < 0.8
    steady = numbers.model_copy(update={"trap": "lenet5", "trap_steps": 60})
    assert not held(fitting.capacity_check(steady))["trap"]


def test_stages_that_gain_nothing_do_not_pass() -> None:
    one = dataclasses.make_dataclass(
        "Kept",
        ["train", "test"],
        namespace={"gap": property(lambda self: self.train - self.test)},
    )
    same = [one(0.99, 0.7 + 0.01 * i) for i in range(3)]
    better = [one(0.95, 0.8 + 0.01 * i) for i in range(3)]
    assert held(fitting.stages_shown(same, better, 0.9)) == {
        "capacity": True,
        "gap": True,
        "clause_validation": True,
        "clause_training": True,
    }
    assert held(fitting.stages_shown(same, same, 0.995)) == {
        "capacity": False,
        "gap": False,
        "clause_validation": False,
        "clause_training": True,
    }


def test_an_effect_is_visible_only_beyond_its_interval() -> None:
    noise = MeanChange.of([0.5, 0.6, 0.7], [0.7, 0.5, 0.72])
    assert not noise.visible
    assert "no visible effect" in noise.words("accuracy")
    assert MeanChange.of([0.5, 0.6, 0.7], [0.61, 0.7, 0.8]).rises
    assert MeanChange.of([0.5, 0.6], [0.4, 0.5]).falls
    assert not MeanChange.of([0.5], [0.9]).visible


# ------------------------------------------------------------------------------------ implicit


def test_gradient_descent_from_zero_ends_at_the_pseudoinverses_solution() -> None:
    shown = implicit.gradient_descent(Descent())
    assert held(shown) == {"least": True, "start": True}
    assert shown.values["away"] < 1e-14
    short = implicit.gradient_descent(Descent(steps=5))
    assert not held(short)["least"]


def test_from_elsewhere_gradient_descent_keeps_what_no_equation_sees() -> None:
    random = np.random.default_rng(1)
    matrix, target = random.standard_normal((4, 9)), random.standard_normal(4)
    start = random.standard_normal(9)
    end = implicit.descend(matrix, target, start, 3000).end
    unseen = np.eye(9) - np.linalg.pinv(matrix) @ matrix
    np.testing.assert_allclose(unseen @ end, unseen @ start, atol=1e-10)


@pytest.mark.parametrize("patience", [2, 0])
def test_early_stopping_and_checkpoint_keep_the_same_epoch(
    patience: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accuracies .5 .6 .7 .69 .68: patience 2 ends after epoch 5, a checkpoint runs on."""
    accuracies = iter([0.5, 0.6, 0.7, 0.69, 0.68, 0.66, 0.65])
    weights = []

    def told(self: Learner, positions: torch.Tensor, _: int) -> None:
        weights.append(self.model.head.weight.detach().clone())
        self.log("val_loss", 1 - next(accuracies), batch_size=len(positions))

    monkeypatch.setattr(Learner, "validation_step", told)
    numbers = Stopping(**SMALL | {"epochs": 7}, backbone="lenet5", cut_after="c1")
    source, rows = sample(numbers.region, numbers.bands), draw(numbers, 0)
    start = network(source, rows.split.train, numbers, 0)
    training = plain_training(numbers, 0).changed(patience=patience)
    learnt = learn(start, source, rows, training, watch=True)
    assert len(learnt.history.epochs) == (5 if patience else 7)
    assert learnt.history.best_epoch == 2  # the third
    assert torch.equal(learnt.kept.head.weight, weights[2])
    assert torch.equal(learnt.last.head.weight, weights[-1])
    assert not torch.equal(weights[2], weights[-1])


def test_standardised_bands_have_mean_0_and_sd_1_and_houses_are_well_conditioned() -> None:
    shown = implicit.standardisation(Standardised(shots=3))
    assert held(shown) == {"zero_one": True, "alike": True, "easier": True}
    assert shown.values["mean"] < 1e-5
    assert shown.values["sd"] < 1e-5
    raw, scaled = shown.values["condition"]
    assert raw > 1e5
    assert scaled < 1.5


def test_conditioning_is_that_of_the_hessian() -> None:
    attributes = np.random.default_rng(0).normal(5, 3, (40, 2))
    whole = np.hstack([np.ones((40, 1)), attributes])
    wanted = np.linalg.cond(whole.T @ whole)
    assert implicit.conditioning(attributes) == pytest.approx(wanted, rel=1e-6)


def test_gamma_and_beta_of_the_lecture_standardise_and_undo_it() -> None:
    generator = torch.Generator().manual_seed(0)
    z = 4 + 3 * torch.randn(16, 8, 10, 10, generator=generator)
    away = implicit.derivation(z)
    assert away["affine"] < 5e-6
    assert away["identity"] < 1e-5
    assert away["biased"] < 1e-5
    assert away["unbiased"] < 1e-5
    biased = z.var((0, 2, 3), correction=0) / z.var((0, 2, 3), correction=1)
    assert float((biased - 1).abs().max()) > 1e-4  # so that the two can be told apart


def test_a_batch_norm_with_another_variance_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(nn.BatchNorm2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * 1.01

    numbers = Batchnorm(shots=2, tiles=16)
    assert all(held(implicit.batchnorm_derivation(numbers)).values())
    monkeypatch.setattr(implicit, "SteadyBatchNorm2d", Wrong)
    assert not any(held(implicit.batchnorm_derivation(numbers)).values())


def test_vgg_with_and_without_batch_norm_begin_with_the_same_convolutions() -> None:
    convolutions = []
    for name in ("vgg11", "vgg11_bn"):
        backbone, _ = build_backbone(name, ["a", "b"], cut_after="block3", seed=4)
        convolutions.append([m.weight for m in backbone.modules() if isinstance(m, nn.Conv2d)])
    assert len(convolutions[0]) == len(convolutions[1]) == 4
    for plain, normalised in zip(*convolutions, strict=True):
        assert torch.equal(plain, normalised)


# ------------------------------------------------------------------------------------ explicit

KINDS = {
    "turns": Augmentation(),
    "rotate": Augmentation(flips=False, quarter_turns=False, rotate_deg=180),
    "crop": Augmentation(flips=False, quarter_turns=False, crop=0.3),
    "noise": Augmentation(flips=False, quarter_turns=False, noise=0.5),
    "blur": Augmentation(flips=False, quarter_turns=False, blur=3.0),
    "erase": Augmentation(flips=False, quarter_turns=False, erase=1.0),
    "kornia": Augmentation(kornia=["RandomPerspective", {"RandomErasing": {"p": 1.0}}]),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_augmentations_keep_their_promises(kind: Augmentation) -> None:
    numbers = NUMBERS["augmentation"](shots=4)
    source, rows = sample(numbers.region, numbers.bands), draw(numbers, 0)
    found = explicit.promises(source, rows, kind)
    assert found.held, found.measured


@pytest.mark.parametrize("name", ["turns", "noise", "blur", "erase"])
def test_a_broken_augmentation_does_not_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(batch, *args, **more):
        after = augment(batch, *args, **more)
        return after | {"image": after["image"] * 1.05 + 1}

    monkeypatch.setattr(explicit, "augment", broken)
    numbers = NUMBERS["augmentation"](shots=4)
    source, rows = sample(numbers.region, numbers.bands), draw(numbers, 0)
    assert not explicit.promises(source, rows, KINDS[name]).held


def test_dropout_takes_three_in_ten_and_scales_the_rest() -> None:
    shown = explicit.dropout_masks(Masks())
    assert held(shown) == {"switched": True, "scale": True, "use": True}
    assert shown.values["off"] == pytest.approx(0.3, abs=0.003)
    assert shown.values["factor"] == pytest.approx(1.4286, abs=1e-4)


def test_a_dropout_that_does_not_scale_and_never_rests_does_not_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Unscaled(nn.Dropout):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * (torch.rand_like(x) >= self.p)

    monkeypatch.setattr(nn, "Dropout", Unscaled)
    found = held(explicit.dropout_masks(Masks()))
    assert found == {"switched": True, "scale": False, "use": False}


def test_decay_adds_twice_lambda_w_and_not_over_m(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = Gradient(shots=2)
    shown = explicit.decay_gradient(numbers)
    assert held(shown) == {"gradient": True, "bias": True, "sgd": True, "over_m": False}
    assert shown.values["away"] < 2e-8
    assert shown.values["bias"] == 0
    penalty = explicit.l2_penalty
    monkeypatch.setattr(explicit, "l2_penalty", lambda p, s: penalty(p, s) / 2)
    assert held(explicit.decay_gradient(numbers)) == {
        "gradient": False,
        "bias": True,
        "sgd": False,
        "over_m": False,
    }


def test_a_penalty_on_biases_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explicit, "decaying", list)
    assert not held(explicit.decay_gradient(Gradient(shots=2)))["bias"]


@pytest.mark.parametrize("key", ["l2", "label_smoothing", "mixup", "dropout"])
def test_pairs_differ_in_one_key(key: str) -> None:
    plain = plain_training(NUMBERS["one_key"](), 3)
    off, on = (explicit.with_key(plain, key, value) for value in (0.0, 0.3))
    assert off == plain
    assert (on.seed, on.classes, on.light) == (off.seed, off.classes, off.light)
    first, second = (t.settings.model_dump() | t.augmentation.model_dump() for t in (off, on))
    differing = [name for name in first if first[name] != second[name]]
    assert differing == ([] if key == "dropout" else [key])


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
