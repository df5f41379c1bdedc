"""Members of pixel models and their fusion, on made features."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.ensemble import RandomForestClassifier

from geotl.errors import DataError
from geotl.evaluation.evaluate import fit_temperature
from geotl.models.pixel_decoder import DecoderKind
from geotl.models.pixel_features import PixelFeatures
from geotl.models.pixel_model import LinearMember, calibrated, fused
from geotl.training import pixel_fusion, pixel_members
from geotl.training.opinion_pool import log_loss, pool_weights
from geotl.training.pixel_fusion import (
    FittedMember,
    MemberRecipe,
    fit_fusion,
    fit_member,
)
from geotl.training.pixel_members import (
    PixelRows,
    fit_discriminant,
    fit_forest,
    fit_logistic,
    forest_member,
    weighed,
)
from geotl.training.settings import PixelMember


def made(count: int = 120, classes: int = 3, seed: int = 0) -> PixelRows:
    """Pixels whose classes differ in a few of their features."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    bands = random.normal(size=(5, count)) + 3 * np.eye(5)[:, :classes] @ np.eye(classes)[:, labels]
    wide = 100 + 7 * random.normal(size=(12, count)) + 9 * labels
    features = {"bands": bands.astype(np.float32), "wide": wide.astype(np.float32)}
    return PixelRows(features, labels.astype(np.int64), np.ones(count), classes)


def noisy() -> PixelRows:
    """As made, but every fifth pixel has another class: fitted members are too sure of theirs."""
    rows = made()
    labels = np.where(np.arange(120) % 5 == 0, (rows.labels + 1) % 3, rows.labels)
    return PixelRows(rows.features, labels, rows.weight, 3)


def halves(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rows = np.arange(count)
    return [(rows[rows % 4 != k], rows[rows % 4 == k]) for k in range(4)]


@pytest.fixture
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {
        name: MemberRecipe(
            one.fitter, one.blocks, (9,) if one.fitter is fit_forest else one.settings
        )
        for name, one in pixel_fusion.MEMBERS.items()
    }
    monkeypatch.setattr(pixel_fusion, "MEMBERS", small)


@pytest.mark.parametrize("classes", [2, 5])
def test_a_forest_as_arrays_is_scikit_learns(classes: int) -> None:
    rows = made(300, classes)
    solver = RandomForestClassifier(30, random_state=1)
    solver.fit(rows.table(("bands", "wide")), rows.labels)
    own = forest_member(solver, ("bands", "wide"), classes)
    fresh = made(200, classes, seed=9)
    # Some values lie exactly on thresholds of the trees.
    fresh.features["bands"][:, :50] = rows.features["bands"][:, :50]
    wanted = np.maximum(solver.predict_proba(fresh.table(("bands", "wide"))), 1e-6)
    found = np.exp(own.log_probabilities(fresh.features))
    np.testing.assert_allclose(found, wanted / wanted.sum(1, keepdims=True), atol=1e-6)


def test_a_forest_grown_by_threads_leaves_the_filters_of_warnings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They were lost, and scikit-learn then warned of every tree."""
    monkeypatch.setattr(pixel_members, "MANY_PIXELS", 10)
    before = list(warnings.filters)
    for _ in range(3):
        fit_forest(made(600), ("bands", "wide"), 40)
    assert list(warnings.filters) == before


@pytest.mark.parametrize("fitter", [fit_discriminant, fit_logistic, fit_forest])
def test_a_class_without_pixels_is_all_but_impossible(fitter) -> None:
    rows = made()
    rows = rows.part(np.flatnonzero(rows.labels != 1))
    member = fitter(rows, ("bands", "wide"), 9 if fitter is fit_forest else 0.1)
    found = member.log_probabilities(rows.features)
    assert np.isfinite(found).all()
    assert found[:, 1].max() < -10


@pytest.mark.parametrize("fitter", [fit_discriminant, fit_logistic])
def test_pixels_of_one_polygon_weigh_as_one_label(fitter) -> None:
    once = made()
    times = np.where(np.arange(120) < 40, 5, 1)
    many = once.part(np.repeat(np.arange(120), times))
    many.weight[:] = np.repeat(1 / times, times)
    first, second = (fitter(rows, ("bands", "wide"), 0.5) for rows in (once, many))
    np.testing.assert_allclose(first.weight, second.weight, rtol=2e-2, atol=2e-3)


def test_the_scale_of_a_feature_does_not_matter() -> None:
    rows = made()
    scaled = {block: values * np.float32(8) + 16 for block, values in rows.features.items()}
    other = PixelRows(scaled, rows.labels, rows.weight, 3)
    first, second = (fit_discriminant(one, ("bands", "wide"), 0.1) for one in (rows, other))
    np.testing.assert_allclose(
        first.log_probabilities(rows.features), second.log_probabilities(scaled), atol=1e-2
    )


def test_the_fusion_is_calibrated_and_reproducible(few_trees: None) -> None:
    rows = made()
    first, again = (fit_fusion(rows, halves(120)) for _ in range(2))
    assert first.weights == again.weights
    assert sum(first.weights.values()) == pytest.approx(1)
    assert min(first.weights.values()) > 0
    assert first.labels == 120
    forest, same = (f.members["forest_bands_wide"].member for f in (first, again))
    assert np.array_equal(forest.threshold, same.threshold)


def test_bands_alone_leave_out_the_members_with_windows(few_trees: None) -> None:
    rows = made()
    alone = PixelRows({"bands": rows.features["bands"]}, rows.labels, rows.weight, 3)
    assert [*fit_fusion(alone, halves(120)).members] == ["discriminant_bands"]


def test_without_folds_members_count_alike(few_trees: None) -> None:
    found = fit_fusion(made(3), [])
    assert [*found.weights.values()] == pytest.approx([1 / 3] * 3)
    assert found.temperature == 1


@pytest.mark.parametrize("settings", [(0.01, 0.999), (0.999, 0.01)])
def test_a_member_keeps_the_setting_of_least_held_out_loss(settings: tuple[float, float]) -> None:
    rows = noisy()
    found = fit_member(rows, halves(120), MemberRecipe(fit_discriminant, ("bands",), settings))
    order = np.concatenate([out for _, out in halves(120)])
    truth, weight = rows.labels[order], rows.weight[order]

    def alone(setting: float) -> float:
        one = MemberRecipe(fit_discriminant, ("bands",), (setting,))
        return log_loss(fit_member(rows, halves(120), one).held_out, truth, weight)

    assert isinstance(found.member, LinearMember)
    assert found.setting == min(settings, key=alone)
    assert log_loss(found.held_out, truth, weight) == min(alone(one) for one in settings)


def test_members_weights_and_fusion_are_calibrated_on_held_out_pixels(few_trees: None) -> None:
    rows = noisy()
    found = fit_fusion(rows, halves(120))
    order = np.concatenate([out for _, out in halves(120)])
    truth, weight = rows.labels[order], rows.weight[order]
    several = [one.held_out for one in found.members.values()]
    for one in found.members.values():
        assert fit_temperature(one.held_out, truth, weight) == pytest.approx(1, abs=0.02)
    assert [*found.weights.values()] == pool_weights(several, truth, weight).tolist()
    assert max(found.weights.values()) > 1.1 * min(found.weights.values())
    pooled = fused(several, [*found.weights.values()], np.zeros(3))
    assert found.temperature == fit_temperature(pooled, truth, weight)
    assert found.temperature != pytest.approx(1, abs=0.02)


def test_the_model_holds_the_temperature_of_the_fusion(few_trees: None) -> None:
    rows = noisy()
    found = fit_fusion(rows, halves(120))
    model = found.model(PixelFeatures(("a",), (None,), (0.0,), (1.0,), 0.0), "abc")
    logs = [
        calibrated(one.member.log_probabilities(rows.features), one.temperature)
        for one in found.members.values()
    ]
    pooled = fused(logs, [*found.weights.values()], np.zeros(3)) / found.temperature
    wanted = np.exp(pooled - logsumexp(pooled, axis=1, keepdims=True))
    np.testing.assert_allclose(model.probabilities(rows.features).T, wanted, atol=1e-5)


@pytest.mark.parametrize("fitter", [fit_discriminant, fit_logistic, fit_forest])
def test_priors_say_how_likely_classes_are(fitter) -> None:
    """Of two classes that look alike, the likelier one is predicted, in shares like the priors."""
    random = np.random.default_rng(3)
    features = {"bands": random.normal(size=(4, 400)).astype(np.float32)}
    labels = (np.arange(400) % 4 == 0).astype(np.int64)
    rows = PixelRows(features, labels, np.ones(400), 2)
    setting = 200.0 if fitter is fit_forest else 0.001 if fitter is fit_logistic else 0.5
    for priors, share in ((None, 0.25), (np.array([0.5, 0.5]), 0.5), (np.array([0.1, 0.9]), 0.9)):
        member = fitter(weighed(rows, priors), ("bands",), setting)
        fresh = {"bands": random.normal(size=(4, 2000)).astype(np.float32)}
        found = np.exp(member.log_probabilities(fresh))[:, 1].mean()
        assert found == pytest.approx(share, abs=0.06)


def test_some_members_may_be_left_out(few_trees: None) -> None:
    found = fit_fusion(made(), halves(120), ["discriminant_wide"])
    assert found.weights == {"discriminant_wide": 1.0}
    with pytest.raises(DataError, match="logistic_deep: with the features bands, wide there are"):
        fit_fusion(made(), halves(120), ["logistic_deep"])


def test_recipes_name_the_members_that_there_are() -> None:
    decoders = tuple(f"decoder_{kind}" for kind in get_args(DecoderKind))
    assert get_args(PixelMember) == (*pixel_fusion.MEMBERS, *decoders)


def test_few_labels_draw_the_weights_to_equal_ones() -> None:
    good, bad = np.log([[0.9, 0.1]] * 20), np.log([[0.4, 0.6]] * 20)
    truth, weight = np.zeros(20, np.int64), np.ones(20)
    fitted = pool_weights([good, bad], truth, weight, equal=0)
    drawn = pool_weights([good, bad], truth, weight, equal=20)
    np.testing.assert_allclose(drawn, (fitted + 0.5) / 2)
    assert pool_weights([good, bad], truth[:0], weight[:0]).tolist() == [0.5, 0.5]


def outside(rows: PixelRows, certainty: float) -> FittedMember:
    """A member fitted elsewhere, whose held-out pixels have their class with this probability."""
    held = np.concatenate([out for _, out in halves(120)])
    other = (1 - certainty) / 2
    chance = np.full((120, 3), other) + (certainty - other) * np.eye(3)[rows.labels[held]]
    member = LinearMember(("decoder",), np.eye(3), np.zeros(3))
    return FittedMember(member, 20.0, 1.0, np.log(chance), 0.0)


@pytest.mark.usefixtures("few_trees")
def test_a_member_fitted_elsewhere_takes_part_where_it_helps_held_out_pixels() -> None:
    rows = noisy()
    plain = fit_fusion(rows, halves(120))
    useful = fit_fusion(rows, halves(120), fitted={"decoder_unet": outside(rows, 0.9)})
    assert useful.weights["decoder_unet"] > 1 / 4
    assert sum(useful.weights.values()) == pytest.approx(1)
    harmful = fit_fusion(rows, halves(120), fitted={"decoder_unet": outside(rows, 0.1)})
    assert harmful.weights == {**plain.weights, "decoder_unet": 0.0}
    assert harmful.temperature == plain.temperature
    assert [*harmful.members] == [*useful.members] == [*plain.members, "decoder_unet"]
    unseen = replace(outside(rows, 0.9), held_out=np.zeros((0, 3)))
    without_folds = fit_fusion(rows, [], fitted={"decoder_unet": unseen})
    assert without_folds.weights["decoder_unet"] == 0


def test_a_member_fitted_elsewhere_can_be_the_only_one() -> None:
    rows = noisy()
    fitted = {"decoder_unet": outside(rows, 0.4)}
    found = fit_fusion(rows, halves(120), ["decoder_unet"], fitted=fitted)
    assert found.weights == {"decoder_unet": 1.0}
