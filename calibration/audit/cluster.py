"""Rows of many photos by Ray Data: on this machine, or on a cluster."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import logging
import multiprocessing
import os
import pickle
import socket
import threading
from collections.abc import Collection, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...runtime.errors import MissingDependencyError, one_line
from ...runtime.shown import shown
from .errors import AuditError
from .row import Row, arrow
from .rungs import Auditor
from .sources import Files, Photo
from .sources.opening import Joined
from .workers import Job, end_with, opened

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

__all__ = ["rows_on_cluster"]

#: Files that are handed out together, and photos that a worker takes at a time: what a dead one does again.
_CHUNK, _BATCH = 16, 8
#: Bytes of photos that go to one worker together. Ray's own 128 MiB would give a whole archive to the first.
_BLOCK = 2**20
#: Seconds within which a cluster has to answer.
_PATIENCE = 10.0
#: Bytes that a local Ray may keep of photos on their way.
_STORE = 512 * 2**20


def rows_on_cluster(job: Job, source: Joined, names: Collection[str], address: str, workers: int) -> Iterator[Row]:
    """A row for every photo, each once, in the order in which they are done.

    Ray starts workers that die anew, and gives them what they had.

    Args:
        job: What to do. Its files must be there under the same paths on all machines.
        source: Of the photos, of which the same holds.
        names: Of the photos.
        address: Of a cluster, as Ray takes it; "local" starts one on this machine, and ends it.
        workers: Processes, each with one processor.

    Yields:
        The rows.

    Raises:
        AuditError: There is no cluster, or it goes away; or paths are relative and the cluster is not local.
        MissingDependencyError: Ray is not installed.
        CfcamError: The job cannot be opened.
    """
    if not names:
        return
    if address != "local":
        odd = next((name for name in names if "://" not in name and not Path(name).is_absolute()), None)
        if odd is not None:
            raise AuditError(
                f"{shown(odd)}: is a relative path, which means nothing to the machines of a cluster: give absolute "
                "ones to --images, which all of them see"
            )
    try:
        present = importlib.util.find_spec("ray") is not None
    except ValueError:  # there is a module that was not imported
        present = False
    if not present:
        raise MissingDependencyError("a cluster needs ray: install cfcam[fleet]")
    _check_there(address)
    # In a process of its own, because Ray ends the one that it is in when it loses its cluster.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    task = (_absolute(job), list(_tasks(source, names)), address, workers, os.getpid())
    process = context.Process(target=_drive, args=(sender, *task), daemon=True)
    process.start()
    sender.close()
    try:
        while True:
            try:
                found = receiver.recv()
            except EOFError:
                raise AuditError(
                    f"{address}: the cluster went away, or never answered: run again with one that is there, or with "
                    "--ray local, and the audit goes on where it was"
                ) from None
            if found is None:
                return
            if isinstance(found, Exception):
                raise found
            yield found
    finally:
        receiver.close()
        process.join(_PATIENCE)
        if process.is_alive():
            process.kill()


def _drive(sender: Connection, job: Job, tasks: list[bytes], address: str, workers: int, parent: int) -> None:
    """In the process that is Ray's driver: send rows, and None behind the last one, or what went wrong."""
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    try:
        with _connected(address, workers) as ray:
            try:
                for row in _rows(ray, job, tasks, workers):
                    sender.send(row)
            except ray.exceptions.RayError as error:
                first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                raise AuditError(
                    f"{address}: the cluster does not go on ({shown(first, 300)}): run again, and the audit goes on "
                    "where it was"
                ) from error
        sender.send(None)
    except BrokenPipeError:  # nobody wants the rows any more
        pass
    except Exception as error:
        sender.send(error)


def _rows(ray: Any, job: Job, tasks: list[bytes], workers: int) -> Iterator[Row]:
    pa = arrow()
    table = pa.table({"task": pa.array(tasks, pa.large_binary())})
    photos = ray.data.from_arrow([table.slice(place, 1) for place in range(len(tasks))])
    # Reading is little work: it must not wait for a processor, of which the workers may have all.
    photos = photos.map_batches(_photos, batch_size=1, batch_format="pyarrow", num_cpus=0)
    found = photos.map_batches(
        # Not by arguments of its constructor: those would be lost with the machine that holds them.
        type("_AuditWorker", (_Worker,), {"job": pickle.dumps(job)}),
        compute=ray.data.ActorPoolStrategy(size=workers),
        batch_size=_BATCH,
        batch_format="pyarrow",
        num_cpus=1,
    )
    for batch in found.iter_batches(batch_size=None, batch_format="pyarrow"):
        for data in batch["row"].to_pylist():
            row = pickle.loads(data)
            if isinstance(row, Exception):
                raise row
            yield row


def _tasks(source: Joined, names: Collection[str]) -> Iterator[bytes]:
    """What one process reads: some files, or all that is wanted of another source."""
    for one, share in source.shares(names):
        if not isinstance(one, Files):
            yield pickle.dumps((one, share))
            continue
        paths = (path for path in one.paths if str(path) in share)
        while chunk := list(itertools.islice(paths, _CHUNK)):
            yield pickle.dumps([Photo(str(path), path.absolute()) for path in chunk])


def _photos(batch: Any) -> Iterator[Any]:
    """On the cluster: the photos of a task, one by one, so that no video is in memory as a whole."""
    pa = arrow()
    for data in batch["task"].to_pylist():
        task = pickle.loads(data)
        for photo in task if isinstance(task, list) else task[0].photos(task[1]):
            yield pa.table({"photo": pa.array([pickle.dumps(photo)], pa.large_binary())})


class _Worker:
    """On the cluster: a process that has the job open."""

    job = b""

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()
        self._auditor: Auditor | Exception
        try:
            self._auditor = self._open.enter_context(opened(pickle.loads(self.job)))
        except Exception as error:  # Ray would try again for ever
            self._auditor = error

    def __call__(self, batch: Any) -> Any:
        pa = arrow()
        rows = [pickle.dumps(self._row(pickle.loads(data))) for data in batch["photo"].to_pylist()]
        return pa.table({"row": pa.array(rows, pa.large_binary())})

    def _row(self, photo: Photo) -> Row | Exception:
        if isinstance(self._auditor, Exception):
            return self._auditor
        try:
            return self._auditor.row(photo) | {"worker": f"{os.uname().nodename}:{os.getpid()}"}
        except Exception as error:
            return error


@contextlib.contextmanager
def _connected(address: str, workers: int) -> Iterator[Any]:
    """Ray, connected until the end of the block."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    if address != "local":
        _show_token()
    try:
        ray = importlib.import_module("ray")
        importlib.import_module("ray.data")
    except ImportError as error:
        raise MissingDependencyError(f"a cluster needs Ray Data ({error}): install cfcam[fleet]") from error
    own: dict[str, Any] = {"num_cpus": workers + 1, "object_store_memory": _STORE, "include_dashboard": False}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **(own if address == "local" else {}))
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise AuditError(
            f"{shown(address)}: no Ray cluster answers ({one_line(error)[:300]}): give --ray local, or the "
            "address that `ray start --head` printed, of the same version of Ray and Python, and with its token "
            "(~/.ray/auth_token)"
        ) from error
    try:
        _check_processors(ray, address, workers)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars, context.target_max_block_size = False, _BLOCK
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        yield ray
    finally:
        ray.shutdown()


def _show_token() -> None:
    """Ray 2.60's `ray start` asks for the token that the machine has, and its clients show it only if they are told."""
    given = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if given or os.path.exists(os.path.expanduser("~/.ray/auth_token")):
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _check_processors(ray: Any, address: str, workers: int) -> None:
    """Ray would wait for more, and say nothing."""
    there = int(ray.cluster_resources().get("CPU", 0))
    if workers > there:
        raise AuditError(
            f"{shown(address)}: the cluster has {there} processors, and each of {workers} workers takes one: give "
            f"--workers {max(there, 1)}, or first let machines join it by `ray start --address`"
        )


def _check_there(address: str) -> None:
    """Ray itself would try for minutes, and then end the process."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise AuditError(
            f"{shown(address)}: no Ray cluster answers ({one_line(error)}): start one by `ray start --head`, which "
            "prints its address, or give --ray local"
        ) from error


def _absolute(job: Job) -> Job:
    paths = {one.name: getattr(job, one.name) for one in fields(job)}
    return replace(job, **{name: path.absolute() for name, path in paths.items() if isinstance(path, Path)})
