"""The lecture's demonstrations run; figure, numbers, and one page of all."""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from geotl._version import __version__
from geotl.console import Log, ProgressLine
from geotl.errors import ModelError
from geotl.evaluation.evaluate import plain
from geotl.io.files import json_text, write_text
from geotl.io.locks import locked, output_lock
from geotl.language import spaced
from geotl.lecture import (
    architectures,
    augmentations,
    blocks,
    explicit,
    fitting,
    freezing,
    implicit,
    normalisation,
    search,
    soft_labels,
    stages,
    transfer,
)
from geotl.lecture.figures import Shown, panels_figure
from geotl.lecture.recipes import (
    FIRST_SEED,
    PARTS,
    LectureRecipe,
    Shallow,
    Trained,
    in_order,
    load_lecture,
)
from geotl.lecture.texts import LANGUAGES, THEORIES, Both, Language, Theory, written
from geotl.models.device import torch_threads
from geotl.reporting.figures import write_png
from geotl.reporting.html import Picture
from geotl.reporting.templates import render, style


def page_of(results: Sequence[Mapping[str, Any]], pictures: Mapping[str, Path]) -> str:
    """The page of finished demonstrations, in the order given.

    Args:
        results: their records.
        pictures: PNG files by `figure_name`.
    """
    parts = {one["part"] for one in results}
    return render(
        "lecture.html",
        "geotl.lecture",
        style=style(("geotl.lecture", "lecture.css")),
        results=results,
        headings={part: title for part, title in PARTS.items() if part in parts},
        pictures={
            one["name"]: {
                language: Picture(
                    pictures[figure_name(one["name"], language)].read_bytes(),
                    one["title"][language],
                )
                for language in LANGUAGES
            }
            for one in results
        },
        counts=Counts.of(results),
        first_seed=FIRST_SEED,
        statuses=STATUSES,
        command=command,
        spaced=spaced,
    )


def command(record: Mapping[str, Any]) -> str:
    """The command that runs a demonstration with its number changed, as a shell reads it.

    >>> command({"name": "augment_light", "play": "shift.gain=[0.8,0.9]"})
    "geotl lecture augment_light 'shift.gain=[0.8,0.9]'"
    """
    words = ["geotl", "lecture", record["name"], *([record["play"]] if record["play"] else [])]
    return shlex.join(words)


def figure_name(name: str, language: Language) -> str:
    """File name of a demonstration's figure in one language."""
    return f"{name}.{language}.png"


STATUSES: Mapping[str, Both] = {
    "holds": Both(fr="Vu", en="HELD"),
    "wrong": Both(fr="La diapositive se trompe", en="The slide is wrong"),
    "open": Both(fr="Pas vu ici", en="Not seen here"),
    "missed": Both(fr="Attendu par la théorie, mais pas vu", en="Expected by theory, NOT SEEN"),
}


def status_of(held: bool, theory: Theory) -> str:
    """Which of STATUSES a claim has.

    >>> status_of(True, "open"), status_of(False, "holds"), status_of(False, "wrong")
    ('holds', 'missed', 'wrong')
    """
    if held:
        return "holds"
    return "missed" if theory == "holds" else theory


@dataclass(frozen=True)
class Counts:
    """Numbers of claims: those that theory says must hold, those seen, mistakes, open ones."""

    expected: int
    seen: int
    wrong: int
    open: int
    open_seen: int

    @classmethod
    def of(cls, results: Sequence[Mapping[str, Any]]) -> Counts:
        """Of the claims of these records."""
        claims = [claim for one in results for claim in one["claims"]]
        by = {theory: [c for c in claims if c["theory"] == theory] for theory in THEORIES}
        seen = [sum(c["held"] for c in by[theory]) for theory in ("holds", "open")]
        return cls(len(by["holds"]), seen[0], len(by["wrong"]), len(by["open"]), seen[1])

    @property
    def line(self) -> str:
        """They, in a line."""
        return (
            f"{self.seen} of {self.expected} claims that must hold were seen; {self.wrong} "
            f"mistakes of the slides; {self.open_seen} of {self.open} that depend on the data seen"
        )


Record = Mapping[str, Any]
DEMONSTRATIONS: Mapping[str, Callable[[Any], Shown]] = {
    **fitting.DEMONSTRATIONS,
    **implicit.DEMONSTRATIONS,
    **normalisation.DEMONSTRATIONS,
    **explicit.PENALTIES,
    **augmentations.AUGMENTATIONS,
    **soft_labels.SOFT_LABELS,
    **transfer.DEMONSTRATIONS,
    **search.DEMONSTRATIONS,
    **freezing.DEMONSTRATIONS,
    **stages.DEMONSTRATIONS,
    **architectures.DEMONSTRATIONS,
    **blocks.DEMONSTRATIONS,
}


def show(
    source: str, out: Path, overrides: Sequence[str] = (), *, log: Log = print
) -> dict[str, Any]:
    """Run one recipe; write NAME.png and NAME.json into a folder and log which claims held.

    Raises:
        RecipeError: no such recipe, or numbers that cannot be.
        OutputError: another process writes these files, or they cannot be written.
    """
    name, recipe, numbers = load_lecture(source, overrides)
    with output_lock(out / f"{name}.json"):
        record = _run(name, recipe, numbers, out)
    for line in (*lines(record), f"figure    {out / figure_name(name, 'fr')}"):
        log(line)
    return record


def _run(name: str, recipe: LectureRecipe, numbers: Any, out: Path) -> dict[str, Any]:
    """A demonstration, its figure and its JSON written.

    On one thread: networks are so small that threads cost more than they gain, and the numbers do
    not depend on how many cores a machine has.
    """
    begun, worked = time.perf_counter(), time.process_time()
    with torch_threads(1), threadpool_limits(1):
        shown = DEMONSTRATIONS[recipe.demonstration](numbers)
    record = _record_of(name, recipe, numbers, shown)
    record["seconds"] = round(time.perf_counter() - begun, 1)
    record["processor_seconds"] = round(time.process_time() - worked, 1)
    for language in LANGUAGES:
        figure = panels_figure(shown.panels, shown.columns, language)
        write_png(out / figure_name(name, language), figure)
    write_text(out / f"{name}.json", json_text(record))
    return record


def _record_of(name: str, recipe: LectureRecipe, numbers: Any, shown: Shown) -> dict[str, Any]:
    """What is written of a demonstration.

    Raises:
        ModelError: claims and findings that do not answer each other.
    """
    if recipe.claims.keys() != shown.findings.keys():
        raise ModelError(
            f"{name}: claims {', '.join(recipe.claims)}, but {recipe.demonstration} answers "
            f"{', '.join(shown.findings)}; name the claims so in the recipe"
        )
    claims = [
        {
            "key": key,
            **claim.model_dump(),
            "held": bool(shown.findings[key].held),
            "status": status_of(shown.findings[key].held, claim.theory),
            "measured": {one: written(shown.findings[key].measured, one) for one in LANGUAGES},
        }
        for key, claim in recipe.claims.items()
    ]
    return {
        "name": name,
        "part": recipe.part,
        "title": recipe.title.model_dump(),
        "claims": claims,
        "design": recipe.design.model_dump() if recipe.design else None,
        "note": recipe.note.model_dump() if recipe.note else None,
        "play": recipe.play,
        "values": plain(shown.values),
        "numbers": numbers.model_dump(mode="json"),
        "seeds": numbers.seeds if isinstance(numbers, Shallow | Trained) else None,
        "recipe": _fingerprint(recipe, numbers),
    }


def _fingerprint(recipe: LectureRecipe, numbers: Any) -> str:
    """Of all that a recipe states and geotl's version, so that changed recipes run again."""
    stated = [recipe.model_dump(mode="json"), numbers.model_dump(mode="json"), __version__]
    text = json.dumps(stated)
    return hashlib.sha256(text.encode()).hexdigest()


def lines(record: Record) -> list[str]:
    """Results of a finished demonstration, in printed lines."""
    title = record["title"]
    texts = [f"{record['name']}: {title['fr']} / {title['en']}"]
    for claim in record["claims"]:
        texts.append(f"  {claim['fr']}\n  {claim['en']}")
        status = STATUSES[claim["status"]]
        texts += [f"    {status.fr} : {claim['measured']['fr']}"]
        texts += [f"    {status.en}: {claim['measured']['en']}"]
    if record["note"]:
        texts.append(f"  Remarque : {record['note']['fr']}\n  Note: {record['note']['en']}")
    texts.append(f"  {record['seconds']:.0f} s, {record['processor_seconds']:.0f} s of a processor")
    return texts


@locked
def show_all(out: Path, *, quiet: bool = False, log: Log = print) -> Path:
    """Run every recipe, except those that are finished, and gather them on one page."""
    names = in_order()
    records = []
    with ProgressLine(quiet=quiet) as line:
        counter = line.counter("lecture")
        for number, name in enumerate(names):
            finished = _finished(out, name)
            records.append(finished or show(name, out, log=log))
            counter(number + 1, len(names))
    path = out / "index.html"
    write_text(path, page_of(records, _pictures(out, records)))
    log(f"{len(records)} recipes; {Counts.of(records).line}: {path}")
    return path


def _pictures(out: Path, records: Sequence[Mapping[str, Any]]) -> dict[str, Path]:
    """Figure files of records, by their names."""
    names = [figure_name(one["name"], language) for one in records for language in LANGUAGES]
    return {name: out / name for name in names}


def _finished(out: Path, name: str) -> dict[str, Any] | None:
    """The record of a recipe, if it is complete and the recipe is the same."""
    path = out / f"{name}.json"
    figures = [out / figure_name(name, language) for language in LANGUAGES]
    if not all(one.is_file() for one in (path, *figures)):
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # truncated by hand or by another program: run again
        return None
    _, recipe, numbers = load_lecture(name)
    same = isinstance(record, dict) and record.get("recipe") == _fingerprint(recipe, numbers)
    return record if same else None
