"""Suggestions for the next experiment with a model of pixels, from its diagnosis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geotl.arrays import Int64s
from geotl.evaluation.metrics import Interval
from geotl.evaluation.next_steps import Step
from geotl.evaluation.overfitting import Verdict
from geotl.language import joined, msg, nmsg

MIN_LABELS = 20  # of a class
MAX_PAIRS = 3
MIXED_SHARE = 0.1  # of a class's labels from which a pair of classes is named


@dataclass(frozen=True)
class MixedPair:
    """Labels of one class that are classified as another: how many, and of how many."""

    truth: str
    predicted: str
    count: int
    of: int

    def words(self) -> str:
        """The pair in a line.

        >>> MixedPair("orchard", "pasture", 6, 30).words()
        '6 of 30 labels of orchard are classified as pasture'
        """
        return msg(
            "{count} of {of} labels of {truth} are classified as {predicted}",
            count=self.count,
            of=self.of,
            truth=self.truth,
            predicted=self.predicted,
        )


def mixed_pairs(matrix: Int64s, classes: Sequence[str]) -> list[MixedPair]:
    """The pairs of classes that are mixed up most often, from a confusion matrix [K,K].

    >>> [pair.words() for pair in mixed_pairs(np.array([[8, 2], [0, 9]]), ["wood", "field"])]
    ['2 of 10 labels of wood are classified as field']
    """
    off = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-off, axis=None, kind="stable").tolist()
    places = [divmod(place, len(classes)) for place in order]
    pairs = [
        MixedPair(classes[row], classes[col], int(off[row, col]), int(matrix[row].sum()))
        for row, col in places
        if off[row, col] > 0
    ]
    return [pair for pair in pairs if pair.count >= MIXED_SHARE * pair.of][:MAX_PAIRS]


@dataclass(frozen=True)
class PixelFindings:
    """Results of a diagnosis of a model of pixels.

    Attributes:
        verdict: training accuracy against that of the folds.
        labels: number of labels of each class.
        lacking: classes without a training label in some fold.
        pairs: classes that are mixed up.
        ahead: a method that is surely more accurate than the fused model, and by how much.
        optimism: accuracy of a random split above that of the folds by place, if measured.
        reach_m: distance that the features of a pixel reach, in metres.
        near: most training labels in a fold that lie within the windows of a test pixel.
        missing: a line for each band that some labels lack.
        network: whether a network's features describe pixels too.
    """

    verdict: Verdict
    labels: Mapping[str, int]
    lacking: tuple[str, ...]
    pairs: tuple[MixedPair, ...]
    ahead: tuple[str, Interval] | None
    optimism: Interval | None
    reach_m: float
    near: int
    missing: tuple[str, ...]
    network: bool


def pixel_steps(findings: PixelFindings) -> tuple[Step, ...]:
    """Suggested steps, the most promising first."""
    return (
        *_on_classes(findings),
        *_on_verdict(findings),
        *_on_pairs(findings.pairs),
        *_on_method(findings.ahead),
        *_on_test(findings),
    )


def _on_classes(findings: PixelFindings) -> Iterator[Step]:
    """Classes that are labelled in only one place, or seldom."""
    if findings.lacking:
        names = ", ".join(findings.lacking)
        why = msg(
            "in some fold they have no training label, so all their labels count as incorrect"
        )
        yield Step(msg("Label these classes in other places too: {names}", names=names), "", why)
    few = {name: count for name, count in findings.labels.items() if count < MIN_LABELS}
    if few:
        names = ", ".join(f"{name} ({count})" for name, count in sorted(few.items()))
        why = msg(
            "with fewer than {min_labels} labels a class is described and tested poorly",
            min_labels=MIN_LABELS,
        )
        yield Step(msg("Add labels of the rarest classes: {names}", names=names), "", why)


def _on_verdict(findings: PixelFindings) -> Iterator[Step]:
    """Against under- and overfitting."""
    verdict = findings.verdict
    if verdict.word == "under":
        yield Step(
            msg("Describe pixels by wider windows"),
            "pixels.windows_px=[3,7,15,33,65]",
            msg("classes of large patches differ in what surrounds a pixel"),
        )
        yield from _network(findings.network)
    elif verdict.word == "just right":
        yield Step(
            msg(
                "Keep the recipe, and test the map on a random sample: geotl sample, geotl accuracy"
            ),
            "",
            msg(
                "folds by place show how the model works away from its labels; a random sample "
                "of the map measures the accuracy of the map"
            ),
        )
    elif verdict.word == "over" or "over" in verdict.between:
        yield Step(
            msg(
                "Add labels where the model is uncertain: geotl suggest; what they would bring:"
                " geotl curve"
            ),
            "",
            msg("labels in new places show the model what differs over the scene"),
        )
        yield from _network(findings.network)
    if verdict.target is None:
        yield Step(
            msg("State the accuracy that you need"),
            "evaluate.target=0.9",
            msg("without it underfitting and a model that is good enough look the same"),
        )


def _network(network: bool) -> Iterator[Step]:
    """A pretrained network, where there is none yet."""
    if not network:
        yield Step(
            msg("Describe pixels by a pretrained network too"),
            "model.weights=FILE",
            msg("it sees texture and shapes that means and deviations do not"),
        )


def _on_pairs(pairs: Sequence[MixedPair]) -> Iterator[Step]:
    """Classes that are mixed up."""
    both: dict[frozenset[str], list[MixedPair]] = {}
    for pair in pairs:
        both.setdefault(frozenset((pair.truth, pair.predicted)), []).append(pair)
    for first, *other in both.values():
        what = joined([pair.words() for pair in (first, *other)], "; ")
        yield Step(
            msg(
                "Compare {truth} and {predicted}: {what}",
                truth=first.truth,
                predicted=first.predicted,
                what=what,
            ),
            "",
            msg(
                "their labels may be wrong, or lie on edges; another date or band may separate "
                "them; or labels.names gives both one name"
            ),
        )


def _on_method(ahead: tuple[str, Interval] | None) -> Iterator[Step]:
    """A simpler method that does better."""
    if ahead is not None:
        name, gap = ahead
        yield Step(
            msg(
                "Compare with {name}, which is ahead of the fused model by {value:.1f} points",
                name=name,
                value=100 * gap.value,
            ),
            "",
            msg("with few labels the weights of the members are uncertain; more labels help"),
        )


def near_words(count: int) -> str:
    """That training labels lie near a test pixel, in the fold with the most of them.

    >>> near_words(3)
    'in a fold up to 3 training labels lie within the windows of a test pixel'
    """
    return nmsg(
        "in a fold a training label lies within the windows of a test pixel",
        "in a fold up to {n} training labels lie within the windows of a test pixel",
        count,
    )


def _on_test(findings: PixelFindings) -> Iterator[Step]:
    """Steps on the reliability of the accuracy."""
    if findings.near:
        yield Step(
            msg("Keep training labels away from test labels"),
            f"split.buffer_m={findings.reach_m:g}",
            msg("{near}, which may flatter the accuracy", near=near_words(findings.near)),
        )
    if findings.missing:
        yield Step(
            msg("Check the bands that labels lack, or leave these bands out with data.bands"),
            "pixels.missing_bands=exclude",
            joined(findings.missing, "; "),
        )
    if findings.optimism is not None and findings.optimism.low > 0:
        yield Step(
            msg("Publish the accuracy of the folds, not that of a random split"),
            "",
            msg(
                "a random split is {value:.1f} points higher, because its test labels have "
                "training labels next to them",
                value=100 * findings.optimism.value,
            ),
        )
