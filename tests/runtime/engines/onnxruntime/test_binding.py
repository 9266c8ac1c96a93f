"""I/O binding and CUDA graphs, on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from cfcam.runtime import open_engine
from cfcam.runtime.engines.onnxruntime.binding import BoundSession
from cfcam.runtime.engines.options import PROVIDERS, EngineOptions
from cfcam.runtime.errors import EngineError

_CUDA, _TENSORRT, _RTX, _CPU = (PROVIDERS[name] for name in ("cuda", "tensorrt", "rtx", "cpu"))


def feed(n: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    image = np.random.default_rng([n, seed]).standard_normal((n, 3, 32, 48)).astype(np.float32)
    return {"image": image, "cam_target": np.full(n, -1, np.int32)}


def test_bound_results_are_the_callers(tiny_path: Callable[[str], Path]) -> None:
    """More kinds of call than there are buffers for, from several threads, each result held to the end."""
    path = tiny_path("logits")
    feeds = [feed(n, seed) for seed in range(2) for n in range(1, 11)]
    with open_engine(path, threads=1) as reference, open_engine(path, options=EngineOptions(io_binding=True)) as engine:
        wanted = [reference.infer(one) for one in feeds]
        held: list[list[Any]] = [[None] * 3 for _ in feeds]

        def work(start: int) -> None:
            for turn in range(3):
                for i in range(start, len(feeds), 4):
                    held[i][turn] = engine.infer(feeds[i])

        workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        for want, got in zip(wanted, held, strict=True):
            assert all(np.array_equal(one[name], want[name]) for one in got for name in want)
        some = engine.infer(feeds[0], ["cam_class", "scores"])
        assert list(some) == ["cam_class", "scores"]
        with pytest.raises(EngineError, match=r"onnxruntime .* failed: .*(Got: 5|invalid dimensions)"):
            engine.infer({**feeds[0], "image": np.zeros((1, 3, 5, 5), np.float32)})
    with pytest.raises(EngineError, match="closed"):
        engine.infer(feeds[0])


@pytest.mark.parametrize("graphs", ["one", "many"])
def test_cuda_graphs_are_run_by_one_thread(tiny_path: Callable[[str], Path], graphs: Any) -> None:
    """On the CPU, where the option that numbers graphs is ignored: one thread, and one graph for one kind of call."""
    session = onnxruntime.InferenceSession(str(tiny_path("logits")), providers=[_CPU])
    runs: list[tuple[int, str]] = []

    class Watched:
        def run(self, names: Any, values: Any, options: Any) -> Any:
            runs.append(
                (threading.get_ident(), options.get_run_config_entry("gpu_graph_id") if graphs == "many" else "")
            )
            return session.run(names, values, options)

        def run_with_iobinding(self, binding: Any, options: Any) -> None:
            runs.append(
                (threading.get_ident(), options.get_run_config_entry("gpu_graph_id") if graphs == "many" else "")
            )
            session.run_with_iobinding(binding, options)

        def io_binding(self) -> Any:
            return session.io_binding()

    bound = BoundSession(onnxruntime, Watched(), "cpu", 0, graphs)
    feeds = [{**feed(n, seed), "cam_target": np.full(n, -1)} for n, seed in ((2, 0), (2, 1), (3, 0), (2, 0))]
    for one in feeds:
        if graphs == "one" and len(one["image"]) == 3:
            with pytest.raises(
                EngineError, match=r"records one graph, of .*\(2, 3, 32, 48\).* cannot run .*\(3, 3, 32"
            ):
                bound.run(["scores"], one)
            continue
        assert np.array_equal(bound.run(["scores"], one)[0], np.asarray(session.run(["scores"], one)[0]))
    assert len({thread for thread, _ in runs}) == 1
    assert runs[0][0] != threading.get_ident()
    if graphs == "many":
        assert [number for _, number in runs] == ["-1", "1", "-1", "1"]
    bound.close()
