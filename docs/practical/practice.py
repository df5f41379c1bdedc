"""What the practical needs beside its networks: training, testing, shifting, showing.

Short on purpose: read it. Everything else is geotl's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torchvision.models
from numpy.typing import NDArray
from pictures import Pictures
from torch import Tensor, nn
from torch.nn import functional as F

from geotl.evaluation.evaluate import Evaluation, evaluate
from geotl.language import language, translated
from geotl.training.batches import derived_seed, epoch_order
from geotl.training.losses import cross_entropy, smoothed

Change = Callable[[Tensor, torch.Generator], Tensor]
History = list[dict[str, float]]


def scaled(pictures: Pictures) -> Tensor:
    """Images divided by 255, float32 [N, C, S, S] in 0 to 1."""
    return torch.from_numpy(pictures.images).float() / 255


def trainable(network: nn.Module) -> int:
    """Number of parameters that training changes."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def fit(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    learn: Pictures,
    held: Pictures | None = None,
    *,
    epochs: int,
    batch_size: int = 128,
    change: Change | None = None,
    seed: int = 0,
) -> History:
    """Train a network that ends in logits, as Keras's `model.fit` does.

    Args:
        network: takes images in 0 to 1.
        optimizer: of its parameters.
        learn: pictures to learn from.
        held: pictures to validate on; the network is not trained on them.
        epochs: how often each picture is seen.
        batch_size: pictures a step.
        change: augmentation of a batch [N, C, S, S].
        seed: of the order and of the augmentation.

    Returns:
        For each epoch loss and accuracy, both in evaluation mode and without augmentation.
    """
    images, labels = scaled(learn), torch.from_numpy(learn.labels)
    history: History = []
    for epoch in range(1, epochs + 1):
        network.train()
        for step, rows in enumerate(epoch_order(len(learn), batch_size, seed, epoch)):
            generator = torch.Generator().manual_seed(derived_seed(seed, epoch, step))
            batch = images[rows] if change is None else change(images[rows], generator)
            logits = network(batch)
            loss = cross_entropy(logits, smoothed(labels[rows], logits.shape[1], 0.0))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        row = {"epoch": float(epoch), **_measured(network, learn, "train")}
        history.append(row if held is None else {**row, **_measured(network, held, "val")})
    return history


def _measured(network: nn.Module, pictures: Pictures, side: str) -> dict[str, float]:
    found, labels = logits(network, pictures), torch.from_numpy(pictures.labels)
    loss = F.cross_entropy(found, labels).item()
    return {
        f"{side}_loss": loss,
        f"{side}_accuracy": (found.argmax(1) == labels).float().mean().item(),
    }


def logits(network: nn.Module, pictures: Pictures) -> Tensor:
    """What a network says of pictures [N, K], in evaluation mode."""
    network.eval()
    with torch.inference_mode():
        return torch.cat([network(part) for part in scaled(pictures).split(256)])


def evaluated(network: nn.Module, pictures: Pictures, classes: Sequence[str]) -> Evaluation:
    """Scores of a network on pictures, with their intervals."""
    return evaluate(logits(network, pictures), pictures.labels, classes)


def shifted(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Move each image [N, C, H, W] by up to this share of its sides; the edge is repeated.

    >>> shifted(torch.eye(4)[None, None], 0.0, torch.Generator())[0, 0].equal(torch.eye(4))
    True
    """
    most = [int(share * side) for side in images.shape[-2:]]
    draws = [torch.randint(-m, m + 1, (len(images),), generator=generator) for m in most]
    wide = F.pad(images, (most[1], most[1], most[0], most[0]), mode="replicate")
    height, width = images.shape[-2:]
    return torch.stack(
        [
            one[:, most[0] + down :, most[1] + across :][:, :height, :width]
            for one, down, across in zip(wide, draws[0].tolist(), draws[1].tolist(), strict=True)
        ]
    )


def shown(image: NDArray[np.uint8] | Tensor) -> NDArray[np.uint8]:
    """An image [C, S, S] as colours [S, S, 3]; bytes as they are, floats from 0 to 1."""
    pixels = image.numpy() if isinstance(image, Tensor) else image
    if pixels.dtype != np.uint8:
        pixels = np.rint(255 * pixels.clip(0, 1)).astype(np.uint8)
    return np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0)


def summary(name: str, px: int = 224) -> list[str]:
    """Layers of one of torchvision's networks: kind, output without the batch, parameters.

    It is laid out on the `meta` device, where tensors have a shape and no memory.
    """
    rows: list[str] = []

    def noted(module: nn.Module, _: Any, output: Tensor) -> None:
        count = sum(p.numel() for p in module.parameters())
        shape = "x".join(str(side) for side in output.shape[1:])
        rows.append(f"{type(module).__name__:<18}{shape:>12}{count:>14,}")

    with torch.device("meta"):
        network = torchvision.models.get_model(name, weights=None).eval()
        leaves = [m for m in network.modules() if not list(m.children())]
        for leaf in leaves:
            leaf.register_forward_hook(noted)
        network(torch.empty(1, 3, px, px))
    return [*rows, f"{'total':<30}{sum(p.numel() for p in network.parameters()):>14,}"]


def both(message: str) -> str:
    """A line of geotl in French, then in English."""
    with language("fr"):
        french = translated(message)
    return f"{french} | {message}"
