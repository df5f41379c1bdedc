"""torchgeo's U-Net from labelled pixels, and what mapping costs; benchmarks/pixels.py calls it.

torchgeo's SemanticSegmentationTask (a U-Net on ResNet-18) learns from patches of `PATCH` pixels,
each about a label drawn at random, turned over by chance. Its mask is `NONE` everywhere but at the
training pixels. An epoch has as many patches as tile the scene, RandomGeoSampler's own length.
Inputs are standardised by the scene's mean and sd. The encoder starts from the ImageNet file where
this has tensors; its first convolution repeats the RGB kernels as segmentation_models_pytorch
does. The file's batch normalisation is folded, and training mode would lose its scale: running
statistics are measured on patches first, with weights and biases that leave outputs as they are.
Learning rates fall as torchgeo lets them (its scheduler watches a batch of training patches). A
map is the mean of softmax over patches that overlap by half.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import lightning
import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchgeo.trainers import SemanticSegmentationTask

from geotl.arrays import Float32s, Int64s
from geotl.inference.pixel_predictor import PixelPredictor
from geotl.models.pixel_features import BlockFeatures, PixelFeatures
from geotl.models.pixel_model import PixelModel

PATCH, BATCH, NONE = 64, 16, 255
RATES = (1e-4, 1e-3, 1e-2)
STRIP = 32  # rows that the forest maps together


@dataclass(frozen=True)
class Plan:
    """How torchgeo's network is trained.

    Attributes:
        weights: the ImageNet file, None for random weights.
        epochs: of as many patches as tile the scene.
        rate: the learning rate.
        accelerator: as Lightning names it.
        blocks: what the run says of blocks.
    """

    weights: Path | None
    epochs: int
    rate: float
    accelerator: str = "cpu"
    blocks: str = ""

    @property
    def how(self) -> str:
        """What its results depend on, but for the rate."""
        return f"{self.epochs} epochs, {self.accelerator}{self.blocks}"


@dataclass(frozen=True)
class Sparse:
    """A standardised scene [C,H,W] with its labelled pixels.

    Attributes:
        image: standardised, 0 where invalid.
        places: rows and columns of the labelled pixels [n,2].
        labels: their classes [n].
        first: one pixel of each label, by its position in `places`.
        classes: how many.
    """

    image: Float32s
    places: Int64s
    labels: Int64s
    first: Int64s
    classes: int


class Patches(Dataset):
    """Patches about labels drawn at random, with masks that are `NONE` off the labels."""

    def __init__(self, of: Sparse) -> None:
        """Lay the labels out as a mask."""
        self.of, self.image = of, torch.from_numpy(of.image)
        self.mask = torch.full(of.image.shape[1:], NONE, dtype=torch.long)
        self.mask[of.places[:, 0], of.places[:, 1]] = torch.from_numpy(of.labels)

    def __len__(self) -> int:
        """As many as tile the scene."""
        height, width = self.mask.shape
        return -(-height // PATCH) * -(-width // PATCH)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """A patch that holds a label somewhere, turned over by chance."""
        label = self.of.first[int(torch.randint(len(self.of.first), ()))]
        at = []
        for place, side in zip(self.of.places[label], self.mask.shape, strict=True):
            start = int(place) - int(torch.randint(PATCH, ()))
            at.append(slice(max(0, min(start, side - PATCH)), None))
        rows, cols = (slice(part.start, part.start + PATCH) for part in at)
        image, mask = self.image[:, rows, cols], self.mask[rows, cols]
        for axis in (-1, -2):
            if torch.rand(()) < 0.5:
                image, mask = image.flip(axis), mask.flip(axis)
        return {"image": image, "mask": mask}


def fit_unet(of: Sparse, plan: Plan, seed: int) -> nn.Module:
    """Torchgeo's task at its plan's learning rate; the rest as it comes."""
    torch.manual_seed(seed)
    patches = Patches(of)
    task = SemanticSegmentationTask(
        model="unet",
        backbone="resnet18",
        in_channels=3 if plan.weights else len(of.image),
        num_classes=of.classes,
        ignore_index=NONE,
        lr=plan.rate,
    )
    if plan.weights:
        start_from(task.model.encoder, plan.weights, patches)
    # its scheduler insists on a validation loss; the labels are the only ones there are
    loader = DataLoader(patches, BATCH, drop_last=len(patches) > BATCH)
    quiet_trainer(plan).fit(task, loader, DataLoader(patches, BATCH))
    return task.model.eval()


def quiet_trainer(plan: Plan) -> lightning.Trainer:
    """A trainer that says nothing and keeps nothing."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")  # patches are in memory
    warnings.filterwarnings("ignore", ".*LeafSpec.*")  # Lightning's own
    warnings.filterwarnings("ignore", ".*number of training batches.*")  # about log lines only
    return lightning.Trainer(
        max_epochs=plan.epochs,
        accelerator=plan.accelerator,
        devices=1,
        limit_val_batches=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def start_from(encoder: nn.Module, weights: Path, patches: Patches) -> None:
    """Load an ImageNet file into an encoder of three bands, and give it the scene's bands."""
    state = torch.load(weights, weights_only=True)
    own = encoder.state_dict()
    held = {name: tensor for name, tensor in state.items() if name in own}
    if missing := [name for name in own if name not in held and "layer4" not in name]:
        raise SystemExit(f"{weights}: does not fill the encoder: {missing}")
    encoder.load_state_dict(own | held)
    encoder.set_in_channels(len(patches.image), pretrained=True)
    loaded = {name.rpartition(".")[0] for name in held if name.endswith("running_var")}
    images = torch.stack([patches[i]["image"] for i in range(len(patches))])
    measure_norms([m for name, m in encoder.named_modules() if name in loaded], encoder, images)


@torch.no_grad()
def measure_norms(norms: list[nn.Module], encoder: nn.Module, images: Tensor) -> None:
    """Give folded batch normalisations the statistics of their inputs; outputs stay the same."""

    def measure(norm: nn.BatchNorm2d, given: tuple[Tensor, ...]) -> None:
        mean, var = given[0].mean(dim=(0, 2, 3)), given[0].var(dim=(0, 2, 3))
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        norm.bias += (mean - norm.running_mean) * scale
        norm.weight.copy_(scale * (var + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)

    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    encoder.eval()(images)
    encoder.train()
    for hook in hooks:
        hook.remove()


@torch.inference_mode()
def unet_map(network: nn.Module, image: Float32s) -> Int64s:
    """The class of every pixel [H,W], from overlapping patches."""
    device = next(network.parameters()).device
    whole = torch.from_numpy(image)
    total: Tensor | None = None
    for corners in batches(list(_corners(*image.shape[1:])), 64):
        stack = torch.stack([whole[:, r : r + PATCH, c : c + PATCH] for r, c in corners])
        shares = network(stack.to(device)).softmax(dim=1).cpu()
        if total is None:
            total = torch.zeros(shares.shape[1], *image.shape[1:])
        for (r, c), share in zip(corners, shares, strict=True):
            total[:, r : r + PATCH, c : c + PATCH] += share
    assert total is not None
    return total.argmax(dim=0).numpy()


def batches(items: list[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    """Parts of a list, each of so many."""
    ends = [*range(0, len(items), size), len(items)]
    return (items[start:end] for start, end in pairwise(ends))


def _corners(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Upper left corners of patches that overlap by half and cover the scene."""
    for row in (*range(0, height - PATCH, PATCH // 2), height - PATCH):
        for col in (*range(0, width - PATCH, PATCH // 2), width - PATCH):
            yield row, col


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds on the clock that some work takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def fused_map(model: PixelModel, image: Float32s) -> Int64s:
    """The class of every pixel [H,W] of raw values [C,H,W], by geotl's predictor."""
    rows, cols = (np.arange(side) for side in image.shape[1:])
    return PixelPredictor(model).predict_windows(image, rows, cols, 1).probabilities.argmax(axis=-1)


def forest_map(forest: RandomForestClassifier, of: PixelFeatures, image: Float32s) -> Int64s:
    """The class of every pixel [H,W] by a forest on bands and local means and sds."""
    block = BlockFeatures(of, image, np.isfinite(image))
    found = []
    for row in range(0, image.shape[1], STRIP):
        some = block.strip(slice(row, row + STRIP))
        wide = some["wide"].reshape(len(of.windows_px), 3, len(of.bands), -1)[:, :2]
        table = np.concatenate(
            [some["bands"].reshape(-1, wide.shape[-1]), wide.reshape(-1, wide.shape[-1])]
        )
        found.append(forest.predict(table.T).reshape(-1, image.shape[2]))
    return np.concatenate(found)
