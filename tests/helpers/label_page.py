"""The page of `geotl label` in Debian's Chromium, with the real server and a scripted model."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from helpers.browser import CHROMIUM
from helpers.tiles import ROOT
from PIL import Image

from geotl.imagery.scene import Scene, open_scene
from geotl.imagery.sensors import get_sensor
from geotl.labelling.events import Events
from geotl.labelling.gate import Address
from geotl.labelling.label_set import LabelSet
from geotl.labelling.own_commands import OwnCommands, StoppedError
from geotl.labelling.parts import Parts
from geotl.labelling.project import Project
from geotl.labelling.scene_tiles import SceneTiles
from geotl.labelling.server import app
from geotl.labelling.serving import open_socket

SCENE = ROOT / "sample_tiles" / "scene.tif"
SENSOR = "sentinel2_l2a_n0400"
BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
TOKEN = "token"


def sample_scene() -> Scene:
    return open_scene(SCENE, get_sensor(SENSOR), BANDS)


class ScriptedModel:
    """A model that says what a test wants; its maps are of one colour, which the version gives."""

    def __init__(self, events: Events) -> None:
        self.publish, self.version = events.publish, 0
        self.labels: LabelSet | None = None
        self.drawing = threading.Event()  # cleared: tiles wait
        self.drawing.set()
        self.probabilities = {"water": 0.7, "wood": 0.3}

    def start(self) -> None:
        pass

    def close(self) -> None:
        self.drawing.set()

    def changed(self, labels: LabelSet) -> None:
        self.labels = labels

    def tile(self, layer: str, each: int, x: int, y: int) -> bytes | None:
        if not self.version:
            return None
        self.drawing.wait(20)
        colour = (0, 0, 255, 255) if self.version % 2 else (255, 0, 0, 255)
        to = io.BytesIO()
        Image.fromarray(np.full((256, 256, 4), colour, np.uint8)).save(to, "png")
        return to.getvalue()

    def at(self, col: float, row: float) -> Mapping[str, Any]:
        return {"bands": {"B02": 1.0}, "probabilities": self.probabilities, "applicability": 0.5}

    def show(self) -> None:
        """Publish the next version of the map."""
        self.version += 1
        self.publish(
            "model", version=self.version, revision=1, stage="quick", members={}, seconds=0.2
        )


class Served:
    """A project on a port of 127.0.0.1, in this process."""

    def __init__(self, folder: Path, port: int | None = None, token: str = TOKEN) -> None:
        self.folder, self.events, self.scene = folder, Events(), sample_scene()
        folder.mkdir(exist_ok=True)
        self.project = Project(folder, self.scene.grid, print)
        self.model = ScriptedModel(self.events)
        self.finishing = threading.Event()  # cleared: finishing waits
        self.finishing.set()
        self._socket = open_socket(port)
        self.port = self._socket.getsockname()[1]
        address = Address(self.port, token)
        self.url = address.url
        parts = Parts(SceneTiles(self.scene), self.model, self.finish)
        gate = app(self.project, parts, address=address, events=self.events)
        config = uvicorn.Config(
            gate, http="h11", ws="none", lifespan="off", log_config=None, access_log=False
        )
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )
        self._thread.start()

    def finish(self, folder: Path, publish: Any, commands: OwnCommands) -> Sequence[str]:
        step = {"number": 1, "of": 2, "title": "training and testing the model"}
        line = "fitting folds  2/5, 3 s"
        publish("finish", state="running", line=line, files=[], step=step, share=0.25)
        while not self.finishing.wait(0.02):
            if commands.is_closed:
                raise StoppedError("ended")
        (folder / "map.html").write_text("<title>the map</title>")
        return ["map.html"]

    def close(self) -> None:
        if not self._thread.is_alive():
            return
        self.model.close()
        self.finishing.set()
        self.events.close()
        self.server.should_exit = True
        self.server.force_exit = True
        self._thread.join(20)
        self._socket.close()
        self.project.close()


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A browser of Playwright's."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Pages:
    """Pages of one browser; whatever goes wrong in them is noted."""

    def __init__(self, browser: Any) -> None:
        self.browser, self.faults, self.asked = browser, [], []
        self._contexts: list[Any] = []

    def open(self, url: str, width: int = 1280, height: int = 800, **more: Any) -> Any:
        context = self.browser.new_context(viewport={"width": width, "height": height}, **more)
        self._contexts.append(context)
        return self.tab(context, url)

    def tab(self, context: Any, url: str) -> Any:
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", self._heard)
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(url)
        page.wait_for_selector("body[data-ready]")
        becomes(page, "geotl.session.writer !== null")
        return page

    def _heard(self, message: Any) -> None:
        if message.type == "error":
            self.faults.append(message.text)

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        self._contexts.clear()


def becomes(page: Any, expression: str, argument: Any = None, seconds: float = 20.0) -> None:
    """Wait until an expression is true; Playwright's own wait needs eval, which the page bans."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression, argument):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(20)


def add_classes(page: Any, *names: str) -> None:
    for name in names:
        page.fill("#new-class", name)
        page.press("#new-class", "Enter")
    becomes(page, f"geotl.session.state.classes.length >= {len(names)}")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("1")  # the last one added is active, and tests begin with the first


def pixel_of(page: Any, col: float, row: float) -> tuple[float, float]:
    """The pixel of the window where a place of the scene is shown."""
    x, y = page.evaluate("([col, row]) => geotl.map.pixelOf([col, row])", [col, row])
    box = page.locator("#map").bounding_box()
    return box["x"] + x, box["y"] + y


def click_at(page: Any, col: float, row: float, **more: Any) -> None:
    page.mouse.click(*pixel_of(page, col, row), **more)


def saved(page: Any, labels: int) -> None:
    """Wait until the server has so many labels and none waits."""
    becomes(
        page, f"geotl.session.state.labels.length === {labels} && geotl.session.queue.length === 0"
    )
