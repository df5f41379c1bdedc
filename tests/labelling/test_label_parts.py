"""A model that is made while the page is already there."""

from __future__ import annotations

import threading

import pytest
from helpers.label_sessions import Model

from geotl.errors import WeightsError
from geotl.labelling.label_set import LabelSet
from geotl.labelling.parts import LateModel


class Slow(Model):
    """Notes in which order it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.ready = threading.Event()

    def start(self) -> None:
        self.calls.append("start")

    def changed(self, labels: LabelSet) -> None:
        super().changed(labels)
        self.calls.append(f"labels {labels.revision}")
        self.ready.set()

    def close(self) -> None:
        self.calls.append("close")


def never() -> None:
    raise AssertionError


def test_a_model_gets_the_newest_labels_when_it_is_there() -> None:
    model, go = Slow(), threading.Event()

    def make() -> Model:
        assert go.wait(10)
        return model

    late = LateModel(make, never)
    late.start()
    for revision in (1, 2, 3):
        late.changed(LabelSet(revision))
    assert late.tile("classes", 1, 0, 0) is None
    assert late.at(1, 1) == {"bands": {}, "probabilities": {}, "applicability": None}
    go.set()
    assert model.ready.wait(10)
    late.changed(LabelSet(4))
    assert late.at(1, 2)["values"] == [1, 2]
    late.close()
    assert model.calls == ["start", "labels 3", "labels 4", "close"]


def test_a_model_that_cannot_be_made_ends_the_session_with_its_error() -> None:
    failed = threading.Event()

    def make() -> Model:
        raise WeightsError("a.pth: no weights")

    late = LateModel(make, failed.set)
    late.start()
    assert failed.wait(10)
    late.changed(LabelSet(1))
    assert late.tile("classes", 1, 0, 0) is None
    with pytest.raises(WeightsError, match="no weights"):
        late.close()


def test_a_session_that_ends_early_starts_no_model() -> None:
    model, go, made = Slow(), threading.Event(), threading.Event()

    def make() -> Model:
        assert go.wait(10)
        made.set()
        return model

    late = LateModel(make, never)
    late.start()
    late.close()
    go.set()
    assert made.wait(10)
    late._thread.join(10)
    assert model.calls == []
