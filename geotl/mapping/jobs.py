"""One scene to be mapped, as plain values that travel to another process, and how that went."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from geotl._version import __version__
from geotl.console import Log
from geotl.errors import GeoTLError, OutsideError, needed_by_model
from geotl.evaluation.class_map import open_map
from geotl.imagery.products import sibling_images
from geotl.imagery.scene import Scene, open_bands, open_scene
from geotl.imagery.scene_list import Entry, band_set, only_file
from geotl.imagery.sensors import Sensor
from geotl.inference.mapper import Mapper
from geotl.inference.onnx_model import engine_for, open_predictor
from geotl.io.files import sha256_of
from geotl.language import Language, current, language
from geotl.mapping.options import MapOptions
from geotl.mapping.plan import as_in_training, interest_in, open_for
from geotl.mapping.provenance import MARK_TAG, file_states
from geotl.mapping.run import Mapped, map_scene
from geotl.mapping.task import AS_IT_IS, Reading, outputs

Status = Literal["mapped", "kept", "skipped", "failed"]


@dataclass(frozen=True)
class Job:
    """A scene to be mapped into `out` with a model file, or an exported one that `engine` runs."""

    entry: Entry
    model: Path
    out: Path
    options: MapOptions
    reading: Reading = AS_IT_IS
    engine: str | None = None
    language: Language = field(default_factory=current)  # of its page


@dataclass(frozen=True)
class JobResult:
    """Result of a job: `message` is the line of an error, or a remark."""

    name: str
    status: Status
    message: str
    seconds: float = 0.0


def run_job(job: Job, *, quiet: bool, log: Log) -> Mapped:
    """Map a job's scene.

    Raises:
        DataError: a scene that the model cannot map.
        OutputError: an output that exists, or cannot be written.
    """
    changed = job.model.stat().st_mtime_ns if job.model.exists() else 0
    model = _model(job.model, job.engine, changed)
    scene = open_entry(model, job.entry, job.reading)
    interest = interest_in(scene, model.contract.tile_px, job.options, job.reading)
    with language(job.language):
        return map_scene(
            model, scene, job.out, job.options, interest=interest, quiet=quiet, log=log
        )


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def attempt(job: Job, share: int) -> JobResult:
    """Map a job's scene, and return its result or error instead of raising.

    Args:
        job: the job.
        share: number of scenes that are mapped on this machine in parallel.
    """
    begun = time.perf_counter()
    torch.set_num_threads(max(1, cores() // share))
    lines: list[str] = []
    try:
        run_job(job, quiet=True, log=lines.append)
    except OutsideError as error:
        return JobResult(job.entry.name, "skipped", _line(error))
    except (GeoTLError, OSError, RuntimeError, MemoryError) as error:
        kind = "" if isinstance(error, GeoTLError) else f"{type(error).__name__}: "
        return JobResult(job.entry.name, "failed", kind + _line(error))
    seconds = time.perf_counter() - begun
    return JobResult(job.entry.name, "mapped", lines[-2] if len(lines) > 1 else "", seconds)


def open_entry(model: Mapper, entry: Entry, reading: Reading) -> Scene:
    """An entry's scene in the model's bands and at its resolution, with extra rasters.

    Raises:
        DataError: a scene that cannot be used.
        BandError: bands missing.
    """
    sensor = reading.sensor_or(model.contract.sensor)
    if not entry.assets:
        return replace(open_for(model, entry.path, reading), name=entry.name)
    with needed_by_model("a scene", sensor.name):
        scene = _of_assets(model, entry, reading, sensor)
    return as_in_training(model, scene, reading)


def _of_assets(model: Mapper, entry: Entry, reading: Reading, sensor: Sensor) -> Scene:
    """A STAC item's scene, from its one file of several bands or one for each band."""
    contract = model.contract
    one_file = only_file(entry, sensor, contract.bands)
    if one_file is None:
        of = band_set(entry, sensor, contract.bands)
        return open_bands(of, sensor, contract.bands, mask=reading.mask, name=entry.name)
    file_bands = None if reading.sensor else contract.file_bands
    return open_scene(
        one_file, sensor, contract.bands, file_bands=file_bands, mask=reading.mask, name=entry.name
    )


def mark_of(job: Job) -> str:
    """A name for everything that a job's map depends on: with it a finished map is recognised.

    Raises:
        DataError: a scene or area of interest that is not there.
        ModelError: an engine that is not there.
    """
    path, aoi, mask = job.entry.path, job.reading.aoi, job.reading.mask
    files = [a.path for a in job.entry.assets] or [
        path,
        *([] if path.is_dir() else sibling_images(path)),
    ]
    if mask not in (None, "auto"):
        files.append(Path(mask))
    files.extend(Path(extra) for extra in job.reading.extra)
    parts = {
        "geotl": __version__,
        "model": sha256_of(job.model),
        "engine": engine_for(job.model, job.engine),
        "files": [state[1:] for file in files for state in file_states(file)],
        "options": asdict(job.options) | dict.fromkeys(["overwrite", "force", "page", "mark"]),
        "reading": asdict(job.reading) | {"aoi": sha256_of(Path(aoi)) if aoi else None},
    }
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def is_finished(job: Job) -> bool:
    """Whether the job's map exists completely, with the mark of this job in its tag.

    Raises:
        DataError: the file there cannot be read.
    """
    if not all(path.exists() for path in outputs(job.out, job.options).values()):
        return False
    return bool(job.options.mark) and open_map(job.out).tags.get(MARK_TAG) == job.options.mark


@functools.lru_cache(maxsize=1)
def _model(path: Path, engine: str | None, _: int) -> Mapper:
    """A model kept for the next scene, unless its file has changed since."""
    return open_predictor(path, engine)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
