"""`geotl label` as a process: start, end, kills, a second one, and what is refused."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas
import httpx
import pytest
import shapely
from helpers.label_servers import READ, listening, running, words
from helpers.labelled_scenes import made_scene
from helpers.tiles import ROOT

from geotl.cli.main import main

ADD = {"op": "add", "class": 1, "geometry": {"type": "Point", "coordinates": [3.5, 2.25]}}
WATER = {"op": "add_class", "name": "water"}
KILLS = 4


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_scene(tmp_path_factory.mktemp("scene"))[0]


def refusal(capsys: pytest.CaptureFixture[str], line: list[str]) -> str:
    """The one line of a command that ends with exit code 2."""
    capsys.readouterr()
    assert main(line) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_a_session_ends_in_order_and_goes_on(scene: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    with running(scene, folder) as server:
        assert stat.S_IMODE((folder / "open.html").stat().st_mode) == 0o600
        server.change(WATER, ADD)
        server.process.send_signal(signal.SIGINT)
        rest, errors = server.process.communicate(timeout=20)
    said = f"stopping; labels are saved in {folder / 'labels.gpkg'}\n"
    assert (server.process.returncode, rest, errors) == (0, said, "")
    names = {path.name for path in folder.iterdir()}
    assert names >= {"labels.gpkg", "history.jsonl", "classes.json", "project.json"}
    assert not names & {"open.html", ".labels.gpkg.lock"}
    assert len(geopandas.read_file(folder / "labels.gpkg")) == 1
    with running(scene, folder) as server:
        assert len(server.state()["labels"]) == 1


def test_a_server_that_is_ended_politely_leaves_order(scene: Path, tmp_path: Path) -> None:
    with running(scene, tmp_path / "p") as server, listening(server, "tab") as events:
        assert any(event["kind"] == "pen" for event in events)
        server.process.send_signal(signal.SIGTERM)
        server.process.communicate(timeout=20)
        assert not [*events]  # the stream has ended
    assert server.process.returncode == 0
    assert not (tmp_path / "p" / "open.html").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_server_that_began_with_sigint_ignored(
    scene: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """As in the background of a shell without job control."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with running(scene, tmp_path / "p") as server:
            server.process.send_signal(number)
            rest, _ = server.process.communicate(timeout=30)
    finally:
        signal.signal(signal.SIGINT, before)
    assert server.process.returncode == 0
    assert rest.startswith("stopping; labels are saved in ")


@contextlib.contextmanager
def inherited(handler: signal.Handlers) -> Iterator[None]:
    """What programs that start here do at SIGHUP; nohup around the tests would decide it else."""
    before = signal.signal(signal.SIGHUP, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_ends_a_server_in_order_unless_it_ignores_that(
    scene: Path, tmp_path: Path
) -> None:
    with inherited(signal.SIG_DFL), running(scene, tmp_path / "p") as server:
        server.process.send_signal(signal.SIGHUP)
        rest, _ = server.process.communicate(timeout=30)
    assert server.process.returncode == 0
    assert rest.startswith("stopping; labels are saved in ")
    with inherited(signal.SIG_IGN), running(scene, tmp_path / "p") as server:  # as nohup
        server.process.send_signal(signal.SIGHUP)
        server.change(WATER)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once(number: signal.Signals) -> None:
    code = (
        "import os, signal, time\n"
        "from geotl.labelling.serving import Interrupts\n"
        "with Interrupts(lambda: print('ended', flush=True)).taken():\n"
        "    try:\n"
        f"        os.kill(os.getpid(), {int(number)})\n"
        "        time.sleep(60)\n"
        "    except KeyboardInterrupt:\n"
        f"        os.kill(os.getpid(), {int(number)})\n"
        "        time.sleep(60)\n"
    )
    ended = python(code)
    assert (ended.returncode, ended.stdout) == (128 + number, "ended\n")


def test_a_second_process_says_where_the_first_listens(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(scene, tmp_path / "p") as server:
        said = refusal(capsys, words(scene, tmp_path / "p"))
        assert f"open already; go to {server.url}" in said
        assert len(server.change(WATER, ADD)["labels"]) == 1


def test_no_label_is_lost_when_the_server_is_killed(scene: Path, tmp_path: Path) -> None:
    """Killed at random moments of a stream of clicks, again and again."""
    moment = random.Random(5)
    folder = tmp_path / "p"
    answered = 0
    for _ in range(KILLS):
        with running(scene, folder) as server:
            placed = [one["id"] for one in server.state()["labels"]]
            assert len(placed) in (answered, answered + 1)  # one may be on the disk, unanswered
            assert placed == sorted(placed)
            answered = len(placed)
            if not server.state()["classes"]:
                server.change(WATER)
            revision = server.state()["revision"]
            threading.Timer(moment.uniform(0.05, 1.2), server.process.kill).start()
            while True:
                try:
                    answer = server.post("changes", revision=revision, changes=[ADD])
                except httpx.TransportError:
                    break
                assert answer.status_code == 200
                revision, answered = answer.json()["revision"], answered + 1
            server.process.wait(timeout=20)
            assert server.process.returncode == -signal.SIGKILL
    with running(scene, folder) as server:
        now = server.state()
        assert len(now["labels"]) in (answered, answered + 1)
        answered = len(now["labels"])
        assert answered >= KILLS
        undone = server.post("undo", revision=now["revision"]).json()
        assert undone["labels"] == now["labels"][:-1]
        server.process.send_signal(signal.SIGINT)
        server.process.communicate(timeout=20)
    there = geopandas.read_file(folder / "labels.gpkg")
    assert [*there["id"]] == [one["id"] for one in undone["labels"]]


def test_a_label_survives_a_kill_in_the_file_after_a_second(scene: Path, tmp_path: Path) -> None:
    with running(scene, tmp_path / "p") as server, listening(server, "tab") as events:
        assert "curve" in (event["kind"] for event in events)  # the model is there
        server.change(WATER, ADD)
        time.sleep(1.0)
        server.process.kill()
        server.process.wait()
    assert len(geopandas.read_file(tmp_path / "p" / "labels.gpkg")) == 1


def test_nothing_listens_on_another_address(scene: Path, tmp_path: Path) -> None:
    if not Path("/proc/net/tcp").is_file():
        pytest.skip("no /proc/net/tcp on this system")
    with running(scene, tmp_path / "p") as server:
        pid = server.process.pid
        port = int(server.url.split(":")[2].split("/")[0])
        handles = [one for one in Path(f"/proc/{pid}/fd").iterdir() if one.is_symlink()]
        links = [str(one.readlink()) for one in handles]
        open_here = {link[8:-1] for link in links if link.startswith("socket:[")}
        found = [*_listening(pid, "tcp"), *_listening(pid, "tcp6"), *_listening(pid, "udp")]
        places = [place for place, inode in found if inode in open_here]
        assert places == [f"0100007F:{port:04X}"]  # 127.0.0.1 as the kernel writes it


def _listening(pid: int, kind: str) -> list[tuple[str, str]]:
    """Local addresses and inodes of sockets that wait for others."""
    table = Path(f"/proc/{pid}/net/{kind}")
    rows = [line.split() for line in table.read_text().splitlines()[1:]] if table.exists() else []
    waits = {"tcp": "0A", "tcp6": "0A", "udp": "07"}[kind]
    return [(row[1], row[9]) for row in rows if row[3] == waits]


def test_a_tab_that_closes_hands_the_pen_to_the_next(scene: Path, tmp_path: Path) -> None:
    def pen(events: Any) -> object:
        return next(event["client"] for event in events if event["kind"] == "pen")

    with running(scene, tmp_path / "p") as server, listening(server, "second") as second:
        assert pen(second) == "tab"
        with listening(server, "tab") as first:
            assert pen(first) == "tab"
        while (holder := pen(second)) == "tab":
            pass
        assert holder == "second"
        server.name = "second"
        server.change(WATER)
        event = next(event for event in second if event["kind"] == "labels")
        assert event == {"kind": "labels", "revision": 1}


def test_a_huge_body_without_length_is_refused_while_it_comes(scene: Path, tmp_path: Path) -> None:
    sent = 0

    def endless() -> Any:
        nonlocal sent
        while sent < 256 << 20:
            sent += 1 << 16
            yield b" " * (1 << 16)

    with running(scene, tmp_path / "p") as server:
        try:
            answer = server.client.post("changes", content=endless())
            assert answer.status_code == 413
        except httpx.TransportError:  # the answer came before the body ended
            pass
        assert sent < 64 << 20
        assert server.state()["revision"] == 0


def test_a_port_in_use_is_refused(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert "--port" in refusal(capsys, words(scene, tmp_path / "p", "--port", port))
    assert "--port" in refusal(capsys, words(scene, tmp_path / "p", "--port", "99999"))


def test_a_project_of_another_scene_is_refused(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(scene, tmp_path / "p"):
        pass
    other = tmp_path / "other.tif"
    other.write_bytes(scene.read_bytes())
    assert "another scene" in refusal(capsys, words(other, tmp_path / "p"))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--labels", "absent.gpkg"], "no such file"),
        (["--classes", "absent.txt"], "cannot be read as classes"),
        (["--classes", os.devnull], "holds no class"),
        (["--labels", str(ROOT / "sample_tiles/labels.gpkg"), "--layer", "none"], "layer"),
        (
            [
                *["--layer", "points", "--field", "none", "--labels"],
                str(ROOT / "sample_tiles/labels.gpkg"),
            ],
            "none",
        ),
        (["--port", "99999"], "--port"),
        (["--sensor", "sentinel9"], "did you mean"),
        (["--sample", "absent.gpkg"], "absent.gpkg"),
        (["--sample", str(ROOT / "README.md"), "--labels", "b.gpkg"], "takes none"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], reason: str
) -> None:
    assert reason in refusal(capsys, words(scene, tmp_path / "p", *more))
    assert not (tmp_path / "p").exists()


def test_classes_and_labels_of_files_are_there_from_the_start(scene: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("# of the study\nbog\nwater\n")
    given = ("--classes", str(tmp_path / "classes.txt"))
    given += ("--labels", str(scene.parent / "labels.gpkg"))
    for _ in range(2):  # given again, they are not added again
        with running(scene, tmp_path / "p", *given) as server:
            now = server.state()
            assert [c["name"] for c in now["classes"]][:2] == ["bog", "water"]
            assert len(now["labels"]) == 144


def drawn(path: Path) -> Path:
    """Points as `geotl sample` draws them, on the scene."""
    places = [shapely.Point(500005 + 100 * i, 4599995 - 100 * i) for i in range(6)]
    columns = {"stratum": ["field", "town", "water"] * 2, "reference": [None] * 6}
    geopandas.GeoDataFrame(columns, geometry=places, crs="EPSG:32633").to_file(path)
    return path


def test_a_reference_sample_is_labelled_without_a_map(scene: Path, tmp_path: Path) -> None:
    folder, sample = tmp_path / "p", drawn(tmp_path / "points.gpkg")
    before = sample.read_bytes()
    with running(scene, folder, "--sample", str(sample)) as server:
        now = server.state()
        assert now["mode"] == "sample"
        names = {one["id"]: one["name"] for one in now["classes"]}
        assert {*names.values()} == {"field", "town", "water"}
        points = now["last"]["sample"]["points"]
        assert [one["class"] for one in points] == [None] * 6
        assert "model" not in now["last"]
        server.change({"op": "reclass", "id": points[2]["id"], "class": 1})
        assert server.state()["last"]["sample"]["points"][2]["class"] == 1
        revision = server.state()["revision"]
        add = server.post("changes", revision=revision, changes=[ADD])
        given = {"client": "tab", "revision": revision, "name": "a.gpkg"}
        brought = server.client.post("import", params=given, content=before)
        assert [add.status_code, brought.status_code] == [422, 422]
        assert server.client.get("map/classes/1/1/0/0.png").status_code == 404
        server.process.send_signal(signal.SIGINT)
        server.process.communicate(timeout=20)
    assert sample.read_bytes() == before
    answers = geopandas.read_file(folder / "sample.gpkg")
    assert [*answers["reference"].dropna()] == [names[1]]
    with running(scene, folder) as server:  # a project stays what it is
        assert server.state()["mode"] == "sample"
        assert len(server.state()["labels"]) == 1


def test_a_project_of_labels_becomes_no_sample(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(scene, tmp_path / "p") as server:
        server.change(WATER, ADD)
    sample = str(drawn(tmp_path / "points.gpkg"))
    assert "another sample" in refusal(capsys, words(scene, tmp_path / "p", "--sample", sample))
    with running(scene, tmp_path / "p") as server:
        assert server.state()["mode"] == "label"


def test_a_model_that_cannot_be_made_ends_the_command(scene: Path, tmp_path: Path) -> None:
    """The page is there before the weights are read; the labels in it are kept."""
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"none")
    with running(scene, tmp_path / "p", "--weights", str(weights)) as server:
        _, errors = server.process.communicate(timeout=60)
    assert server.process.returncode == 2
    assert errors.count("\n") == 1
    assert "weights.pth" in errors
    assert not (tmp_path / "p" / "open.html").exists()


def python(code: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", code]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("library", ["fastapi", "uvicorn"])
def test_without_the_extra_the_remedy_is_one_line(library: str) -> None:
    done = python(
        f"import sys; sys.modules[{library!r}] = None; from geotl.cli.main import main; "
        "sys.exit(main(['label', 'scene.tif', '--no-browser']))"
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"geotl label needs {library}; pip install 'geotl[label]'" in done.stderr


@pytest.mark.parametrize("line", [["--help"], ["label", "--help"]])
def test_help_comes_without_heavy_imports(line: list[str]) -> None:
    done = python(
        "import sys; from geotl.cli.main import main\n"
        f"try: main({line})\n"
        "except SystemExit: print(*sys.modules)"
    )
    loaded = set(done.stdout.split())
    assert "label" in done.stdout
    assert not loaded & {"fastapi", "uvicorn", "numpy", "rasterio", "torch", "starlette", "shapely"}


def test_the_browser_is_given_the_file_not_the_token(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line of a browser can be read by every user of a machine."""
    from geotl.labelling import session

    opened: list[str] = []
    monkeypatch.setattr(session.webbrowser, "open", opened.append)
    monkeypatch.setattr(session, "serve", lambda *_, **__: opened.append("served"))
    assert main(["label", str(scene), "-o", str(tmp_path / "p"), *READ]) == 0
    url = capsys.readouterr().out.split()[2]
    assert opened == [(tmp_path / "p" / "open.html").as_uri(), "served"]
    assert url.split("/")[3] not in opened[0]


def test_nothing_is_written_outside_the_project(scene: Path, tmp_path: Path) -> None:
    def files(root: Path) -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}

    beside = files(scene.parent)
    with running(scene, tmp_path / "here" / "p") as server:
        server.change(WATER, ADD)
        server.process.send_signal(signal.SIGINT)
        server.process.communicate(timeout=20)
    assert files(scene.parent) == beside
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["p"]
