"""A socket on 127.0.0.1, and uvicorn that serves a project on it until it is interrupted."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

import uvicorn

from geotl.errors import SettingError
from geotl.labelling.gate import HOST, Gate

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
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
    gate: Gate,
    listening: socket.socket,
    stop: threading.Event,
    ending: Callable[[], None],
    interrupts: Interrupts,
) -> None:
    """Answer requests until SIGINT or SIGTERM.

    Args:
        gate: the application.
        listening: from `open_socket`; closed at the end.
        stop: ends the server when it is set.
        ending: called when the server is about to end, so that streams close.
        interrupts: taken, for a second signal while the server ends.
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
    server = _Server(config, stop, ending, interrupts)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listening])  # sends itself the signal again when all is closed


class Interrupts:
    """SIGINT and SIGTERM: the first ends the work in order, a second one the process at once.

    SIGHUP of a closed terminal is as SIGTERM, unless it is ignored, as under nohup.
    """

    def __init__(self, at_once: Callable[[], None]) -> None:
        """Of a process that calls `at_once` before it ends at the second signal."""
        self._at_once, self._stopping = at_once, False

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Take these signals, also where a shell had SIGINT ignored in the background.

        Raises:
            KeyboardInterrupt: at the first signal.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {one: signal.signal(one, self._taken) for one in _SIGNALS}
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            before[signal.SIGHUP] = signal.signal(signal.SIGHUP, _terminate)
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def end(self, number: int) -> NoReturn:
        """End the process now; what is on the disk stays."""
        self._at_once()
        os._exit(128 + number)

    def _taken(self, number: int, _: FrameType | None) -> None:
        if self._stopping:
            self.end(number)
        self._stopping = True
        raise KeyboardInterrupt


def _terminate(_: int, __: FrameType | None) -> None:
    signal.raise_signal(signal.SIGTERM)


class _Server(uvicorn.Server):
    def __init__(
        self,
        config: uvicorn.Config,
        stop: threading.Event,
        ending: Callable[[], None],
        interrupts: Interrupts,
    ) -> None:
        super().__init__(config)
        self._stop, self._ending, self._interrupts = stop, ending, interrupts

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self._interrupts.end(sig)
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._stop.is_set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending()
        await super().shutdown(sockets)
