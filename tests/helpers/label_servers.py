"""`geotl label` in a process of its own, and what a browser sends to it."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from helpers.labelled_scenes import BANDS
from helpers.processes import started

READ = ("--sensor", "sentinel2_l2a", "--bands", *BANDS)


def words(scene: Path, folder: Path, *more: str) -> list[str]:
    """The words of the command."""
    return ["label", str(scene), "-o", str(folder), "--no-browser", *READ, *more]


@dataclass
class Server:
    """A running server, its address, and a connection to it."""

    process: subprocess.Popen[str]
    url: str
    client: httpx.Client
    name: str = "tab"

    def post(self, path: str, **values: Any) -> httpx.Response:
        """What the server answers to an object."""
        return self.client.post(path, json={"client": self.name, **values})

    def state(self) -> dict[str, Any]:
        """What the page shows."""
        answer: dict[str, Any] = self.client.get("state").raise_for_status().json()
        return answer

    def change(self, *changes: dict[str, Any]) -> dict[str, Any]:
        """The state after changes on top of the newest one."""
        answer = self.post("changes", revision=self.state()["revision"], changes=[*changes])
        state: dict[str, Any] = answer.raise_for_status().json()
        return state


@contextlib.contextmanager
def running(scene: Path, folder: Path, *more: str) -> Iterator[Server]:
    """A server with the pen in the tab's hand; killed at the end if it still runs."""
    process = started(words(scene, folder, *more))
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        while line and not line.startswith("label at "):
            line = process.stdout.readline()
        assert line, process.communicate()[1]
        url = line.split()[2]
        with httpx.Client(base_url=url, timeout=20) as client:
            server = Server(process, url, client)
            server.post("hello")
            yield server
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def listening(server: Server, name: str) -> Iterator[Iterator[dict[str, Any]]]:
    """The events that a tab of this name is sent."""
    with (
        httpx.Client(base_url=server.url, timeout=20) as client,
        client.stream("GET", "events", params={"client": name}) as stream,
    ):
        lines = stream.iter_lines()
        yield (json.loads(line[6:]) for line in lines if line.startswith("data: "))
