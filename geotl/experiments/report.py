"""Results of a run of tiles, and the lines and metrics that state them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from geotl.console import aligned
from geotl.data.spatial_splits import Variogram
from geotl.evaluation.calibration import distrust
from geotl.evaluation.evaluate import (
    Evaluation,
    Interval,
    Spread,
    headline,
    losses,
    plain,
)
from geotl.evaluation.next_steps import Stand
from geotl.experiments.compare import FittedDraw
from geotl.experiments.experiment import Experiment
from geotl.experiments.kept_model import KeptModel
from geotl.experiments.label_doubts import DOUBTFUL, LabelDoubts
from geotl.experiments.report_words import fusion_hint
from geotl.experiments.results import FUSED, NETWORK, NETWORK_ALONE, Answers, Results
from geotl.experiments.run_sets import SETS, RunSets
from geotl.language import msg


@dataclass(frozen=True)
class Outcome:
    """What a run found, before it is written.

    Attributes:
        experiment: that was run.
        first: the first draw's network.
        kept: what is written as the model: this network, or one fitted on all labels.
        results: of every draw.
        answers: what networks said of the test tiles: the first draw's, or those of all folds.
        evaluation: scores of these answers.
        stand: where the network stands between under- and overfitting, and what to try.
        facts: what a reader wants to know of the run.
        doubts: labels that look like another class.
        sets: prediction sets; None where the kept model has no held-out predictions.
        variogram: of the tiles, where blocks were laid by it.
        warnings: about the labels.
    """

    experiment: Experiment
    first: FittedDraw
    kept: KeptModel
    results: Results
    answers: Answers
    evaluation: Evaluation
    stand: Stand
    facts: dict[str, str]
    doubts: LabelDoubts
    sets: RunSets | None = None
    variogram: Variogram | None = None
    warnings: tuple[str, ...] = ()

    @property
    def kfold(self) -> int | None:
        """Number of folds that are tested together, None where labels are drawn."""
        return self.experiment.recipe.split.kfold

    @property
    def draws(self) -> int:
        """How often labels were drawn."""
        return len(self.results.draws)

    def headline(self) -> str:
        """The first line: methods that are more accurate, if any, then the network's accuracy."""
        name = msg("network with band statistics") if self.results.fused else NETWORK
        line = headline(*self.comparison(), name)
        return (
            msg("{line}, {kfold} folds together", line=line, kfold=self.kfold)
            if self.kfold
            else line
        )

    @property
    def loses(self) -> bool:
        """Whether another method is more accurate."""
        accuracy, rivals = self.comparison()
        return bool(losses(accuracy[0], rivals))

    def title(self) -> str:
        """The name of what the report is about, in its own tables and figures."""
        if not self.alone():
            return msg("This network")
        return msg("This {model}", model=self.results.title(NETWORK) if self.kfold else FUSED)

    def alone(self) -> dict[str, Interval]:
        """The network's accuracy before it was fused with band statistics, if it was."""
        draws = self.results.draws if self.kfold else self.results.draws[:1]
        shown = Results(draws)
        return {NETWORK_ALONE: shown.pooled()[NETWORK_ALONE]} if shown.fused else {}

    def comparison(self) -> tuple[Interval | Spread, dict[str, float]]:
        """Overall accuracy of the network and of its rivals; means where there are repeats."""
        rivals = {name: rival.value for name, rival in self.evaluation.rivals.items()}
        if self.kfold or self.draws == 1:
            return self.evaluation.overall, rivals
        spreads = self.results.spreads()
        means = {n: s["overall"].mean for n, s in spreads.items() if not n.startswith("network")}
        majority = {n: value for n, value in rivals.items() if n == "majority class"}
        return spreads[NETWORK]["overall"], means | majority

    def lines(self) -> list[str]:
        """The result in a few printed lines."""
        what = "fold" if self.kfold else "draw"
        seconds = np.median(self.results.seconds)
        return [
            self.headline(),
            *self._methods(what),
            *self._remarks(what),
            f"fitted in {seconds:.1f} s a {what} (median)",
            *filter(None, [self.kept.estimate]),
            *self.doubts.line(),
        ]

    def _methods(self, what: str) -> list[str]:
        """A line for each method: its accuracy over all folds, or its mean over the draws."""
        spreads = self.results.spreads()
        rows = {name: own["overall"].over(what) for name, own in spreads.items()}
        if self.kfold:
            rows = {name: str(accuracy) for name, accuracy in self.results.pooled().items()}
        titled = [(self.results.title(name), accuracy) for name, accuracy in rows.items()]
        return [f"  {line}" for line in aligned(titled, left=(0, 1))]

    def _remarks(self, what: str) -> list[str]:
        """What must be said beside the accuracies."""
        optimism, gain = self.results.optimism(self.experiment.recipe), self.results.gain()
        whose = "" if self.kept.estimate else ", whose model is kept"
        which = "" if self.draws == 1 or self.kfold else f" (first draw{whose})"
        remarks = [optimism.words()] if optimism else []
        remarks += [gain.words(what)] if gain else []
        tuning = self.kept.made.fitted.tuning
        remarks += [tuning.words() + which] if tuning else []
        remarks += [self.stand.verdict.line() + which]
        remarks += [doubt] if (doubt := distrust(self.evaluation.after)) else []
        fused = self.experiment.recipe.model.fuse_statistics
        return remarks if fused else [*remarks, *filter(None, [fusion_hint(self.headline())])]

    def metrics(self, *, timed: bool = True) -> dict[str, Any]:
        """What metrics.json holds; without times, the same in every run."""
        recipe, fitted = self.experiment.recipe, self.kept.made.fitted
        record = self.evaluation.to_dict() | {"headline": self.headline()}
        record["draws"] = {
            name: {key: spread._asdict() for key, spread in spreads.items()}
            for name, spreads in self.results.spreads().items()
        }
        if timed:
            record["fit_seconds"] = self.results.seconds
        record["diagnosis"] = self.stand.verdict.to_dict()
        record[DOUBTFUL] = len(self.doubts)
        if self.sets is not None:
            record[SETS] = self.sets.to_dict()
        if self.kfold:
            record["kfold"] = self.kfold
        if optimism := self.results.optimism(recipe):
            record["optimism"] = {
                "random": optimism.random,
                "spatial": optimism.spatial,
                "difference": optimism.interval,
            }
        if gain := self.results.gain():
            record["unlabelled"] = asdict(gain)
        if self.variogram is not None:
            record["variogram"] = self.variogram
        if (chosen := fitted.chosen) is not None:
            record["head"] = {"setting": chosen.setting, "fold_accuracy": chosen.fold_accuracy}
            if len(chosen.parts) > 1:
                record["head"]["renderings"] = dict(
                    zip(fitted.network.spec.renderings, chosen.parts, strict=True)
                )
        if fitted.pool is not None:
            record["pool"] = fitted.pool.to_dict()
        record |= self._fusion()
        if fitted.history is not None:
            record["training"] = asdict(fitted.history)
        if fitted.tuning is not None:
            record["tuning"] = asdict(fitted.tuning)
        if self.kept.estimate:
            record |= self._kept(timed)
        metrics: dict[str, Any] = plain(record)
        return metrics

    def _fusion(self) -> dict[str, Any]:
        """How the kept model is fused, and what `network` then stands for in metrics.json."""
        fusion = self.kept.made.fitted.fusion
        record = {} if fusion is None else {"fusion": asdict(fusion)}
        names = {"names": {NETWORK: self.results.title(NETWORK)}} if self.results.fused else {}
        return record | names

    def _kept(self, timed: bool) -> dict[str, Any]:
        """What metrics.json says of a model that was fitted on all labels."""
        made = self.kept.made
        own = {
            "labels": self.kept.labels,
            "tiles": len(made.draw.split.train),
            "temperature": float(made.fitted.network.temperature),
        }
        own |= {"seconds": self.kept.seconds} if timed else {}
        return {"estimate": self.kept.estimate, "kept": own}
