"""All demonstrations of the lecture on one page, self-contained: claims, findings, figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from geotl.lecture.recipes import PARTS
from geotl.reporting.html import Picture, figure_html
from geotl.reporting.pagestyle import STYLE

Told = Mapping[str, Any]
OWN = """
.claim { margin: 0 0 .8rem; padding: .5rem .9rem; border-left: 4px solid var(--blue); }
.claim.missed { border-color: var(--orange); background: #fff7f0; }
.claim p { margin: 0; max-width: none; }
.claim .said { font-weight: 600; }
.claim .measured { color: var(--faint); font-size: .92rem; margin-top: .25rem; }
h3 { font-size: 1.1rem; margin: 2.2rem 0 .5rem; }
.claim, h3 { break-inside: avoid; break-after: avoid; }
"""


def page_of(told: Sequence[Told], pictures: Mapping[str, Path]) -> str:
    """The page of finished demonstrations, in the order given; pictures by name, as PNG files."""
    held = [claim["held"] for one in told for claim in one["claims"]]
    sections = [
        f'<h2 id="{part}">{escape(title)}</h2>'
        + "".join(_one(one, pictures[one["name"]]) for one in told if one["part"] == part)
        for part, title in PARTS.items()
        if any(one["part"] == part for one in told)
    ]
    links = "".join(
        f'<li><a href="#{one["name"]}">{escape(one["title"]["fr"])}</a></li>' for one in told
    )
    intro = (
        "Each technique and architecture of the lecture, shown on small synthetic tiles that come "
        "with geotl. A claim that did not hold there may hold elsewhere: what is told is what was "
        "measured, with the command that measures it again."
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>geotl: the lecture made visible</title><style>{STYLE}{OWN}</style></head>"
        '<body><main><p class="eyebrow">geotl lecture --all</p>'
        "<h1>La régularisation rendue visible<br>Regularisation made visible</h1>"
        f'<p class="verdict">{sum(held)} of {len(held)} claims held, in {len(told)} '
        f"demonstrations</p><p>{intro}</p><nav><ul>{links}</ul></nav>{''.join(sections)}"
        "</main></body></html>\n"
    )


def _one(told: Told, picture: Path) -> str:
    """One demonstration: title, claims with what was measured, figure, note and command."""
    title = told["title"]
    note = told["note"]
    remark = (
        f'<p class="note"><span lang="fr">Remarque : {escape(note["fr"])}</span><br>'
        f"Note: {escape(note['en'])}</p>"
        if note
        else ""
    )
    return (
        f'<h3 id="{told["name"]}"><span lang="fr">{escape(title["fr"])}</span> / '
        f"{escape(title['en'])}</h3>{''.join(map(_claim, told['claims']))}"
        f"{figure_html(Picture(picture.read_bytes(), title['en']))}{remark}"
        f"<pre>geotl lecture {told['name']}</pre>"
    )


def _claim(claim: Told) -> str:
    word = "HELD" if claim["held"] else "did NOT HOLD"
    return (
        f'<div class="claim{"" if claim["held"] else " missed"}">'
        f'<p class="said"><span lang="fr">{escape(claim["fr"])}</span></p>'
        f"<p>{escape(claim['en'])}</p>"
        f'<p class="measured"><b>{word}</b>: {escape(claim["measured"])}</p></div>'
    )
