"""A socket on 127.0.0.1, and uvicorn that serves a project on it until it is interrupted."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import uvicorn

from geotl.errors import SettingError
from geotl.labelling.gate import HOST, Gate

_END_S = 2  # for answers under way when the server ends


def open_socket(port: int | None) -> socket.socket:
    """A socket that listens on 127.0.0.1 and on nothing else.

    Args:
        port: wanted, None for a free one.

    Raises:
        SettingError: it is in use, or not allowed.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port or 0))
        listening.listen(128)
    except (OSError, OverflowError) as error:
        listening.close()
        raise SettingError(f"--port {port}: cannot be had ({error}); leave it out") from error
    return listening


def serve(
    gate: Gate, listening: socket.socket, stop: threading.Event, ending: Callable[[], None]
) -> None:
    """Answer requests until SIGINT or SIGTERM.

    Args:
        gate: the application.
        listening: from `open_socket`; closed at the end.
        stop: ends the server when it is set.
        ending: called when the server is about to end, so that streams close.
    """
    config = uvicorn.Config(
        gate,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_END_S,
    )
    server = _Server(config, stop, ending)
    with contextlib.suppress(KeyboardInterrupt), _interrupted_by_sigterm():
        server.run(sockets=[listening])  # sends itself the signal again when all is closed


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the process as Ctrl+C does, so that the folder is left in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, stop: threading.Event, ending: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._stop, self._ending = stop, ending

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._stop.is_set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending()
        await super().shutdown(sockets)
