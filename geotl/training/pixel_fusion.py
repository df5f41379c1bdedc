"""The fusion of a pixel model's members: calibrated and weighted by folds inside the training part.

Each member's setting, its temperature and its weight come from predictions for held-out pixels.
Then all members are fitted on all training pixels. `opinion_pool` weighs them.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from geotl.arrays import Float64s
from geotl.errors import DataError
from geotl.evaluation.evaluate import fit_temperature
from geotl.models.deep_features import DEEP, DeepFeatures
from geotl.models.pixel_decoder import PixelDecoder
from geotl.models.pixel_features import BANDS, WIDE, PixelFeatures
from geotl.models.pixel_model import Member, PixelModel
from geotl.training.heads import Folds
from geotl.training.opinion_pool import Pool, floored, log_loss
from geotl.training.pixel_members import (
    FOLD_TREES,
    MANY_PIXELS,
    PENALTIES,
    SHRINKAGES,
    TREES,
    Fitter,
    PixelRows,
    fit_discriminant,
    fit_discriminants,
    fit_forest,
    fit_logistic,
    weighed,
)


@dataclass(frozen=True)
class MemberRecipe:
    """How a member is fitted.

    Attributes:
        fitter: from pixels, blocks and a setting to a member.
        blocks: of features that it takes.
        settings: to choose from; the middle one where there are no folds.
    """

    fitter: Fitter
    blocks: tuple[str, ...]
    settings: tuple[float, ...]


MEMBERS: Mapping[str, MemberRecipe] = {
    "discriminant_bands": MemberRecipe(fit_discriminant, (BANDS,), SHRINKAGES),
    "discriminant_wide": MemberRecipe(fit_discriminant, (WIDE,), SHRINKAGES),
    "forest_bands_wide": MemberRecipe(fit_forest, (BANDS, WIDE), (TREES,)),
    "discriminant_deep": MemberRecipe(fit_discriminant, (DEEP,), SHRINKAGES),
    "logistic_deep": MemberRecipe(fit_logistic, (DEEP,), PENALTIES),
}


@dataclass(frozen=True)
class FittedMember:
    """A member with what the folds chose for it.

    Attributes:
        member: fitted on all training pixels.
        setting: of least log-loss after calibration.
        temperature: of its log-probabilities.
        held_out: its calibrated log-probabilities of the held-out pixels [n,K].
        seconds: that choosing and fitting took.
    """

    member: Member
    setting: float
    temperature: float
    held_out: Float64s
    seconds: float


NONE_FITTED: Mapping[str, FittedMember] = MappingProxyType({})


@dataclass(frozen=True)
class PixelFusion:
    """Fitted members and how they are fused.

    Attributes:
        members: by name.
        weights: of the members' calibrated log-probabilities, by name; they sum to 1.
        temperature: that the weighted sum is divided by.
        labels: how many labels were fitted.
        decoder: the trained network, where a decoder is among the members.
    """

    members: Mapping[str, FittedMember]
    weights: Mapping[str, float]
    temperature: float
    labels: int
    decoder: PixelDecoder | None = None

    def model(
        self,
        features: PixelFeatures,
        classes: Sequence[str],
        deep: DeepFeatures | None = None,
    ) -> PixelModel:
        """The model of these members, with the fusion's temperature inside its weights."""
        return PixelModel(
            features,
            tuple(classes),
            {name: one.member for name, one in self.members.items()},
            {name: one.temperature for name, one in self.members.items()},
            {name: weight / self.temperature for name, weight in self.weights.items()},
            np.zeros(len(classes)),
            deep,
            self.decoder,
        )


def members_for(
    blocks: Collection[str], names: Collection[str] = (), fitted: Collection[str] = ()
) -> dict[str, MemberRecipe]:
    """The members that take these blocks of features: the named ones, or all.

    Args:
        blocks: of features.
        names: of the members; () for all.
        fitted: names of members that need no fit, which may be named too.

    Raises:
        DataError: none does, or a named one does not.
    """
    fitting = {name: one for name, one in MEMBERS.items() if {*one.blocks} <= {*blocks}}
    available = (*fitting, *fitted)
    missing = [name for name in names if name not in available]
    if missing or not available:
        raise DataError(
            f"members {', '.join(missing) or 'of any kind'}: with the features "
            f"{', '.join(blocks)} there are {', '.join(available) or 'none'}; deep ones need "
            "model.weights"
        )
    return {name: one for name, one in fitting.items() if name in names or not names}


def fit_fusion(
    rows: PixelRows,
    folds: Folds,
    names: Collection[str] = (),
    priors: Float64s | None = None,
    fitted: Mapping[str, FittedMember] = NONE_FITTED,
) -> PixelFusion:
    """Fit, calibrate and weigh the members that the pixels have features for.

    Args:
        rows: training pixels.
        folds: (fit, held out) positions inside them; a label's pixels lie on one side.
        names: of the members; () for all.
        priors: how likely the classes are [K], which sum to 1; None for their shares of the labels.
        fitted: members that were fitted on the same pixels and folds; each joins the others where
            it lowers the log-loss of held-out pixels, and has the weight 0 elsewhere.

    Raises:
        DataError: a member that the pixels have no features for.
    """
    recipes = members_for(tuple(rows.features), names, tuple(fitted))
    labels, rows = round(float(rows.weight.sum())), weighed(rows, priors)
    held_out = np.concatenate([np.zeros(0, np.int64), *(out for _, out in folds)])
    members = {name: fit_member(rows, folds, one) for name, one in recipes.items()}
    truth, weight = rows.labels[held_out], rows.weight[held_out]
    outside = {name: one.held_out for name, one in members.items()}
    pool = Pool.of(outside, truth, weight)
    for name, one in fitted.items():
        members[name] = one
        joined = Pool.of(
            {**{n: outside[n] for n in pool.weights}, name: one.held_out}, truth, weight
        )
        if not pool.weights or joined.loss < pool.loss:
            pool, outside = joined, {**outside, name: one.held_out}
    weights = {name: pool.weights.get(name, 0.0) for name in members}
    return PixelFusion(members, weights, pool.temperature, labels)


def fit_member(rows: PixelRows, folds: Folds, recipe: MemberRecipe) -> FittedMember:
    """Choose a member's setting and temperature by the folds, and fit it on all pixels."""
    begun = time.perf_counter()
    middle = recipe.settings[len(recipe.settings) // 2]
    if not folds:
        member = recipe.fitter(rows, recipe.blocks, middle)
        return FittedMember(member, middle, 1.0, np.zeros((0, rows.count)), since(begun))
    held_out = np.concatenate([out for _, out in folds])
    truth, weight = rows.labels[held_out], rows.weight[held_out]
    parts = [(rows.part(fit), rows.part(out)) for fit, out in folds]
    tried = _held_out(parts, recipe)
    temperatures = {
        setting: fit_temperature(predicted, truth, weight) for setting, predicted in tried.items()
    }
    scaled = {
        setting: floored(predicted, temperatures[setting]) for setting, predicted in tried.items()
    }
    best = min(tried, key=lambda setting: log_loss(scaled[setting], truth, weight))
    member = recipe.fitter(rows, recipe.blocks, best)
    return FittedMember(member, best, temperatures[best], scaled[best], since(begun))


def since(begun: float) -> float:
    """Seconds since a reading of `time.perf_counter`."""
    return time.perf_counter() - begun


def _held_out(
    parts: Sequence[tuple[PixelRows, PixelRows]], recipe: MemberRecipe
) -> dict[float, Float64s]:
    """Log-probabilities of the held-out pixels [n,K], fold after fold, by setting."""
    predicted: dict[float, list[Float64s]] = {setting: [] for setting in recipe.settings}
    many = len(parts[0][0].labels) > MANY_PIXELS
    for fit, out in parts:
        for setting, member in zip(recipe.settings, _fitted(fit, recipe, many=many), strict=True):
            predicted[setting].append(member.log_probabilities(out.features))
    return {setting: np.concatenate(several) for setting, several in predicted.items()}


def _fitted(rows: PixelRows, recipe: MemberRecipe, *, many: bool) -> Sequence[Member]:
    """The member of each setting, fitted to some pixels."""
    if recipe.fitter is fit_discriminant:
        return fit_discriminants(rows, recipe.blocks, recipe.settings)
    if recipe.fitter is fit_forest and many:
        return [fit_forest(rows, recipe.blocks, FOLD_TREES)]
    return [recipe.fitter(rows, recipe.blocks, setting) for setting in recipe.settings]
