"""Many scenes mapped by many processes or machines through Dask, and what comes of all of them.

The only module that imports dask and distributed (extra `many`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from geotl.console import Log, ProgressLine
from geotl.errors import DataError, OutputError, UnfinishedError
from geotl.io.files import write_text
from geotl.mapping.jobs import Job, Outcome, attempt, cores, is_finished, mark_of
from geotl.mapping.mosaics import areas_table, overlapping, write_mosaics
from geotl.mapping.task import AREAS, outputs


@dataclass(frozen=True)
class Crew:
    """Who maps.

    Attributes:
        scheduler: address of a Dask cluster whose workers see the same files; None for processes
            here.
        workers: how many of these; None for as many as suit.
        retries: how often a scene that failed is tried again.
    """

    scheduler: str | None = None
    workers: int | None = None
    retries: int = 1

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.workers is not None and self.workers < 1:
            raise DataError(f"workers {self.workers}: allowed is 1 or more")
        if self.retries < 0:
            raise DataError(f"retries {self.retries}: allowed is 0 or more")
        if self.scheduler and self.workers:
            raise DataError("--scheduler and --workers: give one; a cluster has its own workers")


def workers_for(scenes: int, cores: int) -> int:
    """Processes that suit: four cores each, and no more than there are scenes.

    >>> workers_for(10, 16), workers_for(2, 16), workers_for(10, 2)
    (4, 2, 1)
    """
    return max(1, min(scenes, cores // 4))


def map_many(
    jobs: Sequence[Job],
    folder: Path,
    crew: Crew,
    *,
    quiet: bool = False,
    say: Log = print,
    complain: Log = print,
) -> list[Outcome]:
    """Map scenes into a folder; a mosaic and one table of areas are written beside the maps.

    Scenes that were mapped before, with the same model and options, are kept.

    Args:
        jobs: the scenes; each is mapped whole by one process.
        folder: of the maps.
        crew: who maps.
        quiet: no progress.
        say: told a line for each scene that went well, and the sum.
        complain: told a line for each that did not.

    Raises:
        OutputError: a map of other making stands there, or the folder cannot be written.
        UnfinishedError: some scenes failed; the others are finished.
        DataError: dask is not installed, the cluster does not answer, or no scene meets the area
            of interest.
    """
    _check_places(jobs)
    marked = [_marked(job) for job in jobs]
    kept = {job.entry.name for job in marked if _is_kept(job)}
    found = {name: Outcome(name, "kept", "mapped before") for name in kept}
    left = [job for job in marked if job.entry.name not in kept]
    if kept:
        say(f"{len(kept)} of {len(jobs)} scenes are mapped already and kept")
    with ProgressLine(quiet=quiet) as line:
        shown = line.counter("scenes")
        for outcome, final in _outcomes(left, crew):
            line.close()
            (complain if outcome.status == "failed" else say)(_told(outcome, final=final))
            if final:
                found[outcome.name] = outcome
                shown(len(found), len(jobs))
    outcomes = [found[job.entry.name] for job in jobs]
    _finish([j for j in jobs if found[j.entry.name].status in ("mapped", "kept")], folder, say)
    _sum_up(outcomes, say)
    return outcomes


def _check_places(jobs: Sequence[Job]) -> None:
    """Make sure that no map's file would take the place of another's, or of what is read.

    Raises:
        OutputError: one would.
    """
    taken: dict[Path, str] = {}
    for job in jobs:
        for path in (job.entry.path, *(asset.path for asset in job.entry.assets), job.model):
            taken[path.resolve()] = "would overwrite what is read"
    for job in jobs:
        for path in outputs(job.out, job.options).values():
            if why := taken.get(path.resolve()):
                raise OutputError(f"{path}: {why}; choose another folder, or rename the scene")
            taken[path.resolve()] = f"stands for a file of scene {job.entry.name} too"


def _marked(job: Job) -> Job:
    """The job with its mark; without one where its scene cannot be read, as the worker will say."""
    try:
        return replace(job, options=replace(job.options, mark=mark_of(job)))
    except DataError:
        return job


def _is_kept(job: Job) -> bool:
    """Whether a job's map is finished already.

    Raises:
        OutputError: another map stands in its place.
    """
    if job.options.overwrite or not job.out.exists():
        return False
    if is_finished(job):
        return True
    raise OutputError(
        f"{job.out}: is there already, of another model, scene or options, or in part; --overwrite "
        "replaces it, or choose another folder"
    )


def _outcomes(jobs: Sequence[Job], crew: Crew) -> Iterator[tuple[Outcome, bool]]:
    """What comes of jobs as it comes, and whether that is the last word on a scene."""
    if not jobs:
        return
    tries: Counter[str] = Counter()
    waiting = list(reversed(jobs))
    with ExitStack() as stack:
        client, share, width = _client(stack, crew, len(jobs))
        from distributed import as_completed

        running: dict[Any, Job] = {}
        done = as_completed(raise_errors=False)

        def start() -> None:
            job = waiting.pop()
            tries[job.entry.name] += 1
            key = f"map-{job.entry.name}-{tries[job.entry.name]}-{time.time_ns()}"
            future = client.submit(attempt, job, share, key=key, pure=False, retries=0)
            running[future] = job
            done.add(future)

        while waiting and len(running) < width:
            start()
        for future in done:
            job = running.pop(future)
            outcome = _outcome(future, job)
            future.release()
            final = outcome.status != "failed" or tries[job.entry.name] > crew.retries
            if not final:
                waiting.insert(0, job)
            yield outcome, final
            while waiting and len(running) < width:
                start()


def _client(stack: ExitStack, crew: Crew, scenes: int) -> tuple[Any, int, int]:
    """A client, how many scenes share a machine, and how many are sent at once.

    On a local cluster a process is given one scene at a time, so that when one dies it is known
    which scene it was at.

    Raises:
        DataError: dask is not installed, or the cluster does not answer.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise DataError(
            f"several scenes need dask.distributed, which is not installed ({error}); run "
            "pip install 'geotl[many]'"
        ) from error
    if crew.scheduler:
        try:
            client = stack.enter_context(Client(crew.scheduler, timeout="20s"))
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise DataError(
                f"--scheduler {crew.scheduler}: does not answer ({reason}); allowed: an address "
                "such as tcp://10.0.0.1:8786 of a running dask scheduler"
            ) from error
        hosts: Counter[str] = Counter()
        for address, threads in client.nthreads().items():
            hosts[address.rpartition(":")[0]] += threads
        return client, max(hosts.values(), default=1), scenes
    workers = min(crew.workers or workers_for(scenes, cores()), scenes)
    cluster = stack.enter_context(
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=None,
            dashboard_address=None,
            silence_logs="CRITICAL",
            scheduler_kwargs={"allowed_failures": 0},
            env={"OMP_NUM_THREADS": str(max(1, cores() // workers))},
        )
    )
    return stack.enter_context(Client(cluster)), workers, workers


def _outcome(future: Any, job: Job) -> Outcome:
    """What a future holds; a worker that died, or an error nobody foresaw, is a failure."""
    from distributed import KilledWorker

    if future.status == "finished":
        found: Outcome = future.result()
        return found
    if future.status == "cancelled":
        return Outcome(job.entry.name, "failed", "the cluster was lost")
    error = future.exception()
    if isinstance(error, KilledWorker):
        return Outcome(
            job.entry.name, "failed", "the process that mapped it died (killed, or out of memory)"
        )
    return Outcome(job.entry.name, "failed", f"{type(error).__name__}: {error}")


def _told(outcome: Outcome, *, final: bool) -> str:
    again = "" if final else "; once more"
    if outcome.status == "mapped":
        return f"{outcome.name}: {outcome.told}"
    return f"{outcome.name}: {outcome.status}: {outcome.told}{again}"


def _finish(jobs: Sequence[Job], folder: Path, say: Log) -> None:
    """Mosaics and areas of the maps there are."""
    if not jobs:
        return
    maps = [job.out for job in jobs]
    mosaics = write_mosaics(folder, maps)
    confidences = [outputs(job.out, job.options)["confidence"] for job in jobs]
    mosaics += write_mosaics(folder, confidences, "mosaic_confidence")
    tables = {job.entry.name: outputs(job.out, job.options)[AREAS] for job in jobs}
    write_text(folder / "areas.csv", areas_table(tables))
    shared = overlapping(maps)
    twice = ": scenes overlap, and ground under several is counted in each" if shared else ""
    top = ": where scenes overlap the later one lies on top" if shared else ""
    say(f"areas    {folder / 'areas.csv'}{twice}")
    say(f"mosaic   {', '.join(str(path) for path in mosaics)}{top}")


def _sum_up(outcomes: Sequence[Outcome], say: Log) -> None:
    """Say how many scenes went how.

    Raises:
        UnfinishedError: some failed.
        DataError: none was mapped, as none meets the area of interest.
    """
    counts = Counter(outcome.status for outcome in outcomes)
    listed = [f"{counts[s]} {s}" for s in ("mapped", "kept", "skipped", "failed") if counts[s]]
    say(f"scenes   {', '.join(listed)}")
    failed = [outcome.name for outcome in outcomes if outcome.status == "failed"]
    if failed:
        raise UnfinishedError(
            f"{len(failed)} of {len(outcomes)} scenes failed: {', '.join(failed)}; mend them or "
            "leave them out, and run the same command again: what is finished is kept"
        )
    if counts["skipped"] == len(outcomes):
        raise DataError("no scene meets the area of interest; check --aoi or --bbox and its system")
