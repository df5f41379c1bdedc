"""The routes of the page: state, changes, pictures, events; `gate` stands before all of them."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from geotl.errors import DataError, GeoTLError, OutputError
from geotl.io.files import jsonable
from geotl.labelling.events import Events
from geotl.labelling.gate import Address, Gate, TooLargeError
from geotl.labelling.label_set import LabelSet
from geotl.labelling.own_commands import BusyError, OwnCommands, StoppedError
from geotl.labelling.page import ASSETS, page_asset, page_html
from geotl.labelling.parts import Parts
from geotl.labelling.pen import Pen, PenError
from geotl.labelling.project import Project, Snapshot, StaleError
from geotl.labelling.shapes import geojson_of

FILES: Mapping[str, tuple[str, str]] = {  # what finishing writes: place in the folder, type
    "report.html": ("run/report.html", "text/html"),
    "map.html": ("map.html", "text/html"),
    "map.png": ("map.png", "image/png"),
    "areas.png": ("accuracy/areas.png", "image/png"),
}
FILE_POLICY = (  # of pages with styles and one script of their own, which may reach nothing
    "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; frame-ancestors 'none'; sandbox allow-scripts"
)
LAYERS = ("classes", "confidence", "applicability")
TILE_PX = 256
_CLIENT = re.compile(r"[\w-]{1,64}", re.ASCII)
_BANDS = re.compile(r"\d{1,4}-\d{1,4}-\d{1,4}")
_KEPT = {"cache-control": "private, max-age=86400, immutable"}
_STATUS: Mapping[type[GeoTLError], int] = {  # any other is 422
    StaleError: 409,
    PenError: 409,
    BusyError: 409,
    TooLargeError: 413,
    OutputError: 507,
}
Result = TypeVar("Result")


@dataclass
class Session:
    """All that the routes speak to."""

    project: Project
    parts: Parts
    events: Events
    pen: Pen = field(default_factory=Pen)

    def follow(self) -> None:
        """Let model and pages follow the labels from now on."""
        self.project.on_change = self._changed
        self.project.on_problem = self._problem
        self.parts.model.changed(self.project.snapshot().labels)

    def publish_pen(self) -> None:
        """Tell all pages which tab has the pen."""
        self.events.publish("pen", client=self.pen.holder)

    def _changed(self, labels: LabelSet) -> None:
        self.events.publish("labels", revision=labels.revision)
        self.parts.model.changed(labels)

    def _problem(self, line: str) -> None:
        self.events.publish("problem", message=line)


def app(project: Project, parts: Parts, *, address: Address, events: Events) -> Gate:
    """The server of a project, as an ASGI application.

    Args:
        project: its labels.
        parts: pictures of the scene, a model that follows the labels, an end.
        address: where the server listens.
        events: where model and finish publish.
    """
    session = Session(project, parts, events)
    session.follow()
    inside = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    _add_errors(inside)
    _add_page(inside, session)
    _add_changes(inside, session)
    _add_pictures(inside, session)
    _add_finish(inside, session)
    return Gate(inside, address)


def state_of(session: Session, snapshot: Snapshot) -> dict[str, Any]:
    """What the page shows of the labels."""
    labels = snapshot.labels
    return {
        "revision": labels.revision,
        "project": session.project.folder.name,
        "mode": session.project.mode,
        "classes": [{"id": c.id, "name": c.name, "colour": c.colour} for c in labels.classes],
        "labels": [
            {"id": one.id, "class": one.class_id, "geometry": geojson_of(one.geometry)}
            for one in labels.labels
        ],
        "undo": snapshot.undo,
        "redo": snapshot.redo,
    }


def _add_errors(inside: FastAPI) -> None:
    """Make every refusal {"detail": one line}."""

    def refused(_request: Request, error: Exception) -> JSONResponse:
        status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 422)
        return _detail(status, str(error))

    def missing(_request: Request, error: Exception) -> JSONResponse:
        status = error.status_code if isinstance(error, HTTPException) else 500
        words = {404: "not found", 405: "another method is needed here"}
        return _detail(status, words.get(status, str(getattr(error, "detail", error))))

    def invalid(_request: Request, error: Exception) -> JSONResponse:
        first = error.errors()[0] if isinstance(error, RequestValidationError) else {}
        where = ".".join(map(str, first.get("loc", ())[1:]))
        return _detail(422, f"{where}: {first.get('msg', 'cannot be used')}")

    def failed(_request: Request, _error: Exception) -> JSONResponse:
        return _detail(500, "a fault of geotl; its terminal shows more; labels are kept")

    inside.add_exception_handler(GeoTLError, refused)
    inside.add_exception_handler(HTTPException, missing)
    inside.add_exception_handler(RequestValidationError, invalid)
    inside.add_exception_handler(Exception, failed)


def _detail(status: int, line: str) -> JSONResponse:
    """A refusal; after one of a large body the connection closes, or its rest would be read."""
    headers = {"connection": "close"} if status == 413 else {}
    return JSONResponse({"detail": "; ".join(line.splitlines())}, status, headers)


def _add_page(inside: FastAPI, session: Session) -> None:
    @inside.get("/")
    def page() -> Response:
        return Response(page_html(session.project.folder.name), media_type="text/html")

    @inside.get("/assets/{name}")
    def asset(name: str) -> Response:
        if name not in ASSETS:
            raise HTTPException(404)
        content = page_asset(name)
        return Response(content, media_type=ASSETS[name], headers={"cache-control": "no-cache"})

    @inside.get("/state")
    def state() -> Response:
        now = state_of(session, session.project.snapshot())
        more = {"scene": session.parts.tiles.facts(), "last": session.events.last()}
        return JSONResponse(jsonable(now | more))

    @inside.get("/events")
    def events(client: str) -> Response:
        return _EventResponse(session, _client({"client": client}))


class _EventResponse(StreamingResponse):
    """A tab's event stream; while it is open the tab may have the pen."""

    def __init__(self, session: Session, client: str) -> None:
        super().__init__(session.events.stream(), media_type="text/event-stream")
        self._session, self._client = session, client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._session.pen.entered(self._client)
        self._session.publish_pen()
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._session.pen.left(self._client)
            self._session.publish_pen()


def _add_changes(inside: FastAPI, session: Session) -> None:
    project, pen = session.project, session.pen

    @inside.post("/hello")
    async def hello(request: Request) -> Response:
        writer = pen.ask(_client(await _json(request)))
        session.publish_pen()
        return JSONResponse({"writer": writer})

    @inside.post("/take")
    async def take(request: Request) -> Response:
        pen.take(_client(await _json(request)))
        session.publish_pen()
        return JSONResponse({"writer": True})

    def posted(path: str, make: Callable[[Mapping[str, Any], int], Snapshot]) -> None:
        @inside.post(path, name=path)
        async def route(request: Request) -> Response:
            value = await _json(request)
            pen.check(_client(value))
            revision = _revision(value.get("revision"))
            return await run_in_threadpool(
                lambda: JSONResponse(state_of(session, make(value, revision)))
            )

    posted("/changes", lambda value, revision: project.change(value.get("changes"), revision))
    posted("/undo", lambda _, revision: project.undo(revision))
    posted("/redo", lambda _, revision: project.redo(revision))

    @inside.post("/import")
    async def import_labels(
        request: Request,
        *,
        client: str,
        revision: int,
        name: Annotated[str, Query(max_length=200)],
        field: Annotated[str, Query(max_length=200)] = "class",
        layer: Annotated[str | None, Query(max_length=200)] = None,
    ) -> Response:
        pen.check(_client({"client": client}))
        content = await request.body()
        reading = await run_in_threadpool(
            project.import_bytes, content, name, field=field, layer=layer, revision=revision
        )
        state = state_of(session, project.snapshot())
        return JSONResponse(
            {"state": state, "added": reading.added, "rejected": list(reading.rejected)}
        )


def _add_pictures(inside: FastAPI, session: Session) -> None:
    tiles, model, grid = session.parts.tiles, session.parts.model, session.project.grid

    def check(each: int, x: int, y: int) -> None:
        """Make sure that a tile lies in the scene, at a scale that is a power of two."""
        span = TILE_PX * each
        if not 0 < each <= 1 << 20 or each & (each - 1) or min(x, y) < 0:
            raise HTTPException(404)
        if x * span >= grid.width or y * span >= grid.height:
            raise HTTPException(404)

    @inside.get("/scene/{bands}/{each}/{x}/{y}.png")
    def scene(
        bands: str, each: int, x: int, y: int, cut: Annotated[float, Query(ge=0, lt=50)] = 2.0
    ) -> Response:
        check(each, x, y)
        positions = [int(one) for one in bands.split("-")] if _BANDS.fullmatch(bands) else []
        if not positions or max(positions) >= len(tiles.facts()["bands"]):
            raise HTTPException(404)
        picture = tiles.tile(positions, each, x, y, cut)
        return Response(picture, media_type="image/png", headers=_KEPT)

    @inside.get("/map/{layer}/{version}/{each}/{x}/{y}.png")
    def layer(layer: str, version: int, each: int, x: int, y: int) -> Response:
        check(each, x, y)
        picture = model.tile(layer, each, x, y) if layer in LAYERS else None
        if picture is None:
            raise HTTPException(404)
        return Response(picture, media_type="image/png", headers=_KEPT)

    @inside.get("/at")
    def at(col: float, row: float) -> Response:
        if not (0 <= col < grid.width and 0 <= row < grid.height):
            raise DataError("a place outside the scene")
        return JSONResponse(jsonable(dict(model.at(col, row))))


def _add_finish(inside: FastAPI, session: Session) -> None:
    @inside.post("/finish")
    async def finish(request: Request) -> Response:
        session.pen.check(_client(await _json(request)))
        commands = session.parts.attempts.begin()
        work = threading.Thread(target=_finished, args=[session, commands], name="finish")
        work.daemon = True
        work.start()
        return JSONResponse({}, 202)

    @inside.post("/finish/cancel")
    async def cancel(request: Request) -> Response:
        session.pen.check(_client(await _json(request)))
        await run_in_threadpool(session.parts.attempts.cancel)
        return JSONResponse({}, 202)

    @inside.get("/files/{name}")
    def files(name: str) -> Response:
        if name not in FILES:
            raise HTTPException(404)
        place, kind = FILES[name]
        path = session.project.folder / place
        if not path.is_file() or path.resolve() != session.project.folder.resolve() / place:
            raise HTTPException(404)
        return FileResponse(
            path,
            media_type=kind,
            headers={"content-security-policy": FILE_POLICY, "cache-control": "no-store"},
        )


def _finished(session: Session, commands: OwnCommands) -> None:
    """Finish a project, and publish how it ended."""
    publish = session.events.publish
    publish("finish", state="running", line="", files=[])
    try:
        session.project.flush()
        names = session.parts.finish(session.project.folder, publish, commands)
        line = session.events.last()["finish"]["line"]  # the result, which comes last
        publish("finish", state="done", line=line, files=[one for one in names if one in FILES])
    except StoppedError:
        publish("finish", state="cancelled", line="", files=[])
    except GeoTLError as error:
        publish("finish", state="failed", line="; ".join(str(error).splitlines()), files=[])
    except BaseException:
        line = "a fault of geotl; its terminal shows more"
        publish("finish", state="failed", line=line, files=[])
        raise
    finally:
        session.parts.attempts.end()


async def _json(request: Request) -> Mapping[str, Any]:
    """The object of a body.

    Raises:
        DataError: it is no JSON, or no object.
    """
    body = await request.body()
    try:
        value = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the body is no JSON ({str(error)[:80]})") from error
    if not isinstance(value, dict):
        raise DataError("the body is no JSON object")
    return value


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _client(value: Mapping[str, Any]) -> str:
    client = value.get("client")
    if not isinstance(client, str) or not _CLIENT.fullmatch(client):
        raise DataError("no client; a tab names itself by up to 64 letters and digits")
    return client


def _revision(value: object) -> int:
    if type(value) is not int:
        raise DataError("no revision; send the number of the state that the page shows")
    return value
