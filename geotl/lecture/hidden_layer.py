"""One hidden layer on statistics of the bands: a network for each seed, all trained side by side.

The smallest network that memorises its labels. Some of these labels are wrong, so that memorising
costs test accuracy, and a regulariser has something to prevent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geotl.arrays import Float64s, Int64s
from geotl.lecture.figures import Lines, MeanChange, Series
from geotl.lecture.recipes import Shallow
from geotl.lecture.samples import draw, sample_of, two_parts, wrong_labels
from geotl.lecture.texts import Both
from geotl.lecture.words import ACCURACY, STEP, TEST, TRAINING
from geotl.training.losses import l2_penalty

NOBODY = -1  # label of a place that a seed has no tile for


@dataclass(frozen=True)
class Side:
    """Attributes [S, n, F] and labels [S, n] of tiles, a row for each seed; -1 where no tile is."""

    x: Tensor
    y: Tensor

    @classmethod
    def of(cls, rows: Sequence[tuple[Float64s, Int64s]]) -> Side:
        """Of attributes [n, F] and labels [n] of each seed, the longest of which decides n."""
        longest = max(len(labels) for _, labels in rows)
        x = [np.pad(a, ((0, longest - len(a)), (0, 0))) for a, _ in rows]
        y = [np.pad(b, (0, longest - len(b)), constant_values=NOBODY) for _, b in rows]
        return cls(torch.from_numpy(np.stack(x)).float(), torch.from_numpy(np.stack(y)))


@dataclass(frozen=True)
class Draws:
    """Tiles of each seed: trained on (some labels are wrong), to choose with, and to test on."""

    train: Side
    validation: Side
    test: Side
    classes: int
    seed: int


def draws_of(
    numbers: Shallow, kept: Sequence[int] = (), columns: Sequence[int] = (), *, chosen: bool = False
) -> Draws:
    """Draw tiles for each seed; attributes are standardised by the training tiles.

    Args:
        numbers: of the draws.
        kept: classes, which are then numbered in this order; () for all.
        columns: attributes; () for all.
        chosen: whether half of the test sites become a validation part.
    """
    source = sample_of(numbers)
    table = source.band_table[:, list(columns)] if columns else source.band_table
    number_of = np.full(len(source.index.classes), NOBODY)
    classes = list(kept) or list(range(len(number_of)))
    number_of[classes] = range(len(classes))
    labels = number_of[source.labels]
    sides: list[list[tuple[Float64s, Int64s]]] = [[], [], []]
    for number in range(numbers.seeds):
        split, seed = draw(numbers, number).split, numbers.seed + number
        parts = two_parts(source, split.test, seed) if chosen else (split.test, split.test)
        rows = [part[labels[part] >= 0] for part in (split.train, *parts)]
        mean, sd = table[rows[0]].mean(0), table[rows[0]].std(0)
        given = wrong_labels(labels[rows[0]], numbers.wrong, len(classes), seed)
        for side, part in zip(sides, rows, strict=True):
            truth = given if part is rows[0] else labels[part]
            side.append(((table[part] - mean) / sd, truth))
    train, validation, test = map(Side.of, sides)
    return Draws(train, validation, test, len(classes), numbers.seed)


class Layers(nn.Module):
    """A hidden layer of tanh neurons for each seed: attributes [S, n, F] to logits [S, n, K]."""

    def __init__(self, draws: Draws, width: int, dropout: float = 0.0) -> None:
        """First weights of each seed are its own, whatever the other seeds."""
        super().__init__()
        seeds, _, features = draws.train.x.shape
        pairs = [_linear(features, width, draws.classes, draws.seed + i) for i in range(seeds)]
        first, second = zip(*pairs, strict=True)
        self.first = nn.Parameter(torch.stack([one.weight.detach().T for one in first]))
        self.first_bias = nn.Parameter(torch.stack([one.bias.detach() for one in first]))
        self.second = nn.Parameter(torch.stack([one.weight.detach().T for one in second]))
        self.second_bias = nn.Parameter(torch.stack([one.bias.detach() for one in second]))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [S, n, K]."""
        hidden = self.dropout(torch.tanh(x @ self.first + self.first_bias[:, None]))
        logits: Tensor = hidden @ self.second + self.second_bias[:, None]
        return logits

    @torch.no_grad()
    def predicted(self, x: Tensor, place: int) -> Int64s:
        """Classes [n] that the network of one seed gives attributes [n, F]."""
        hidden = torch.tanh(x @ self.first[place] + self.first_bias[place])
        logits = hidden @ self.second[place] + self.second_bias[place]
        classes: Int64s = logits.argmax(1).numpy()
        return classes

    def weights(self) -> Float64s:
        """All weights without the biases [S, m]."""
        parts = [one.detach().double().flatten(1) for one in (self.first, self.second)]
        rows: Float64s = torch.cat(parts, dim=1).numpy()
        return rows

    @torch.no_grad()
    def accuracy(self, side: Side) -> Float64s:
        """Share of tiles classified correctly in evaluation mode, for each seed [S]."""
        self.eval()
        there = side.y != NOBODY
        right = (self(side.x).argmax(2) == side.y) & there
        shares: Float64s = (right.sum(1) / there.sum(1)).double().numpy()
        return shares


def _linear(features: int, width: int, classes: int, seed: int) -> tuple[nn.Linear, nn.Linear]:
    """Both layers of one network, at random from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(features, width), nn.Linear(width, classes)


@dataclass(frozen=True)
class Fitted:
    """Trained layers: training and test accuracy of each seed after some steps [T, S]."""

    layers: Layers
    steps: Int64s
    train_path: Float64s
    test_path: Float64s

    @property
    def train(self) -> Float64s:
        """Training accuracy at the end, for each seed [S]."""
        return np.asarray(self.train_path[-1])

    @property
    def test(self) -> Float64s:
        """Test accuracy at the end, for each seed [S]."""
        return np.asarray(self.test_path[-1])

    @property
    def gap(self) -> Float64s:
        """Training minus test accuracy [S]."""
        return self.train - self.test


def trained_layers(
    draws: Draws,
    numbers: Shallow,
    *,
    width: int | None = None,
    dropout: float = 0.0,
    penalty: float = 0.0,
    every: int = 0,
) -> Fitted:
    """Train with Adam on all tiles in one batch; start and draws are the same for every call.

    Args:
        draws: the tiles.
        numbers: width, steps and rate.
        width: hidden neurons, where it is not that of the numbers.
        dropout: share of the hidden neurons switched off in a step [fraction].
        penalty: lambda of lambda * sum(w^2), biases left out.
        every: steps between two scorings; 0 for the end alone [steps].
    """
    layers = Layers(draws, width or numbers.width, dropout)
    adam = torch.optim.Adam(layers.parameters(), lr=numbers.lr)
    scores: list[tuple[int, Float64s, Float64s]] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draws.seed)
        for step in range(1, numbers.steps + 1):
            _step(layers, adam, draws.train, penalty)
            if step == numbers.steps or (every and step % every == 0):
                scores.append((step, layers.accuracy(draws.train), layers.accuracy(draws.test)))
    steps, train, test = zip(*scores, strict=True)
    return Fitted(layers, np.array(steps), np.stack(train), np.stack(test))


def _step(layers: Layers, adam: torch.optim.Adam, side: Side, penalty: float) -> None:
    """One step on the mean cross-entropy of each seed, which shares no weight with the others."""
    layers.train()
    adam.zero_grad()
    logits, seeds = layers(side.x).flatten(0, 1), len(side.y)
    loss = F.cross_entropy(logits, side.y.flatten(), ignore_index=NOBODY) * seeds
    cost = loss + l2_penalty([layers.first, layers.second], penalty)
    cost.backward()  # type: ignore[no-untyped-call]
    adam.step()


def changes(off: Fitted, on: Fitted) -> tuple[MeanChange, MeanChange, MeanChange]:
    """Training accuracy, test accuracy and gap, without and with."""
    train = MeanChange.of(off.train, on.train)
    return train, MeanChange.of(off.test, on.test), MeanChange.of(off.gap, on.gap)


def course(title: Both, fit: Fitted) -> Lines:
    """Training and test accuracy step by step, mean and sd over seeds."""
    paths = ((TRAINING, fit.train_path), (TEST, fit.test_path))
    series = (
        Series(name, fit.steps, path.mean(1), path.std(1, ddof=1) if path.shape[1] > 1 else None)
        for name, path in paths
    )
    return Lines(title, STEP, ACCURACY, tuple(series), percent=True, limits=(0.0, 1.02))
