"""A model that is made in a thread, so that the page is there before torch is imported."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from geotl.labelling.label_set import LabelSet
from geotl.labelling.parts import FollowingModel


class LateModel:
    """Stands for a model until it is made, and hands on to it from then on."""

    def __init__(self, make: Callable[[], FollowingModel], failed: Callable[[], None]) -> None:
        """Make nothing yet.

        Args:
            make: imports what the model needs, and makes it.
            failed: called where `make` raised; `close` then raises that error.
        """
        self._make, self._failed = make, failed
        self._lock = threading.Lock()
        self._model: FollowingModel | None = None
        self._labels: LabelSet | None = None
        self._error: BaseException | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    def start(self) -> None:
        """Begin to make the model."""
        self._thread.start()

    def changed(self, labels: LabelSet) -> None:
        """Take newer labels; the model gets the newest when it is there."""
        with self._lock:
            self._labels = labels
            if self._model is not None:
                self._model.changed(labels)

    def tile(self, layer: str, each: int, x: int, y: int) -> bytes | None:
        """The model's tile, None before there is a model."""
        return None if self._model is None else self._model.tile(layer, each, x, y)

    def at(self, col: float, row: float) -> Mapping[str, Any]:
        """What the model says of a place; nothing before there is one."""
        if self._model is None:
            return {"bands": {}, "probabilities": {}, "applicability": None}
        return self._model.at(col, row)

    def close(self) -> None:
        """End the model; one that is being made is left.

        Raises:
            GeoTLError: the model could not be made.
        """
        with self._lock:
            self._closed = True
            if self._model is not None:
                self._model.close()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            model = self._make()
            with self._lock:
                if self._closed:
                    return
                model.start()
                self._model = model
                if self._labels is not None:
                    model.changed(self._labels)
        except BaseException as error:  # raised again where the session ends
            self._error = error
            self._failed()
