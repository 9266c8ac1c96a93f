"""Processes that are started, replaced and stopped together; what they do is a stand-in."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import threading
import time

import pytest
from cfcam.runtime.errors import CfcamError
from cfcam.runtime.serving import supervisor
from cfcam.runtime.serving.server import bound_socket
from cfcam.runtime.serving.supervisor import WorkerError, _metrics_folder, _Supervisor


def _until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class _Watched:
    """A supervisor in this process, whose workers leave a file each, and do something when they are all there."""

    def __init__(self, folder, then, *, fails_from=99, count=2):
        self.folder, self.then, self.fails_from = folder, then, fails_from
        self.ends_alone = False
        self.said: list[str] = []
        self.failure: BaseException | None = None
        self.supervisor = _Supervisor(self.work, bound_socket("127.0.0.1", 0), count, self.said.append, self.started)

    def work(self, ready, said, turn):
        turn.here()
        if len(self.pids()) >= self.fails_from:
            raise CfcamError("the file is broken")
        (self.folder / f"{turn._number}.{os.getpid()}.turn").touch()
        signal.signal(signal.SIGHUP, lambda *_: (self.folder / f"{os.getpid()}.reloaded").touch())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        (self.folder / f"{os.getpid()}.pid").touch()
        said("here")
        ready()
        while True:
            signal.pause()

    def pids(self, suffix="pid"):
        return {int(path.stem) for path in self.folder.glob(f"*.{suffix}")}

    def started(self):
        def act():
            try:
                self.then(self)
            except BaseException as error:
                self.failure = error
                raise
            finally:
                if not self.ends_alone:
                    os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=act).start()

    def run(self):
        self.supervisor.run()
        if self.failure is not None:
            raise self.failure


def test_who_dies_is_replaced_and_all_reload_and_stop(tmp_path):
    def then(watched):
        first, second = watched.pids()
        os.kill(first, signal.SIGKILL)
        _until(lambda: len(watched.pids()) == 3)
        (third,) = watched.pids() - {first, second}
        os.kill(os.getpid(), signal.SIGHUP)
        _until(lambda: watched.pids("reloaded") == {second, third})

    watched = _Watched(tmp_path, then)
    handlers = [signal.getsignal(number) for number in supervisor._SIGNALS]
    watched.run()
    assert "a worker ended by signal 9; another one takes its place" in watched.said
    assert watched.said.count("here") == 3
    turns = sorted(path.name.partition(".")[0] for path in tmp_path.glob("*.turn"))
    assert turns in (["0", "0", "1"], ["0", "1", "1"])  # who replaces another has its place
    assert multiprocessing.active_children() == []
    assert [signal.getsignal(number) for number in supervisor._SIGNALS] == handlers


def test_who_dies_again_and_again_is_given_time(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "_MOST_DELAY", 0.3)

    def then(watched):
        dead = set()
        for _ in range(4):
            _until(lambda: any(one.ready and one.process.pid not in dead for one in watched.supervisor._workers))
            dead.add(watched.supervisor._workers[0].process.pid)
            os.kill(watched.supervisor._workers[0].process.pid, signal.SIGKILL)
        _until(lambda: sum("place" in text for text in watched.said) == 4)

    watched = _Watched(tmp_path, then, count=1)
    watched.run()
    assert [text.partition("place")[2] for text in watched.said if "place" in text] == ["", "", " in 0 s", " in 0 s"]


def test_what_cannot_be_started_is_refused_with_its_own_sentence(tmp_path):
    with pytest.raises(WorkerError, match="the file is broken"):
        _Watched(tmp_path, None, fails_from=0).run()
    assert multiprocessing.active_children() == []


def test_what_cannot_be_replaced_is_tried_again_while_another_answers(tmp_path):
    def then(watched):
        os.kill(min(watched.pids()), signal.SIGKILL)
        _until(lambda: sum("the next try is in" in text for text in watched.said) == 1)
        watched.fails_from = 99  # the file is mended: no need to wait
        os.kill(os.getpid(), signal.SIGHUP)
        _until(lambda: len(watched.pids()) == 3)

    watched = _Watched(tmp_path, then, fails_from=2)
    watched.run()
    assert any("in 1 s: the file is broken" in text for text in watched.said)

    (tmp_path / "alone").mkdir()
    alone = _Watched(tmp_path / "alone", lambda w: os.kill(min(w.pids()), signal.SIGKILL), fails_from=1, count=1)
    alone.ends_alone = True
    with pytest.raises(WorkerError, match="no worker is left"):
        alone.run()


def test_workers_end_when_the_supervisor_is_killed(tmp_path):
    read, write = os.pipe()  # its writing end is held by the workers

    def run():
        _Watched(tmp_path, lambda watched: time.sleep(60)).run()

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    os.close(write)
    _until(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
    process.kill()
    process.join()
    ended = bool(select.select([read], [], [], 10)[0])
    if not ended:
        for path in tmp_path.glob("*.pid"):
            os.kill(int(path.stem), signal.SIGKILL)
    assert ended
    assert os.read(read, 1) == b""
    os.close(read)


def test_the_folder_of_metrics_is_removed_unless_it_is_given(monkeypatch, tmp_path):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    with _metrics_folder():
        folder = os.environ["PROMETHEUS_MULTIPROC_DIR"]
        assert os.path.isdir(folder)
    assert not os.path.exists(folder)
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    with _metrics_folder():
        assert os.environ["PROMETHEUS_MULTIPROC_DIR"] == str(tmp_path)
    assert tmp_path.exists()
