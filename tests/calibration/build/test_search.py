"""Which assignments are tried, in which order, and which one is taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from cfcam.calibration.build import search as searching
from cfcam.calibration.build.config_files import parse_config
from cfcam.calibration.build.job import make_job
from cfcam.calibration.build.nodes import Node, Nodes, read_nodes
from cfcam.calibration.build.photos import PhotoSets
from cfcam.calibration.build.search import candidates, harmful_first, search
from cfcam.export.errors import ProofError
from cfcam.export.precision import Plan
from cfcam.export.writing import set_spec
from cfcam.runtime.errors import EngineError
from cfcam.runtime.explainer import Explainer
from onnx import numpy_helper
from onnx_classifiers import exported, make
from small_photos import make_photos

NODES = Nodes(tuple(Node(f"n{i}", 10) for i in range(8)), ("n0", "n7"), ("n5", "n6"))


def names_of(plan: Plan, half: bool) -> list[tuple[str, frozenset[str]]]:
    found = candidates(plan, NODES, lambda kept: [(f"n{i}",) for i in (3, 1, 2, 4, 0, 5, 6, 7)], half=half)
    return [(one.precision, frozenset(one.float_nodes)) for _, one in found]


def test_what_is_float_grows_until_all_is() -> None:
    found = names_of(Plan(precision="int8", float_nodes=("n2",)), half=True)
    assert found == [
        ("int8", frozenset({"n2"})),
        ("int8", frozenset({"n2", "n0", "n7"})),
        ("int8", frozenset({"n2", "n0", "n7", "n5", "n6"})),
        ("int8", frozenset({"n2", "n0", "n7", "n5", "n6", "n3"})),
        ("int8", frozenset({"n2", "n0", "n7", "n5", "n6", "n3", "n1"})),
        ("int8", frozenset({"n2", "n0", "n7", "n5", "n6", "n3", "n1", "n4"})),
        ("float16", frozenset()),
        ("float32", frozenset()),
    ]
    assert [precision for precision, _ in names_of(Plan(precision="int8"), half=False)][-2:] == ["int8", "float32"]
    assert names_of(Plan(precision="float16"), half=True) == [("float16", frozenset()), ("float32", frozenset())]


class Network:
    """A real network and a pass that stands in for INT8: it spoils the weights of what is not kept float."""

    def __init__(self, folder: Path, spoilt: dict[int, float]) -> None:
        model, spec = exported(make("plain"), "middle")
        set_spec(model, spec)
        self.source = folder / "x.cam.onnx"
        onnx.save(model, self.source)
        config = parse_config("backend: onnxruntime\nprecision: int8\nquantisation: {float_first: false}", "f.yaml")
        self.job = make_job(self.source, "mine", config, folder / "out")
        self.sets = PhotoSets(None, tuple(make_photos(folder / "photos", 12)), True, ())
        self.nodes = read_nodes(self.source, spec)
        self.noise = {self.nodes.all[index].name: size for index, size in spoilt.items()}
        self.lowered: list[tuple[tuple[str, ...], bool]] = []

    def lower(self, plan: Plan, path: Path, *, prove: bool = True, fused: bool | None = None) -> Path:
        model = onnx.load(self.source)
        self.lowered.append((plan.float_nodes, prove))
        for node in model.graph.node:
            size = self.noise.get(node.name, 0) if plan.precision == "int8" and node.name not in plan.float_nodes else 0
            for weight in model.graph.initializer:
                if size and weight.name == node.input[1]:
                    values = numpy_helper.to_array(weight)
                    noise = np.random.default_rng(7).standard_normal(values.shape) * values.std() * size
                    weight.CopyFrom(numpy_helper.from_array((values + noise).astype(np.float32), weight.name))
        onnx.save(model, path)
        return path


def test_stretches_are_ranked_by_what_they_do_to_the_explanation(tmp_path: Path) -> None:
    network = Network(tmp_path, {0: 0.02, 1: 0.5, 2: 0.1})
    found = harmful_first(
        network.job, network.sets, network.nodes, (network.nodes.all[3].name,), network.lower, tmp_path, lambda *_: None
    )
    assert found == [(network.nodes.all[index].name,) for index in (1, 2, 0)]  # the last one is float already


def test_what_maps_are_made_of(guided_path: Path) -> None:
    """Activations times what is left of the gradients, and the detail, each of length 1."""
    tensors = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    found = searching._evidence(guided_path, tensors)
    with Explainer(guided_path) as explainer:
        layer = explainer.tensors(tensors).layers[0]
    assert layer.detail is not None
    assert layer.rivals is not None
    for i, vector in enumerate(found):
        coarse = layer.activations[i] * (layer.gradients[i] - 0.3 * layer.rivals[i])
        parts = [one.ravel() / np.linalg.norm(one) for one in (coarse, layer.detail[i])]
        np.testing.assert_allclose(vector, np.concatenate(parts), atol=1e-6)


@pytest.mark.parametrize("slow", [False, True])
def test_the_first_that_passes_is_taken_unless_float32_is_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    network = Network(tmp_path, {0: 1.0})  # only the first layer hurts
    timed: list[Path] = []

    def times(files: list[Path], tensor: np.ndarray) -> list[float]:
        timed.extend(files)
        return [2.0 if slow else 0.5, 1.0]

    monkeypatch.setattr(searching, "_times", times)
    said: list[str] = []
    plan, attempts = search(network.job, network.sets, tmp_path, network.lower, lambda *_: None, said.append)
    assert [attempt.passed for attempt in attempts] == [False, True, True]
    # Only what passes is proved.
    assert network.lowered == [
        ((), False),
        (network.nodes.ends, False),
        (network.nodes.ends, True),
        ((), False),
        ((), True),
    ]
    assert [attempt.chosen for attempt in attempts] == [False, not slow, slow]
    assert [attempt.plan.precision for attempt in attempts] == ["int8", "int8", "float32"]
    assert attempts[0].failures
    assert timed == [tmp_path / "1.onnx", tmp_path / "2.onnx"]
    assert plan == next(attempt.plan for attempt in attempts if attempt.chosen)
    assert not (tmp_path / "0.onnx").exists()  # what failed is not kept
    assert said[0].startswith("INT8 as configured (100% of the multiplications in INT8): failed: ")
    assert said[-1] == f"taken: {'float32' if slow else 'also the first and the last layer float'}"


def test_what_cannot_be_made_has_failed_and_the_search_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(tmp_path, {})

    def lower(plan: Plan, path: Path, *, prove: bool = True) -> Path:
        if plan.quantised and prove:
            raise ProofError(f"{path}: not written, the lowered graph failed its proof (x: 1, limit 0)")
        return network.lower(plan, path)

    monkeypatch.setattr(searching, "harmful_first", lambda *_: [])
    plan, attempts = search(network.job, network.sets, tmp_path, lower, lambda *_: None, lambda _: None)
    assert plan.precision == "float32"
    assert [attempt.passed for attempt in attempts] == [False, False, False, True]
    assert attempts[0].failures == ("0.onnx: not written, the lowered graph failed its proof (x: 1, limit 0)",)


def test_times_are_those_of_the_files(tmp_path: Path) -> None:
    network = Network(tmp_path, {})
    first, second = searching._times([network.source, network.source], np.zeros((1, 3, 32, 32), np.float32))
    assert first > 0
    assert 0.2 < first / second < 5  # the same file twice


def test_files_that_were_timed_are_closed_when_one_cannot_be_opened(tmp_path: Path, monkeypatch) -> None:
    closed = []

    class Timed:
        def __init__(self, path: Path, threads: int) -> None:
            if path.name == "broken":
                raise EngineError("cannot be opened")

        def __enter__(self):
            return self

        def __exit__(self, *error) -> None:
            closed.append(self)

    monkeypatch.setattr(searching, "Explainer", Timed)
    with pytest.raises(EngineError):
        searching._times([tmp_path / "fine", tmp_path / "broken"], np.zeros((1, 3, 32, 32), np.float32))
    assert len(closed) == 1
