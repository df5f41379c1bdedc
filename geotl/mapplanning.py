"""How a scene's windows will be looked at, and whether looking at all at once will do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from geotl.applicability import Applicability, area_of_applicability
from geotl.device import settled
from geotl.errors import DataError
from geotl.mapping import Block, Plan, span_of, to_network, window_shares
from geotl.maptask import Task, check_options
from geotl.modelfile import ModelFile
from geotl.served import ServedModel
from geotl.sweeping import Looker, Sweep, check_dense
from geotl.windows import Imagery

Say = Callable[[str], None]
SAMPLE = 200  # windows looked at both ways
LEAST_AGREEMENT = 0.95


def settled_plan(task: Task, say: Say) -> tuple[Plan, float | None]:
    """How windows will be looked at, and how often dense and exact mode agree on a sample.

    Raises:
        DataError: dense mode was asked for and does not go.
    """
    model, options = task.model, task.options
    if isinstance(model, ServedModel):
        check_options(model, options)
        return _plan(task, model.sweep), None
    network = model.network
    area = _area(model, task, say)
    precision = settled(options.precision, next(network.parameters()).device)
    sweep = Sweep(network, task.grid.px, task.views, "exact", area, precision)
    plan = _plan(task, sweep)
    if options.mode == "exact":
        return plan, None
    try:
        check_dense(network, task.grid.px, task.grid.step)
    except DataError as error:
        if options.mode == "dense":
            raise
        say(f"exact mode, as {error}")
        return plan, None
    dense = replace(plan, sweep=replace(sweep, mode="dense"))
    agreement = agreement_of(dense, plan, task.scene)
    if agreement is None:
        return dense, None
    words = f"dense and exact mode name {100 * agreement:.1f} % of a sample of windows alike"
    if options.mode == "auto" and agreement < LEAST_AGREEMENT:
        say(f"exact mode: {words}, fewer than {100 * LEAST_AGREEMENT:.0f} %")
        return plan, agreement
    say(f"dense mode: {words}")
    return dense, agreement


def _plan(task: Task, sweep: Looker) -> Plan:
    return Plan(
        task.grid, sweep, task.model.contract.sensor, max(task.options.block_px, task.grid.px),
        task.options.min_valid, task.interest.windows(task.grid),
    )  # fmt: skip


def agreement_of(plan: Plan, exact: Plan, scene: Imagery) -> float | None:
    """Share of windows, in a few blocks spread over the scene, that two plans name alike.

    Each block is read with its surroundings, as in mapping. None where no window counts.
    """
    grid = plan.grid
    same, seen = 0, 0
    each = max(1, round(np.sqrt(SAMPLE / 9)))
    for rows in _spread(grid.rows, each):
        for cols in _spread(grid.cols, each):
            if not plan.wanted[rows, cols].any():
                continue
            span = span_of(plan, Block(rows, cols))
            data, valid = scene.read(span)
            place = grid.rows[rows] - span.row, grid.cols[cols] - span.col
            shares = window_shares(np.all(valid, axis=0), *place, grid.px)
            counts = plan.wanted[rows, cols] & (shares >= plan.min_valid)
            if not counts.any():
                continue
            image = to_network(plan, data, valid, scene.sensor)
            first, second = (
                one.sweep.look(image, *place, grid.step).probabilities.argmax(axis=-1)
                for one in (exact, plan)
            )
            same += int((first == second)[counts].sum())
            seen += int(counts.sum())
    return same / seen if seen else None


def _area(model: ModelFile, task: Task, say: Say) -> Applicability | None:
    """What dissimilarity is measured with, None where it is not asked for."""
    if not task.options.applicability:
        return None
    companions, trained = model.companions, model.contract.spec.views
    if task.views != trained:
        say(f"applicability: with {task.views} views, where the training tiles' features are means "
            f"of {trained}, windows look less like them than they are; --views {trained} compares "
            "like with like")  # fmt: skip
    return area_of_applicability(companions.features, companions.folds)


def _spread(firsts: NDArray[np.int64], each: int) -> list[slice]:
    """Runs of `each` regular windows at the beginning, middle and end of an axis."""
    count = max(1, len(firsts) - 1)
    starts = sorted({0, max(0, (count - each) // 2), max(0, count - each)})
    return [slice(start, min(start + each, count)) for start in starts]
