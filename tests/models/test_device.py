"""The number format that computes: where bfloat16 gains, measured once and remembered."""

from __future__ import annotations

import json
import threading
import time

import pytest
import torch

from geotl.io.locks import output_lock
from geotl.models import device
from geotl.models.device import (
    MIN_GAIN,
    autocast,
    bfloat16_gains,
    describe,
    measured_gain,
    settled,
)

CPU = torch.device("cpu")


@pytest.fixture
def avx512(monkeypatch, tmp_path):
    """A CPU with AVX512-BF16 and no AMX, and a cache of its own."""
    monkeypatch.setenv("GEOTL_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    device._gain_of.cache_clear()
    yield tmp_path / "bfloat16.json"
    device._gain_of.cache_clear()


@pytest.mark.parametrize(("gain", "wanted"), [(2.0, True), (MIN_GAIN - 0.01, False)])
def test_what_is_measured_decides_and_is_kept(avx512, monkeypatch, gain, wanted):
    monkeypatch.setattr(device, "measured_gain", lambda: gain)
    assert bfloat16_gains(CPU) is wanted
    assert list(json.loads(avx512.read_text())["value"].values()) == [gain]
    monkeypatch.setattr(device, "measured_gain", lambda: 1 / gain)
    device._gain_of.cache_clear()
    assert bfloat16_gains(CPU) is wanted  # the kept one decides, however busy the machine now is


def test_a_damaged_memory_is_measured_anew(avx512, monkeypatch):
    avx512.write_text("{")
    monkeypatch.setattr(device, "measured_gain", lambda: 3.0)
    assert bfloat16_gains(CPU)
    assert list(json.loads(avx512.read_text())["value"].values()) == [3.0]


def test_of_two_processes_one_measures_and_the_other_takes_that(avx512, monkeypatch):
    """Two that measure at once may come to different number formats, and so to different models."""
    monkeypatch.setattr(device, "measured_gain", lambda: 3.0)
    assert bfloat16_gains(CPU)
    content = avx512.read_text()
    avx512.unlink()
    device._gain_of.cache_clear()
    held = threading.Event()

    def other() -> None:
        with output_lock(avx512):
            held.set()
            time.sleep(0.2)
            avx512.write_text(content)

    thread = threading.Thread(target=other)
    thread.start()
    held.wait()
    monkeypatch.setattr(device, "measured_gain", lambda: 0.5)
    assert bfloat16_gains(CPU)
    thread.join()


def test_measuring_draws_no_random_numbers():
    before = torch.random.get_rng_state()
    assert measured_gain(rounds=1) > 0
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_cpu_with_neither_is_not_measured(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(device, "measured_gain", lambda: pytest.fail("measured"))
    assert settled("auto", CPU) == "float32"
    assert describe(CPU, "auto").endswith("float32")
    assert "1 threads" not in describe(CPU, "auto")  # red before


def product() -> torch.Tensor:
    return torch.nn.functional.linear(torch.ones(1, 2), torch.ones(2, 2))


def test_a_precision_given_is_taken(avx512):
    assert settled("bfloat16", CPU) == "bfloat16"
    with autocast(CPU, "bfloat16"):
        assert product().dtype == torch.bfloat16
    with autocast(CPU, "float32"):
        assert product().dtype == torch.float32
    assert not avx512.exists()
