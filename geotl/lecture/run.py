"""The lecture's demonstrations run: claims told as held or not, figure and numbers written."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from geotl._version import __version__
from geotl.console import Log, ProgressLine
from geotl.errors import ModelError
from geotl.evaluation.evaluate import plain
from geotl.experiments.recipe import lectures
from geotl.io.files import write_text
from geotl.lecture import (
    architectures,
    explicit,
    fitting,
    implicit,
    lectureaugmentation,
    lectureresidual,
    lecturestages,
    transfer,
)
from geotl.lecture.figures import panels_figure
from geotl.lecture.lecturepage import page_of
from geotl.lecture.lecturepanels import Shown
from geotl.lecture.recipes import PARTS, LectureRecipe, load_lecture
from geotl.reporting.figures import write_png

Told = Mapping[str, Any]
DEMONSTRATIONS: Mapping[str, Callable[[Any], Shown]] = {
    **fitting.DEMONSTRATIONS,
    **implicit.DEMONSTRATIONS,
    **explicit.DEMONSTRATIONS,
    **lectureaugmentation.DEMONSTRATIONS,
    **transfer.DEMONSTRATIONS,
    **lecturestages.DEMONSTRATIONS,
    **architectures.DEMONSTRATIONS,
    **lectureresidual.DEMONSTRATIONS,
}


def show(
    source: str, out: Path, overrides: Sequence[str] = (), *, say: Log = print
) -> dict[str, Any]:
    """Run one recipe; write NAME.png and NAME.json into a folder and tell what held.

    Raises:
        RecipeError: no such recipe, or numbers that cannot be.
    """
    name, recipe, numbers = load_lecture(source, overrides)
    begun, worked = time.perf_counter(), time.process_time()
    shown = DEMONSTRATIONS[recipe.demonstration](numbers)
    told = _told(name, recipe, numbers, shown)
    told["seconds"] = round(time.perf_counter() - begun, 1)
    told["processor_seconds"] = round(time.process_time() - worked, 1)
    write_png(out / f"{name}.png", panels_figure(shown.panels, shown.columns))
    write_text(out / f"{name}.json", json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    for line in (*lines(told), f"figure    {out / f'{name}.png'}"):
        say(line)
    return told


def _told(name: str, recipe: LectureRecipe, numbers: Any, shown: Shown) -> dict[str, Any]:
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
            "measured": shown.findings[key].measured,
        }
        for key, claim in recipe.claims.items()
    ]
    return {
        "name": name,
        "part": recipe.part,
        "title": recipe.title.model_dump(),
        "claims": claims,
        "note": recipe.note.model_dump() if recipe.note else None,
        "values": plain(shown.values),
        "numbers": numbers.model_dump(mode="json"),
        "recipe": _fingerprint(recipe, numbers),
    }


def _fingerprint(recipe: LectureRecipe, numbers: Any) -> str:
    """Of all that a recipe states and geotl's version, so that what changed is run again."""
    stated = [recipe.model_dump(mode="json"), numbers.model_dump(mode="json"), __version__]
    told = json.dumps(stated)
    return hashlib.sha256(told.encode()).hexdigest()


def lines(told: Told) -> list[str]:
    """What a finished demonstration says, in printed lines."""
    title = told["title"]
    found = [f"{told['name']}: {title['fr']} / {title['en']}"]
    for claim in told["claims"]:
        found.append(f"  {claim['fr']}\n  {claim['en']}")
        found.append(f"    {'HELD' if claim['held'] else 'did NOT HOLD'}: {claim['measured']}")
    if told["note"]:
        found.append(f"  Remarque : {told['note']['fr']}\n  Note: {told['note']['en']}")
    found.append(f"  {told['seconds']:.0f} s, {told['processor_seconds']:.0f} s of a processor")
    return found


def show_all(out: Path, *, quiet: bool = False, say: Log = print) -> Path:
    """Run every recipe, those that are finished kept, and gather them on one page."""
    names = sorted(lectures(), key=_place)
    told = []
    with ProgressLine(quiet=quiet) as line:
        counter = line.counter("lecture")
        for number, name in enumerate(names):
            kept = _finished(out, name)
            told.append(kept or show(name, out, say=say))
            counter(number + 1, len(names))
    path = out / "index.html"
    write_text(path, page_of(told, {t["name"]: (out / f"{t['name']}.png") for t in told}))
    held = [claim["held"] for one in told for claim in one["claims"]]
    say(f"{len(told)} recipes, {sum(held)} of {len(held)} claims held: {path}")
    return path


def _place(name: str) -> tuple[int, str]:
    """Its place on the page: by part of the lecture, then by name."""
    return list(PARTS).index(load_lecture(name)[1].part), name


def _finished(out: Path, name: str) -> dict[str, Any] | None:
    """What was written of a recipe, if it is whole and the recipe is the same."""
    path = out / f"{name}.json"
    if not (path.is_file() and (out / f"{name}.png").is_file()):
        return None
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # cut short by hand or by another program: run again
        return None
    _, recipe, numbers = load_lecture(name)
    same = isinstance(told, dict) and told.get("recipe") == _fingerprint(recipe, numbers)
    return told if same else None
