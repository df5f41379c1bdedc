"""What several test modules share: the real data's place and small made tiles."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import hypothesis
import pytest
import torch
from helpers.tiles import ROOT, data_root
from matplotlib.figure import Figure

hypothesis.settings.register_profile("geotl", deadline=None)  # how busy a machine is is no fault
hypothesis.settings.load_profile("geotl")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip, loudly and counted, what needs the real data where that folder is missing.

    The long matrix of exports is deselected, which pytest counts, unless it is asked for by -m.
    """
    if "export_matrix" not in config.option.markexpr:
        long = [item for item in items if "export_matrix" in item.keywords]
        items[:] = [item for item in items if "export_matrix" not in item.keywords]
        config.hook.pytest_deselected(items=long)
    if data_root().is_dir():
        return
    missing = pytest.mark.skip(reason=f"real imagery not found at {data_root()} (set GEOTL_DATA)")
    for item in items:
        if "real_data" in item.keywords:
            item.add_marker(missing)


@pytest.fixture(scope="session")
def schema_root() -> Path:
    """The folder of published JSON schemas: GEOTL_SCHEMAS, or ../shared/schemas from the root."""
    folder = Path(os.environ.get("GEOTL_SCHEMAS", ROOT.parent / "shared" / "schemas"))
    if not folder.is_dir():
        pytest.skip(f"published JSON schemas not found at {folder} (set GEOTL_SCHEMAS)")
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The usual small model; a test that alters a model makes its own."""
    from helpers.map_fixtures import made_model  # which builds on this module

    return made_model(tmp_path_factory.mktemp("model") / "model.safetensors")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The real data's folder; use it only in tests marked real_data."""
    return data_root()


@pytest.fixture(scope="module")
def one_thread():
    """Tiny inputs gain nothing from threads, and one thread repeats to the bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def float32_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where bfloat16 gains nothing: what is compared with float32 is float32."""
    monkeypatch.setattr("geotl.models.device.bfloat16_gains", lambda *_: False)


@pytest.fixture(scope="module")
def few_trees() -> Iterator[None]:
    """Small forests in models of pixels, for tests that depend on no tree."""
    from helpers.forests import few_trees as small

    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in small():
            patch.setattr(module, name, value)
        yield


@pytest.fixture
def unrendered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are composed, but one pixel is drawn of each: half of a small run's time is spared.

    For modules about what a run learns, says or keeps; tests marked rendered have theirs whole.
    """
    if request.node.get_closest_marker("rendered"):
        return
    pixel = io.BytesIO()
    Figure(figsize=(1, 1), dpi=1).savefig(pixel, format="png", metadata={"Software": None})

    def savefig(figure: Figure, stream: BinaryIO, **_: object) -> None:
        stream.write(pixel.getvalue())

    monkeypatch.setattr(Figure, "savefig", savefig)


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    """A cache of packed tiles and features for the module alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOTL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
