"""The page of `geotl label`: its HTML and the files that it loads.

Everything that the page shows of a project it asks the server for, as data; no text of a user
stands in its HTML but the project's name, which the template escapes.
"""

from __future__ import annotations

import functools
import importlib.resources

from geotl.labelling.tile_png import CONFIDENCE, OUTSIDE
from geotl.reporting.templates import render

HOME = "geotl.labelling"
_SCRIPTS = (
    *("class_list.js", "curve.js", "dom.js", "finish.js", "keys.js", "label.js", "layers.js"),
    *("learning.js", "ol.js", "panel.js", "polygon.js", "sample.js", "scene_map.js", "session.js"),
    *("styles.js", "tools.js", "words.js"),
)
_SHEETS = ("label.css", "ol.css")
ASSETS = {  # the files that the page loads, and their types
    **dict.fromkeys(_SCRIPTS, "text/javascript; charset=utf-8"),
    **dict.fromkeys(_SHEETS, "text/css; charset=utf-8"),
    "icon.svg": "image/svg+xml",
    "OPENLAYERS-LICENSE.txt": "text/plain; charset=utf-8",
}


def page_html(project: str) -> str:
    """The page.

    Args:
        project: name of the project, shown before the server's first answer.
    """
    confidence, outside = " ".join(CONFIDENCE), " ".join(OUTSIDE)
    return render("label.html", HOME, project=project, confidence=confidence, outside=outside)


@functools.cache
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
