"""Training of a decoder from single labelled pixels: patches about them, and a loss on them alone.

Unlabelled pixels count where a teacher gives them soft targets (`soft_targets`), and only then.
Every labelled pixel lies in one patch, so that each label counts once in an epoch. A window of
`decoder.patch_px` is cut from the patch at random, always with all its labelled pixels. Order, cuts
and augmentation of a batch follow from (seed, epoch, batch) alone.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from torch import Tensor, nn
from torch.nn import functional as F

from geotl.arrays import Bools, Float32s, Float64s, Int64s
from geotl.console import ProgressLine
from geotl.evaluation.evaluate import fit_temperature
from geotl.models.backbone import parameter_groups
from geotl.models.pixel_decoder import DECODER, PixelDecoder
from geotl.models.pixel_model import LinearMember
from geotl.training.augment import augment
from geotl.training.batches import derived_seed, epoch_order
from geotl.training.heads import Folds
from geotl.training.opinion_pool import floored
from geotl.training.pixel_fusion import FittedMember, since
from geotl.training.settings import DecoderSettings, Training
from geotl.training.soft_targets import SoftTargets, Teach, soft_loss
from geotl.training.trainer import (
    EpochLine,
    batch_counter,
    interrupts,
    optimised,
    quiet_lightning,
    trainer_for,
)

IGNORED = -100  # the target of a pixel without a label
INNER = 2  # trainings inside the training pixels; their held-out pixels weigh the member
Predict = Callable[[PixelDecoder, Int64s], Float32s]  # logits [K,n] of pixels, by their positions


@dataclass(frozen=True)
class Patches:
    """What surrounds the labelled pixels, in memory.

    Attributes:
        image: digital numbers [P,C,S,S], in the scenes' type.
        valid: which of them are valid [P,1 or C,S,S].
        owner: the patch of each labelled pixel [N].
        places: its row and column in the patch [N,2], in the middle half of it.
        mean: of the bands [C], in DN.
        sd: likewise.
    """

    image: NDArray[np.generic]
    valid: Bools
    owner: Int64s
    places: Int64s
    mean: Float64s
    sd: Float64s


@dataclass(frozen=True)
class Marks:
    """Labelled pixels that a decoder is trained on.

    Attributes:
        pixels: positions among all labelled pixels [n].
        labels: classes [n].
        weight: what each pixel counts [n]; a label's pixels sum to 1.
    """

    pixels: Int64s
    labels: Int64s
    weight: Float64s

    def part(self, rows: Int64s) -> Marks:
        """Some of the pixels."""
        return Marks(self.pixels[rows], self.labels[rows], self.weight[rows])


@dataclass(frozen=True)
class DecoderPlan:
    """How a decoder is trained.

    Attributes:
        settings: kind, patches, epochs and batches.
        training: rates, decay and augmentation, and what they depend on.
        quiet: show no progress.
    """

    settings: DecoderSettings
    training: Training
    quiet: bool = False


def masked_loss(logits: Tensor, target: Tensor, weight: Tensor, smoothing: float = 0.0) -> Tensor:
    """Weighted mean of the cross-entropy over labelled pixels; others change nothing.

    Args:
        logits: [N,K,H,W].
        target: classes [N,H,W], `IGNORED` where there is no label.
        weight: of each pixel [N,H,W].
        smoothing: share of a label spread over all classes.
    """
    each = F.cross_entropy(
        logits, target, ignore_index=IGNORED, reduction="none", label_smoothing=smoothing
    )
    counts = torch.where(target == IGNORED, torch.zeros_like(weight), weight)
    return (each * counts).sum() / counts.sum().clamp(min=1e-12)


def standardised(image: Tensor, valid: Tensor, mean: Tensor, sd: Tensor) -> Tensor:
    """Digital numbers [N,C,S,S] less the mean [C], over the sd [C], 0 where invalid."""
    shape = (1, -1, 1, 1)
    values = (image - mean.view(shape)) / sd.view(shape)
    filled = torch.where(valid, values, torch.zeros_like(values))
    return filled.contiguous(memory_format=torch.channels_last)


class DecoderLearner(lightning.LightningModule):
    """One training: the network, the patches, and what a batch of an epoch is."""

    def __init__(
        self,
        network: PixelDecoder,
        patches: Patches,
        marks: Marks,
        plan: DecoderPlan,
        soft: SoftTargets | None = None,
    ):
        """Take the network as it is; what is frozen was set before.

        Args:
            network: trained in place.
            patches: about all labelled pixels.
            marks: the training pixels.
            plan: how.
            soft: targets at pixels without a label; None for none.
        """
        super().__init__()
        self.network, self.patches, self.marks, self.plan = network, patches, marks, plan
        self.soft = soft
        self.used = np.unique(patches.owner[marks.pixels])
        self.batches = len(self.order(0))

    def setup(self, stage: str) -> None:
        """Lightning trains in the mode it finds; frozen stages and fixed statistics ignore it."""
        self.train()

    def order(self, epoch: int) -> list[Int64s]:
        """The patches of each batch of an epoch."""
        size, seed = self.plan.settings.batch_size, self.plan.training.seed
        return [self.used[part] for part in epoch_order(len(self.used), size, seed, epoch)]

    def training_step(self, _: Any, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        image, target, weight, rows = self.batch(self.current_epoch, batch_idx)
        smoothing, logits = self.plan.training.settings.label_smoothing, self.network(image)
        loss = masked_loss(logits, target, weight, smoothing)
        if self.soft is not None:
            probabilities = torch.from_numpy(self.soft.probabilities).to(logits.device)
            elsewhere = soft_loss(logits, rows, probabilities)
            loss = loss + self.plan.settings.unlabelled_weight * elsewhere
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(image))
        return loss

    def batch(self, epoch: int, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Standardised images [N,C,S,S]; class, weight and soft target of their pixels, [N,S,S].

        That is the class of labelled pixels, their weight, and the row of the soft targets, which
        is -1 where a pixel has none.
        """
        training = self.plan.training
        origin = derived_seed(training.seed, epoch, number)
        torch.manual_seed(origin)  # dropout draws from the global generator
        generator = torch.Generator().manual_seed(origin)
        arrays = self._cut(self.order(epoch)[number], generator)
        several = self.patches.mean, self.patches.sd
        mean, sd = (torch.from_numpy(x).float().to(self.device) for x in several)
        augmented = augment(
            {name: values.to(self.device) for name, values in arrays.items()},
            training.augmentation,
            generator,
            band_sd=sd,
            fill=mean,
            light=training.light,
        )
        label, weight = augmented["marks"].unbind(dim=1)
        target = torch.where(weight > 0, label.long(), IGNORED)
        image = standardised(augmented["image"], augmented["valid"], mean, sd)
        return image, target, weight, augmented["hints"][:, 0].long() - 1

    def _cut(self, chosen: Int64s, generator: torch.Generator) -> dict[str, Tensor]:
        """Windows cut from patches at random, with all their labelled pixels."""
        side, patches = self.plan.settings.patch_px, self.patches
        room = patches.image.shape[-1] - side + 1
        corners = torch.randint(room, (len(chosen), 2), generator=generator).tolist()
        marks = {"marks": self._marks(chosen), "hints": self._hints(chosen)}
        images, valid = [], []
        cuts: dict[str, list[Float32s]] = {name: [] for name in marks}
        for number, (patch, (row, col)) in enumerate(zip(chosen, corners, strict=True)):
            here = np.s_[:, row : row + side, col : col + side]
            images.append(patches.image[patch][here].astype(np.float32))
            valid.append(patches.valid[patch][here])
            for name, values in marks.items():
                cuts[name].append(values[number][here])
        mask, fill = np.stack(valid), patches.mean.astype(np.float32).reshape(-1, 1, 1)
        image = np.where(mask, np.stack(images), fill)
        planes = {name: np.stack(values) for name, values in cuts.items()}
        arrays = {"image": image, "valid": mask, **planes}
        return {name: torch.from_numpy(values) for name, values in arrays.items()}

    def _marks(self, chosen: Int64s) -> Float32s:
        """Class and weight of the labelled pixels of patches [N,2,S,S], 0 elsewhere."""
        marks, patches = self.marks, self.patches
        planes = np.zeros((len(chosen), 2, *patches.image.shape[-2:]), np.float32)
        place = {patch: number for number, patch in enumerate(chosen.tolist())}
        owner = patches.owner[marks.pixels]
        for i in np.flatnonzero(np.isin(owner, chosen)):
            row, col = patches.places[marks.pixels[i]]
            planes[place[int(owner[i])], :, row, col] = marks.labels[i], marks.weight[i]
        return planes

    def _hints(self, chosen: Int64s) -> Float32s:
        """One more than the row of the soft targets of patches [N,1,S,S], 0 where there is none."""
        planes = np.zeros((len(chosen), 1, *self.patches.image.shape[-2:]), np.float32)
        if self.soft is not None:
            for number, patch in enumerate(chosen.tolist()):
                rows = np.flatnonzero(self.soft.owner == patch)
                planes[number, 0, *self.soft.places[rows].T] = rows + 1
        return planes

    def configure_optimizers(self) -> Any:
        """Rates geometric by stage from the decoder back, decay on matrices alone."""
        settings = self.plan.training.settings
        groups = parameter_groups(
            self.network.backbone,
            nn.ModuleList([self.network.decoder, self.network.head]),
            lr=settings.lr,
            lr_decay=settings.lr_decay,
            weight_decay=settings.weight_decay,
            head_lr=settings.head_lr,
        )
        return optimised(groups, settings, self.plan.settings.epochs * self.batches + 1)


def train_decoder(
    base: PixelDecoder,
    patches: Patches,
    marks: Marks,
    plan: DecoderPlan,
    soft: SoftTargets | None = None,
) -> PixelDecoder:
    """Train a copy of a network on labelled pixels; what is frozen in it stays, bit for bit."""
    network = copy.deepcopy(base)
    learner = DecoderLearner(network, patches, marks, plan, soft)
    device, epochs = next(network.parameters()).device, plan.settings.epochs
    callbacks = [EpochLine(ProgressLine(quiet=plan.quiet))]
    precision = plan.training.settings.precision
    with quiet_lightning():
        trainer = trainer_for(None, epochs, precision, device, callbacks)
        with interrupts(trainer):
            trainer.fit(learner, train_dataloaders=batch_counter(learner.batches))
    return network.settle()


@dataclass(frozen=True)
class FittedDecoder:
    """A decoder trained on all training pixels, as a member of the fusion.

    Attributes:
        name: of the member.
        network: ready to predict.
        member: takes its logits as they are.
    """

    name: str
    network: PixelDecoder
    member: FittedMember


def fit_decoder(
    base: PixelDecoder,
    patches: Patches,
    marks: Marks,
    folds: Folds,
    *,
    plan: DecoderPlan,
    predict: Predict,
    teach: Teach | None = None,
) -> FittedDecoder:
    """Train a decoder on all pixels, and on folds of them for its temperature and its weight.

    Args:
        base: with its first weights; not changed.
        patches: about all labelled pixels.
        marks: the training pixels.
        folds: (fit, held out) positions inside them, as the other members have them.
        plan: how.
        predict: logits of pixels.
        teach: gives soft targets elsewhere, of each training's own pixels; None for none.
    """
    begun = time.perf_counter()
    held_rows = np.concatenate([np.zeros(0, np.int64), *(out for _, out in folds)])

    def trained(fit: Int64s) -> PixelDecoder:
        soft = None if teach is None else teach(fit)
        return train_decoder(base, patches, marks.part(fit), plan, soft)

    network = trained(np.arange(len(marks.labels)))
    out_of_fold = np.zeros((len(marks.labels), base.classes))
    for fit, out in joined_folds(folds, INNER):
        trial = trained(fit)
        out_of_fold[out] = log_softmax(
            predict(trial, marks.pixels[out]).T.astype(np.float64), axis=1
        )
    temperature = 1.0
    if folds:
        temperature = fit_temperature(
            out_of_fold[held_rows], marks.labels[held_rows], marks.weight[held_rows]
        )
    linear = LinearMember((DECODER,), np.eye(base.classes), np.zeros(base.classes))
    outside, epochs = floored(out_of_fold[held_rows], temperature), float(plan.settings.epochs)
    member = FittedMember(linear, epochs, temperature, outside, since(begun))
    return FittedDecoder(f"{DECODER}_{network.kind}", network, member)


def joined_folds(folds: Folds, count: int) -> list[tuple[Int64s, Int64s]]:
    """Fewer folds from several: held-out rows of any of them, training rows of all of them.

    >>> rows = np.arange(6)
    >>> several = [(np.delete(rows, i), rows[i : i + 1]) for i in range(3)]
    >>> [(fit.tolist(), out.tolist()) for fit, out in joined_folds(several, 2)]
    [([1, 3, 4, 5], [0, 2]), ([0, 2, 3, 4, 5], [1])]
    """
    joined = []
    for group in (folds[start::count] for start in range(min(count, len(folds)))):
        out = np.concatenate([part for _, part in group])
        fit = group[0][0]
        for others, _ in group[1:]:
            fit = np.intersect1d(fit, others)
        joined.append((np.setdiff1d(fit, out), out))
    return joined
