"""Pages are set by templates: values are escaped there alone, and a missing one is an error."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from helpers.pages import Page
from jinja2 import StrictUndefined, UndefinedError

from geotl.data.findings import Finding
from geotl.evaluation.evaluate import evaluate
from geotl.evaluation.next_steps import Step
from geotl.reporting.answers import classes_answer, next_answer
from geotl.reporting.figures import confusion_figure
from geotl.reporting.html import (
    Answer,
    Code,
    Facts,
    Note,
    Picture,
    ReportContent,
    Section,
    Steps,
    Table,
    page_html,
)
from geotl.reporting.templates import environment, policy, render

ROOT = Path(__file__).resolve().parents[2] / "geotl"
TEMPLATES = sorted(ROOT.rglob("assets/templates/*"))
HOSTILE = "<script>alert(1)</script>{{ 7 * 7 }}{% raw %}\"' onload='x' &lt;b>"
PNG = confusion_figure([[3, 1], [0, 4]], ["a", "b"])
EVERY_BLOCK = (
    HOSTILE,
    Note(HOSTILE),
    Code(HOSTILE),
    Code(HOSTILE, long=True),
    Facts({HOSTILE: HOSTILE}),
    Steps((Step(HOSTILE, HOSTILE, HOSTILE),)),
    Table((HOSTILE, "b"), ((HOSTILE, 0.5),), note=HOSTILE, bar=1, swatches=(HOSTILE,), strong=0),
    Picture(PNG, HOSTILE, HOSTILE),
    Finding("wrong", HOSTILE, HOSTILE, HOSTILE, tuple(f"{HOSTILE} {n}" for n in range(45))),
)


def package_of(template: Path) -> str:
    return ".".join(template.relative_to(ROOT.parent).parts[:2])


def hostile_page() -> str:
    content = ReportContent(
        title=HOSTILE,
        headline=HOSTILE,
        kind=HOSTILE,
        summary=HOSTILE,
        keys=((HOSTILE, HOSTILE, HOSTILE),),
        answers=(Answer(HOSTILE, HOSTILE, HOSTILE),),
        cautions=(HOSTILE,),
    )
    sections = [Section(f"s{n}", HOSTILE, (block,)) for n, block in enumerate(EVERY_BLOCK)]
    return page_html(content, sections)


def test_hostile_text_stays_text_in_every_block() -> None:
    text = hostile_page()
    page = Page(text)
    assert not page.all("script")
    assert not page.all("b")[1:]  # the key figure's own
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    assert page.text.count("<script>alert(1)</script>{{ 7 * 7 }}{% raw %}") > 60
    assert not re.search(r"\b49\b", page.text)
    assert page.all("img")[0]["alt"] == HOSTILE
    assert page.all("a")[0]["href"] == f"#{HOSTILE}"
    assert "and 5 more (check.json)" in page.text


def test_every_kind_of_block_has_its_macro() -> None:
    kinds = {type(block).__name__.lower() for block in EVERY_BLOCK}
    macros = environment().get_template("parts.html").module
    assert all(callable(getattr(macros, kind, None)) for kind in kinds)
    with pytest.raises(UndefinedError):
        page_html(ReportContent("a", "b"), [Section("s", "h", (3.0,))])  # type: ignore[arg-type]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_missing_value_is_an_error(path: Path) -> None:
    made = environment(package_of(path), autoescape=path.suffix != ".jinja")
    assert made.undefined is StrictUndefined
    template = made.get_template(path.name)
    if path.name == "parts.html":  # macros: shown nothing, each fails
        macros = {name: m for name, m in vars(template.module).items() if name[0] != "_"}
        del macros["swatch"]  # of what is no colour it shows nothing
        assert len(macros) > 8
        for macro in macros.values():
            with pytest.raises((UndefinedError, TypeError)):
                macro()
        return
    given = {} if path.name == "base.html" else {"style": "", "script": "", "policy": ""}
    with pytest.raises(UndefinedError):
        template.render(given)


def test_templates_alone_escape_and_nothing_given_is_marked_safe() -> None:
    """Only `templates` marks text as safe: style sheets and scripts of geotl itself."""
    users: dict[str, set[str]] = {"markupsafe": set(), "html": set(), "jinja2": set()}
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in users:
                users[node.module].add(path.name)
    assert users == {"markupsafe": {"templates.py"}, "html": set(), "jinja2": {"templates.py"}}
    for path in TEMPLATES:
        text = path.read_text()
        assert not re.search(r"\|\s*safe|autoescape|Markup", text), path.name
    assert environment("geotl.mapping").autoescape is True


def test_the_same_content_gives_the_same_bytes() -> None:
    assert hostile_page() == hostile_page()


def test_a_script_runs_by_its_checksum_alone() -> None:
    assert "script-src" not in policy()
    assert policy("let a = 1;") != policy("let a = 2;")
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='$", policy("let a = 1;"))


def test_dark_screens_have_colours_of_their_own_and_paper_has_not() -> None:
    text = render("page.html", content=ReportContent("a", "b"), sections=())
    assert "@media screen and (prefers-color-scheme: dark)" in text


def test_the_weakest_classes_are_named_with_what_they_are_taken_for() -> None:
    logits = [[2.0, 0, 0]] * 8 + [[0, 2.0, 0]] * 4 + [[0, 0, 2.0]] * 6
    result = evaluate(logits, [0] * 8 + [1] * 2 + [2] * 8, ["wood", "reed", "water"], rounds=20)
    text = classes_answer(result).text
    assert text == "reed (F1 0.67)."
    mixed = evaluate(logits, [0] * 8 + [2] * 4 + [2] * 6, ["wood", "reed", "water"], rounds=20)
    assert "water (F1 0.75: 4 of 10 tiles classified as reed)" in classes_answer(mixed).text
    good = evaluate([[2.0, 0]] * 4 + [[0, 2.0]] * 4, [0] * 4 + [1] * 4, ["a", "b"], rounds=20)
    assert classes_answer(good).text.startswith("None has an F1 below 0.8; the lowest is a")


def test_without_a_step_or_a_doubt_the_map_is_to_be_tested() -> None:
    answer = next_answer(())
    assert "geotl sample" in answer.text
    assert answer.section == "use"
    assert next_answer((), 1, 9).text == "1 of 9 labels looks like another class: check it."
