"""A project with stand-ins for pictures and model, and a browser's side of its server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from geotl.errors import DataError
from geotl.io.raster import Grid
from geotl.labelling.events import Events
from geotl.labelling.gate import Address
from geotl.labelling.label_set import LabelSet
from geotl.labelling.own_commands import OwnCommands
from geotl.labelling.parts import Finish, Parts, Publish
from geotl.labelling.project import Project
from geotl.labelling.server import app

GRID = Grid("EPSG:32633", (10.0, 0.0, 500000.0, 0.0, -10.0, 4600000.0), 48, 64)
PICTURE = b"\x89PNG picture"
POINT = {"type": "Point", "coordinates": [3.5, 2.25]}
SQUARE = {"type": "Polygon", "coordinates": [[[1, 1], [5, 1], [5, 5], [1, 5], [1, 1]]]}
ADDRESS = Address(4711, "a-token_of-letters")


class Pictures:
    """Pictures of a scene of four bands."""

    def facts(self) -> Mapping[str, Any]:
        return {"name": "scene", "width": GRID.width, "height": GRID.height, "bands": [*"abcd"]}

    def tile(self, bands: Sequence[int], each: int, x: int, y: int, contrast: float = 2.0) -> bytes:
        return PICTURE + f" {bands} {each} {x} {y} {contrast}".encode()


@dataclass
class Model:
    """A model that notes what it was given, and has a map once there are labels."""

    given: list[LabelSet] = field(default_factory=list)

    def start(self) -> None:
        return

    def changed(self, labels: LabelSet) -> None:
        self.given.append(labels)

    def tile(self, layer: str, each: int, x: int, y: int) -> bytes | None:
        return PICTURE if self.given[-1].labels else None

    def at(self, col: float, row: float) -> Mapping[str, Any]:
        return {"probabilities": {}, "applicability": float("nan"), "values": [col, row]}

    def close(self) -> None:
        return


def finish(folder: Path, publish: Publish, commands: OwnCommands) -> Sequence[str]:
    """Writes a report, or fails where there are no labels."""
    if not (folder / "run").is_dir():
        raise DataError("no folder run;\nmake one")
    (folder / "run" / "report.html").write_text("<!doctype html>\n<title>report</title>\n")
    publish("finish", state="running", line="accuracy 80 %", files=[])
    return ["report.html", "no such name"]


@dataclass
class Page:
    """One tab of a browser."""

    client: TestClient
    project: Project
    model: Model
    events: Events
    name: str = "tab"
    revision: int = 0

    def post(self, path: str, **values: Any) -> Any:
        """What the server answers to an object."""
        return self.client.post(path, json={"client": self.name, **values})

    def change(self, *changes: Mapping[str, Any]) -> dict[str, Any]:
        """The state after changes that can be made."""
        return self._newer(self.post("changes", revision=self.revision, changes=[*changes]))

    def step(self, path: str) -> dict[str, Any]:
        """The state after undo or redo."""
        return self._newer(self.post(path, revision=self.revision))

    def bring(self, content: bytes, **query: Any) -> Any:
        """What the server answers to a file."""
        given = {"client": self.name, "revision": self.revision, "name": "l.gpkg"} | query
        return self.client.post("import", params=given, content=content)

    def _newer(self, response: Any) -> dict[str, Any]:
        assert response.status_code == 200, response.text
        state: dict[str, Any] = response.json()
        self.revision = state["revision"]
        return state


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Project]:
    """The project of a folder, closed at the end."""
    folder.mkdir(exist_ok=True)
    project = Project(folder, GRID, print)
    try:
        yield project
    finally:
        project.close()


@contextlib.contextmanager
def served(folder: Path, ending: Finish = finish) -> Iterator[Page]:
    """A tab with the pen, of a project with two classes unless it has some."""
    with opened(folder) as project:
        model, events = Model(), Events()
        parts = Parts(Pictures(), model, ending)
        gate = app(project, parts, address=ADDRESS, events=events)
        with TestClient(gate, base_url=ADDRESS.url, raise_server_exceptions=False) as client:
            page = Page(client, project, model, events)
            assert page.post("hello").json() == {"writer": True}
            page.revision = project.snapshot().labels.revision
            if page.revision == 0:
                page.change(*({"op": "add_class", "name": name} for name in ("water", "forest")))
            yield page
