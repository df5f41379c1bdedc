"""What the server refuses: foreign hosts, origins, tokens and paths, bodies that are too large."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas
import pytest
from helpers.label_sessions import ADDRESS, POINT, Page, served
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geotl.labelling.gate import MAX_BODY, MAX_IMPORT, new_token
from geotl.labelling.server import ASSETS, FILES

ADD = {"op": "add", "class": 1, "geometry": POINT}
PLACES = (
    "",
    "state",
    "events?client=a",
    "assets/label.js",
    "scene/0-1-2/1/0/0.png",
    "at?col=1&row=1",
)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with served(tmp_path / "project") as one:
        yield one


def line_of(answer: Any) -> str:
    """The one line of a refusal."""
    assert [*answer.json()] == ["detail"]
    detail: str = answer.json()["detail"]
    assert "\n" not in detail
    return detail


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("token", ["wrong", ADDRESS.token[:-1], ADDRESS.token + "x", ""])
def test_a_wrong_token_is_not_found(page: Page, token: str, place: str) -> None:
    answer = page.client.get(f"http://127.0.0.1:{ADDRESS.port}/{token}/{place}")
    assert answer.status_code == 404
    line_of(answer)


def test_a_wrong_token_posts_nothing(page: Page) -> None:
    url = f"http://127.0.0.1:{ADDRESS.port}/wrong/changes"
    body = {"client": "tab", "revision": 1, "changes": [ADD]}
    assert page.client.post(url, json=body).status_code == 404
    assert page.project.snapshot().labels.labels == ()


def test_tokens_are_long_and_differ() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert min(map(len, tokens)) >= 43  # 256 bits


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        f"evil.example:{ADDRESS.port}",
        f"127.0.0.1.evil.example:{ADDRESS.port}",
        "127.0.0.1",
        "127.0.0.1:80",
        f"0.0.0.0:{ADDRESS.port}",
        f"127.0.0.2:{ADDRESS.port}",
        f"localhost.:{ADDRESS.port}",
        f"user@127.0.0.1:{ADDRESS.port}",
        "",
    ],
)
@pytest.mark.parametrize("place", ["", "state"])
def test_a_foreign_host_is_refused(page: Page, host: str, place: str) -> None:
    """DNS rebinding: a foreign name that points to this machine, from a page of that name."""
    answer = page.client.get(place, headers={"host": host})
    assert answer.status_code == 400
    line_of(answer)


def test_localhost_is_as_good_as_its_number(page: Page) -> None:
    host = {"host": f"localhost:{ADDRESS.port}"}
    assert page.client.get("state", headers=host).status_code == 200
    host["origin"] = f"http://localhost:{ADDRESS.port}"
    assert page.client.post("hello", json={"client": "a"}, headers=host).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "",
        f"https://127.0.0.1:{ADDRESS.port}",
        "http://127.0.0.1:1",
        f"http://127.0.0.1:{ADDRESS.port}.evil.example",
        "file://",
    ],
)
@pytest.mark.parametrize("path", ["changes", "take", "hello", "finish", "import"])
def test_another_origin_posts_nothing(page: Page, origin: str, path: str) -> None:
    body = {"client": "other", "revision": page.revision, "changes": [ADD]}
    answer = page.client.post(path, json=body, headers={"origin": origin})
    assert answer.status_code == 403
    line_of(answer)
    assert page.client.get("state", headers={"origin": origin}).status_code == 403
    assert page.project.snapshot().labels.labels == ()
    assert page.events.last()["pen"]["client"] == "tab"


def test_no_other_origin_is_invited(page: Page) -> None:
    """Without CORS headers a browser shows an answer to no other page."""
    answer = page.client.options("changes", headers={"origin": "http://evil.example"})
    assert answer.status_code == 403
    answer = page.client.get("state")
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "path",
    [
        "../history.jsonl",
        "assets/../../project.json",
        "assets/..%2f..%2fserver.py",
        "assets/%2e%2e/%2e%2e/server.py",
        "assets/..%5c..%5cserver.py",
        "assets//etc/passwd",
        "assets/%2fetc%2fpasswd",
        "assets/label.js%00.txt",
        "files/..%2fhistory.jsonl",
        "files/history.jsonl",
        "files/labels.gpkg",
        "files/run%2freport.html",
        "files/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "scene/..%2f..%2f/1/0/0.png",
        "map/..%2fclasses/1/1/0/0.png",
    ],
)
def test_a_path_outside_is_not_found(page: Page, path: str) -> None:
    (page.project.folder / "run").mkdir()
    (page.project.folder / "run" / "report.html").write_text("report")
    answer = page.client.get(ADDRESS.url + path)
    assert answer.status_code in (404, 422)
    line_of(answer)


def test_a_link_in_the_folder_is_not_followed(page: Page, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (page.project.folder / "map.html").symlink_to(tmp_path / "secret")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "report.html").write_text("secret")
    (page.project.folder / "run").symlink_to(tmp_path / "elsewhere")
    for name in FILES:
        assert page.client.get(f"files/{name}").status_code == 404


def sent(size: int) -> Iterator[bytes]:
    """A body without an announced length."""
    for _ in range(0, size, 1 << 16):
        yield b" " * (1 << 16)


@pytest.mark.parametrize("path", ["changes", "undo", "hello", "take", "finish"])
def test_a_large_body_is_refused(page: Page, path: str) -> None:
    for body in (b" " * (MAX_BODY + 1), sent(MAX_BODY + 1)):
        answer = page.client.post(path, content=body)
        assert answer.status_code == 413
        assert line_of(answer) == "more than 1 MiB; send less at once"


def test_a_large_file_is_refused_by_what_was_announced(page: Page) -> None:
    answer = page.bring(b" " * 10, name="a.csv")
    assert answer.status_code == 422
    query = "import?client=tab&revision=1&name=a.csv"
    answer = page.client.post(query, content=sent(MAX_IMPORT + 1))
    assert answer.status_code == 413
    assert line_of(answer) == "more than 64 MiB; send less at once"
    header = {"content-length": str(MAX_IMPORT + 1)}
    assert page.client.post(query, content=b" ", headers=header).status_code == 413


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"3",
        b'"text"',
        b"null",
        b'{"client": "tab", "revision": 1, "changes": NaN}',
        b'{"client": "tab", "revision": Infinity}',
        b'{"client": "tab", "revision": 1e999}',
        b'{"client": "tab", "revision": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"client": "\\u0000", "revision": 1}',
        b'{"client": "' + b"a" * 65 + b'", "revision": 1}',
        b'{"client": ["tab"], "revision": 1}',
    ],
)
@pytest.mark.parametrize("path", ["changes", "undo"])
def test_a_broken_body_is_one_line(page: Page, path: str, body: bytes) -> None:
    answer = page.client.post(path, content=body)
    assert answer.status_code == 422
    assert len(line_of(answer)) < 200
    assert page.project.snapshot().labels.revision == page.revision


@pytest.mark.parametrize(
    "number",
    ["NaN", "-Infinity", "1e999", "1e308", "-1e308", "9" * 4000, "9" * 5000, '"1"', "true"],
)
def test_a_number_that_is_no_place_is_refused(page: Page, number: str) -> None:
    body = json.dumps({"client": "tab", "revision": page.revision, "changes": [ADD]})
    answer = page.client.post("changes", content=body.replace("3.5", number))
    assert answer.status_code == 422
    line_of(answer)


def test_a_name_of_html_is_text_everywhere(page: Page) -> None:
    """JSON that no browser takes for a page, and plain text in the files."""
    name = "<img src=x onerror=alert(1)>"
    page.change({"op": "add_class", "name": name}, ADD | {"class": 3})
    answer = page.client.get("state")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json()["classes"][2]["name"] == name
    assert "onerror" not in page.client.get("").text
    page.project.flush()
    assert [*geopandas.read_file(page.project.path)["class"]] == [name]


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1+cmd()", "-cmd()", "@SUM(1)", "=1"])
def test_a_name_that_a_spreadsheet_would_run_is_refused(page: Page, name: str) -> None:
    for change in (
        {"op": "add_class", "name": name},
        {"op": "edit_class", "id": 1, "name": name},
    ):
        answer = page.post("changes", revision=page.revision, changes=[change])
        assert answer.status_code == 422
        assert "formula" in line_of(answer)
    rows = f'x,y,class\n500015,4599985,"{name}"\n500025,4599985,reed\n'
    crs = rows.replace("class\n", "class,crs\n").replace('"\n', '",EPSG:32633\n')
    brought = page.bring(crs.replace("reed\n", "reed,EPSG:32633\n").encode(), name="a.csv").json()
    assert brought["added"] == 1
    assert "formula" in brought["rejected"][0]


scraps = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 9)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["add", "move", "edit_class", "Point", "Polygon", "water", "#112233"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["op", "id", "class", "into", "name", "geometry", "type", "coordinates"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
operations = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "move", "reclass", "delete", "add_class", "edit_class"])},
    optional={
        "id": scraps,
        "class": st.just(1) | scraps,
        "name": scraps,
        "colour": scraps,
        "geometry": st.fixed_dictionaries(
            {"type": st.sampled_from(["Point", "Polygon"]), "coordinates": scraps}
        )
        | scraps,
    },
)


@given(changes=st.lists(operations, max_size=3) | scraps, revision=st.none() | scraps)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_is_a_fault_of_the_server(page: Page, changes: Any, revision: Any) -> None:
    newest = page.project.snapshot().labels.revision
    body = json.dumps(
        {"client": "tab", "revision": newest if revision is None else revision, "changes": changes}
    )
    answer = page.client.post("changes", content=body)
    assert answer.status_code in (200, 409, 422), answer.text
    if answer.status_code != 200:
        line_of(answer)


HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


@pytest.mark.parametrize(
    "path", ["", "state", "nothing", "scene/0-1-2/1/0/0.png", "at?col=1&row=1"]
)
def test_every_answer_says_what_it_may_do(page: Page, path: str) -> None:
    answer = page.client.get(path)
    assert HEADERS.items() <= dict(answer.headers).items()
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for source in ("script", "style", "img", "connect"):
        assert f"{source}-src 'self'" in policy
    assert answer.headers["cache-control"].startswith("private" if "png" in path else "no-store")


def test_refusals_of_the_gate_have_the_same_headers(page: Page) -> None:
    answer = page.client.get("state", headers={"host": "evil.example"})
    assert HEADERS.items() <= dict(answer.headers).items()


def test_nothing_describes_the_server(page: Page) -> None:
    for path in ("docs", "redoc", "openapi.json"):
        assert page.client.get(path).status_code == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD", "TRACE"])
def test_other_methods_change_nothing(page: Page, method: str) -> None:
    assert page.client.request(method, "changes").status_code == 405


def test_a_fault_of_the_server_shows_nothing_of_it(page: Page, monkeypatch: Any) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("secret of the inside")

    monkeypatch.setattr(page.model, "at", fails)
    answer = page.client.get("at?col=1&row=1")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    line_of(answer)
    assert HEADERS.items() <= dict(answer.headers).items()


def test_assets_are_a_fixed_list(page: Page) -> None:
    assert {name.rsplit(".", 1)[1] for name in ASSETS} == {"js", "css", "svg", "txt"}
    assert page.client.get("assets/templates").status_code == 404
