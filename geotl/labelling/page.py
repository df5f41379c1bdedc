"""The page of `geotl label`: its HTML, the files that it loads and what it may load.

Everything that the page shows of a project it asks the server for, as data; no text of a user
stands in its HTML but the project's name, which the template escapes.
"""

from __future__ import annotations

import importlib.resources

from geotl.mapping.cartography import confidence_ramp
from geotl.reporting.templates import render

HOME = "geotl.labelling"
POLICY = (  # no script, style or address but the server's own; nothing inline, nothing evaluated
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_SCRIPTS = (
    *("class_list.js", "curve.js", "dom.js", "keys.js", "label.js", "layers.js", "learning.js"),
    *("ol.js", "panel.js", "sample.js", "scene_map.js", "session.js", "styles.js", "tools.js"),
    *("words.js",),
)
_SHEETS = ("label.css", "ol.css")
ASSETS = {  # the files that the page loads, and their types
    **dict.fromkeys(_SCRIPTS, "text/javascript; charset=utf-8"),
    **dict.fromkeys(_SHEETS, "text/css; charset=utf-8"),
    "OPENLAYERS-LICENSE.txt": "text/plain; charset=utf-8",
}


def page_html(project: str) -> str:
    """The page.

    Args:
        project: name of the project, shown before the server's first answer.
    """
    stops = confidence_ramp()[::10].tolist()
    ramp = " ".join(f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in stops)
    return render("label.html", HOME, project=project, ramp=ramp)


def page_asset(name: str) -> bytes:
    """The content of a file that the page loads.

    Args:
        name: one of `ASSETS`.

    Raises:
        KeyError: it is none of them; nothing else of the package is ever read.
    """
    if name not in ASSETS:
        raise KeyError(name)
    return (importlib.resources.files(HOME) / "assets" / name).read_bytes()
