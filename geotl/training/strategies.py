"""What is trained, and from where: probe, finetune, probe_then_finetune, full, scratch.

The training labels are all there are: the head's penalty, the number of epochs, how far a network
goes from its probe and the temperature are chosen by folds inside them, or of a discriminant by
leaving out one tile after the other; then everything is fitted on all of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from geotl.arrays import Floats, Int64s
from geotl.data.tile_array import Pack, batch
from geotl.evaluation.evaluate import fit_temperature
from geotl.language import joined, msg
from geotl.models.backbone import freeze, hold_batchnorm
from geotl.models.classifier import TileClassifier, view_logits
from geotl.models.device import Precision, autocast
from geotl.training.averaging import between
from geotl.training.heads import (
    WHOLE,
    Chosen,
    Folds,
    Linear,
    Parts,
    choose,
    choose_among,
    head_fit,
)
from geotl.training.learner import History, Learner, Tiles, fit
from geotl.training.leave_one_out import MAX_TILES, leave_one_out
from geotl.training.part_heads import choose_parts
from geotl.training.semi_supervised import PoolUse
from geotl.training.settings import HeadKind, Training
from geotl.training.tuning import HALFWAY, SHARES, Tuning, choose_share

Strategy = Literal["probe", "finetune", "probe_then_finetune", "full", "scratch"]
FeatureSource = Callable[[TileClassifier, Int64s], Floats]


@dataclass(frozen=True)
class FitPlan:
    """How a network is fitted to labels.

    Attributes:
        strategy: what is trained.
        head: kind of linear head a probe gets, with the `head_settings` to choose from.
        freeze_until: last frozen stage of a fine-tuning; None for the last but one.
        hold_batchnorm: keep batch normalisation on its stored statistics while training.
        training: settings, augmentation, and what they depend on.
        temperature, parts: of the linear head that a probe is fine-tuned from.
        one_by_one: no two tiles are alike or belong together, so that a discriminant may be
            calibrated on tiles that are left out one by one, in place of folds.
        share: how much of a fine-tuning from a probe is kept, where that is chosen already (see
            `Tuning`); None where folds choose it.
        quiet, resume: no progress; go on from what an earlier run left.
    """

    strategy: Strategy
    head: HeadKind
    head_settings: tuple[float, ...]
    freeze_until: str | None
    hold_batchnorm: bool
    training: Training
    temperature: float = 1.0
    parts: Parts = WHOLE
    one_by_one: bool = False
    share: float | None = None
    quiet: bool = False
    resume: bool = False


@dataclass(frozen=True)
class HeldOut:
    """Logits of training tiles by fits without these tiles.

    Attributes:
        rows: positions of the tiles among the training tiles [m].
        logits: of these [m, K], not calibrated.
    """

    rows: Int64s
    logits: Floats

    def of(self, rows: Int64s) -> Floats:
        """Logits [r, K] of some of these tiles, by their positions among the training tiles."""
        order = np.argsort(self.rows)
        return self.logits[order[np.searchsorted(self.rows[order], rows)]]


@dataclass(frozen=True)
class TileFusion:
    """How a network's head is pooled with heads on band statistics; see `tile_fusion`.

    Attributes:
        weights: of the members' calibrated logits, by name; they sum to 1.
        temperatures: that each member's logits are divided by, by name.
        temperature: of the weighted sum, or of the network's logits where it is not fused.
        losses: mean of -log p of the held-out tiles by each calibrated member.
        loss: the same of what is kept.
        tiles: how many were held out.
    """

    weights: Mapping[str, float]
    temperatures: Mapping[str, float]
    temperature: float
    losses: Mapping[str, float]
    loss: float
    tiles: int

    @property
    def pools(self) -> bool:
        """Whether heads on band statistics have a part in the model; else the network is alone."""
        return next(iter(self.weights.values())) < 1

    def __str__(self) -> str:
        """The weights in one line, for people; or that the network is not fused."""
        if not self.pools:
            network, *others = self.losses.values()
            return msg(
                "not fused: band statistics gain too little (log-loss on {tiles} held-out "
                "training tiles: the network {network:.3f}, they alone {others:.3f})",
                tiles=self.tiles,
                network=network,
                others=min(others),
            )
        parts = [
            msg("{name} {share:.2f}", name=name, share=share)
            for name, share in self.weights.items()
            if share >= 0.005
        ]
        return msg(
            "fused: {names} (log-loss {loss:.3f} on {tiles} held-out training tiles, the "
            "network alone {alone:.3f})",
            names=joined(parts, "; "),
            loss=self.loss,
            tiles=self.tiles,
            alone=next(iter(self.losses.values())),
        )


@dataclass(frozen=True)
class Fitted:
    """A fitted network, with the results of its folds.

    Attributes:
        network: ready to predict, its temperature set.
        chosen: how the linear head was chosen, for a probe.
        history: of the training in which a fold chose the epoch, then the final one's.
        features: standardised training features [n, V, D] of a probe, else None.
        held_out: logits of the folds' networks, or heads; None where no tile was held out.
        fusion: how the head is pooled with heads on band statistics; None where it is not.
        tuning: how much of a fine-tuning from a probe was kept, else None.
        pool: what a pool of unlabelled tiles did for a probe's head; None without one.
        alone: the fit before its head was pooled with heads on band statistics; None where it is
            not.
    """

    network: TileClassifier
    chosen: Chosen | None
    history: History | None
    features: Floats | None = None
    held_out: HeldOut | None = None
    fusion: TileFusion | None = None
    tuning: Tuning | None = None
    pool: PoolUse | None = None
    alone: Fitted | None = None


def fit_strategy(
    base: TileClassifier,
    train: Tiles,
    folds: Folds,
    plan: FitPlan,
    *,
    folder: Path,
    features: FeatureSource,
    epochs: int | None = None,
) -> Fitted:
    """Fit a copy of `base` to the training tiles.

    Args:
        base: with its first weights; not changed.
        train: rows of the pack and their labels.
        folds: (fit, held out) positions among the training tiles; [] if a class has only one.
            Without folds, or with `choice_folds` 0, all epochs are run.
        plan: how.
        folder: for checkpoints and logs.
        features: raw features [n, V, D] of rows of the pack, computed or from a cache.
        epochs: of a training, where they are chosen already; no fold is trained then.
    """
    if plan.strategy == "probe":
        return probe(copy.deepcopy(base), train, folds, plan, features)
    if plan.strategy == "probe_then_finetune":
        return probe_then_finetune(base, train, folds, plan, folder=folder, features=features)
    if epochs or not folds or not plan.training.settings.choice_folds:
        final, history = _trained(
            base, train, None, plan, folder=folder / "final", features=features, stop_after=epochs
        )
        return Fitted(final, None, history)
    history, held_out = _chosen(base, train, folds, plan, folder=folder, features=features)
    final, _ = _trained(
        base,
        train,
        None,
        plan,
        folder=folder / "final",
        features=features,
        stop_after=history.best_epoch + 1,
    )
    final.temperature.fill_(fit_temperature(held_out.logits, train.labels[held_out.rows]))
    return Fitted(final, None, history, held_out=held_out)


def with_head_chosen(
    base: TileClassifier, train: Tiles, folds: Folds, plan: FitPlan, features: FeatureSource
) -> FitPlan:
    """The plan with the setting and temperature of the head that a training begins from, if any."""
    if plan.strategy != "probe_then_finetune":
        return plan
    return _with_head(plan, probe(copy.deepcopy(base), train, folds, plan, features).chosen)


def _with_head(plan: FitPlan, chosen: Chosen | None) -> FitPlan:
    if chosen is None:
        return plan
    return replace(
        plan,
        head_settings=(chosen.setting,),
        temperature=chosen.temperature,
        parts=chosen.parts,
    )


def probe_then_finetune(
    base: TileClassifier,
    train: Tiles,
    folds: Folds,
    plan: FitPlan,
    *,
    folder: Path,
    features: FeatureSource,
) -> Fitted:
    """Train a probe's network further, and keep the share of it that held-out labels support.

    That is the probe itself where they support nothing else; arguments are those of
    `fit_strategy`.
    """
    begun = probe(copy.deepcopy(base), train, folds, plan, features)
    plan = _with_head(plan, begun.chosen)
    tuning, history, held_out = _chosen_share(
        base, train, folds, plan, folder=folder, features=features
    )
    if tuning.share == 0:
        return replace(begun, tuning=tuning)
    start = starting(base, train, plan, features)
    final, run = _fitted(copy.deepcopy(start), train, None, plan, folder=folder / "final")
    network = between(start, final, tuning.share)
    network.temperature.fill_(tuning.temperature)
    return Fitted(network.eval(), None, history or run, held_out=held_out, tuning=tuning)


def _chosen_share(
    base: TileClassifier,
    train: Tiles,
    folds: Folds,
    plan: FitPlan,
    *,
    folder: Path,
    features: FeatureSource,
) -> tuple[Tuning, History | None, HeldOut | None]:
    """How much of the fine-tuning is kept, the first fold's history, and held-out logits.

    Where no label can be held out, nothing shows a gain and the probe is kept.
    """
    count = plan.training.settings.choice_folds
    if plan.share is not None or not folds or not count:
        default = HALFWAY if folds else 0.0
        return Tuning(default if plan.share is None else plan.share, {}, {}, 1.0), None, None
    histories = []
    logits: dict[float, list[Floats]] = {share: [] for share in SHARES}
    for number, (fit_rows, held_rows) in enumerate(folds[:count]):
        part, held_tiles = _part(train, fit_rows), _part(train, held_rows)
        start = starting(base, part, plan, features)
        inside = folder / (f"fold_{number}" if number else "fold")
        final, history = _fitted(copy.deepcopy(start), part, held_tiles, plan, folder=inside)
        for share, rows in logits.items():
            rows.append(_logits_of(between(start, final, share), held_tiles, plan))
        histories.append(history)
    joined = {share: np.concatenate(rows) for share, rows in logits.items()}
    out = np.concatenate([held_rows for _, held_rows in folds[:count]])
    tuning = choose_share(joined, train.labels[out])
    return tuning, histories[0], HeldOut(out, joined[tuning.share])


def _logits_of(network: TileClassifier, tiles: Tiles, plan: FitPlan) -> Floats:
    return predict_rows(network, tiles.pack, tiles.rows, precision=plan.training.settings.precision)


def _chosen(
    base: TileClassifier,
    train: Tiles,
    folds: Folds,
    plan: FitPlan,
    *,
    folder: Path,
    features: FeatureSource,
) -> tuple[History, HeldOut]:
    """The first fold's history with the epoch that the folds choose, and held-out logits.

    Of the folds' best epochs the (lower) median is taken, so that no single one decides.
    """
    histories, logits, rows = [], [], []
    for number, (fit_rows, held_rows) in enumerate(folds[: plan.training.settings.choice_folds]):
        held_tiles = _part(train, held_rows)
        trial, history = _trained(
            base,
            _part(train, fit_rows),
            held_tiles,
            plan,
            folder=folder / (f"fold_{number}" if number else "fold"),
            features=features,
        )
        histories.append(history)
        logits.append(_logits_of(trial, held_tiles, plan))
        rows.append(held_rows)
    best = sorted(history.best_epoch for history in histories)[(len(histories) - 1) // 2]
    chosen = replace(histories[0], best_epoch=best)
    return chosen, HeldOut(np.concatenate(rows), np.concatenate(logits))


def probe(
    network: TileClassifier, train: Tiles, folds: Folds, plan: FitPlan, features: FeatureSource
) -> Fitted:
    """Freeze everything, standardise features, fit the head; its setting chosen by the folds."""
    last = list(network.backbone.stages)[-1]
    freeze(network.backbone, last, allow_random=True)
    network.frozen_until = last
    raw = np.array(features(network, train.rows), dtype=np.float32)  # a copy torch may keep
    network.set_feature_scale(
        torch.from_numpy(raw.reshape(-1, raw.shape[2])).to(device_of(network))
    )
    scaled = standardised(network, raw)
    chosen = _head_of(network, scaled, train.labels, folds, plan)
    install(network, chosen.head, chosen.temperature)
    held_out = HeldOut(chosen.fold_rows, chosen.fold_logits) if len(chosen.fold_rows) else None
    return Fitted(network.eval(), chosen, None, scaled, held_out)


def _head_of(
    network: TileClassifier, features: Floats, labels: Int64s, folds: Folds, plan: FitPlan
) -> Chosen:
    """The head of standardised features [n, V, D]: one, or one for each rendering."""
    classes, settings = network.head.out_features, plan.head_settings
    singly = leaves_one_out(plan, folds, len(labels))
    parts = len(network.spec.renderings) if plan.head == "discriminant" else 1
    if folds and parts > 1:
        out_of = () if singly else folds
        return choose_parts(features, labels, out_of, settings, parts=parts, classes=classes)
    shares = plan.parts if len(plan.parts) == parts else (1 / parts,) * parts
    fit_head = head_fit(plan.head, classes, plan.training.head_weights, shares)
    if not singly:
        return choose(features, labels, folds, fit_head, settings)
    out = leave_one_out(features, labels, settings, classes)
    return choose_among(out.logits, out.rows, features, labels, fit_head)


def leaves_one_out(plan: FitPlan, folds: Folds, tiles: int) -> bool:
    """Whether the head is chosen and calibrated on tiles that are left out one by one."""
    single = plan.one_by_one and plan.head == "discriminant"
    return single and len(folds) > 0 and tiles <= MAX_TILES


def device_of(network: TileClassifier) -> torch.device:
    """Where a network lies."""
    return network.feature_mean.device


def standardised(network: TileClassifier, raw: Floats) -> Floats:
    """Raw features as the head takes them."""
    with torch.no_grad():
        tensor = torch.from_numpy(np.array(raw, dtype=np.float32)).to(device_of(network))
        return np.asarray(network.standardise(tensor).cpu().numpy())


def install(network: TileClassifier, head: Linear, temperature: float) -> None:
    """Put a fitted linear head and its temperature on a network."""
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(np.asarray(head.weight, np.float32)))
        network.head.bias.copy_(torch.from_numpy(np.asarray(head.bias, np.float32)))
        network.temperature.fill_(temperature)


def cool(network: TileClassifier, temperature: float) -> None:
    """Divide the head by its temperature, so that its logits are calibrated ones.

    A discriminant's logits can be fifty times too sure; trained on from there, the loss would
    first have to undo that.
    """
    with torch.no_grad():
        network.head.weight.div_(temperature)
        network.head.bias.div_(temperature)
        network.temperature.fill_(1.0)


def _part(tiles: Tiles, positions: Int64s) -> Tiles:
    return Tiles(tiles.pack, tiles.rows[positions], tiles.labels[positions])


def _trained(
    base: TileClassifier,
    train: Tiles,
    held_out: Tiles | None,
    plan: FitPlan,
    *,
    folder: Path,
    features: FeatureSource,
    stop_after: int | None = None,
) -> tuple[TileClassifier, History]:
    """Train a copy of the network by the plan's strategy."""
    network = starting(base, train, plan, features)
    return _fitted(network, train, held_out, plan, folder=folder, stop_after=stop_after)


def _fitted(
    network: TileClassifier,
    train: Tiles,
    held_out: Tiles | None,
    plan: FitPlan,
    *,
    folder: Path,
    stop_after: int | None = None,
) -> tuple[TileClassifier, History]:
    """Train a network in place, from its present weights; all epochs if it began as a probe."""
    every = plan.strategy == "probe_then_finetune"
    history = fit(
        Learner(network, train, held_out, replace(plan.training, every_epoch=every)),
        folder=folder,
        stop_after=stop_after,
        resume=plan.resume,
        quiet=plan.quiet,
    )
    return network.eval(), history


def starting(
    base: TileClassifier, train: Tiles, plan: FitPlan, features: FeatureSource
) -> TileClassifier:
    """A copy of the network as its training begins: scaled or probed, and frozen so far."""
    network = copy.deepcopy(base)
    if plan.strategy == "probe_then_finetune":
        network = probe(network, train, [], plan, features).network
        cool(network, plan.temperature)
    elif plan.strategy != "scratch":
        raw = np.array(features(network, train.rows), dtype=np.float32)  # a copy torch may keep
        network.set_feature_scale(
            torch.from_numpy(raw.reshape(-1, raw.shape[2])).to(device_of(network))
        )
    upto = frozen_stage(network, plan)
    freeze(network.backbone, upto)
    network.frozen_until = upto
    if plan.hold_batchnorm:
        hold_batchnorm(network.backbone)
    return network


def frozen_stage(network: TileClassifier, plan: FitPlan) -> str | None:
    """The last frozen stage; the default trains one stage, or two after a probe."""
    if plan.strategy in ("full", "scratch"):
        return None
    stages: Sequence[str] = list(network.backbone.stages)
    trained = 2 if plan.strategy == "probe_then_finetune" and len(stages) > 2 else 1
    return plan.freeze_until or (stages[-1 - trained] if len(stages) > 1 else None)


@torch.inference_mode()
def predict_rows(
    network: TileClassifier, pack: Pack, rows: Int64s, *, precision: Precision = "auto"
) -> Floats:
    """Logits [len(rows), K] of packed tiles, averaged over the network's views."""
    device = next(network.parameters()).device
    network.eval()
    fill = network.normalise.fill.cpu().numpy().astype(np.float64)
    blocks = []
    for start in range(0, len(rows), 128):
        image = batch(pack, rows[start : start + 128], fill=fill, device=device)["image"]
        with autocast(device, precision):
            blocks.append(view_logits(network, image).float().cpu().numpy())
    return np.concatenate(blocks)
