"""A variational quantum circuit as the head: simulated rightly, and explained from PyTorch and from its ONNX file.

The simulation is checked against another one (complex numbers, one gate after the other), and
gradients against the parameter-shift rule, which real quantum hardware uses: it needs no
derivative, only the expectation at two shifted angles.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from calibrated import assert_spread, calibrate, photo_batch
from cfcam.export import export_onnx, export_torch
from cfcam.runtime import Explainer
from numpy.typing import NDArray
from quantum_net import HybridNet, QuantumHead
from shared_data import shared_path

Array = NDArray[Any]


def simulate(angles: Array, weights: Array) -> Array:
    """<Z> (Q,) of the circuit for angles (Q,) and weights (L, Q, 3), gate by gate on a complex state."""
    qubits = len(angles)
    state = np.zeros((2,) * qubits, complex)
    state[(0,) * qubits] = 1

    def apply(gate: Array, *wires: int) -> None:
        nonlocal state
        gate = gate.reshape((2,) * (2 * len(wires)))
        state = np.tensordot(gate, state, axes=(range(len(wires), 2 * len(wires)), wires))
        state = np.moveaxis(state, range(len(wires)), wires)

    def ry(angle: float) -> Array:
        return np.array([[np.cos(angle / 2), -np.sin(angle / 2)], [np.sin(angle / 2), np.cos(angle / 2)]])

    def rz(angle: float) -> Array:
        return np.diag([np.exp(-0.5j * angle), np.exp(0.5j * angle)])

    cnot = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
    for wire, angle in enumerate(angles):
        apply(ry(angle), wire)
    for layer in weights:
        for wire, (phi, theta, omega) in enumerate(layer):
            apply(rz(phi), wire)
            apply(ry(theta), wire)
            apply(rz(omega), wire)
        for wire in range(qubits):
            apply(cnot, wire, (wire + 1) % qubits)
    chance = np.abs(state) ** 2
    assert np.isclose(chance.sum(), 1)
    others = [tuple(w for w in range(qubits) if w != wire) for wire in range(qubits)]
    return np.array([np.diff(chance.sum(rest)[::-1])[0] for rest in others])


def shifted(angles: Array, weights: Array) -> Array:
    """d<Z_i>/d(angle_j) (Q, Q) by the parameter-shift rule: (f(a + pi/2) - f(a - pi/2)) / 2."""
    steps = np.eye(len(angles)) * np.pi / 2
    rows = [(simulate(angles + step, weights) - simulate(angles - step, weights)) / 2 for step in steps]
    return np.stack(rows, axis=1)


@pytest.mark.parametrize(("qubits", "layers"), [(2, 1), (3, 2), (4, 2), (5, 3)])
def test_the_circuit_is_the_one_that_complex_gates_make(qubits: int, layers: int) -> None:
    torch.manual_seed(qubits)
    head = QuantumHead(qubits, layers).double()
    angles = (torch.rand(6, qubits, dtype=torch.float64) - 0.5) * 7
    weights = head.weights.detach().numpy()
    expected = np.stack([simulate(row, weights) for row in angles.numpy()])
    np.testing.assert_allclose(head(angles).detach().numpy(), expected, atol=1e-14)
    jacobian = torch.autograd.functional.jacobian(lambda a: head(a[None])[0], angles[0])
    np.testing.assert_allclose(np.asarray(jacobian), shifted(angles[0].numpy(), weights), atol=1e-14)


def test_entanglement_carries_every_angle_to_every_qubit() -> None:
    torch.manual_seed(0)
    head = QuantumHead(4, 2)
    jacobian = shifted(np.array([0.3, -1.1, 0.8, 2.0]), head.weights.detach().double().numpy())
    assert np.abs(jacobian).min() > 1e-3


@pytest.fixture(scope="module")
def net() -> HybridNet:
    torch.manual_seed(3)
    net = calibrate(HybridNet(qubits=3), photo_batch(6, 64))
    assert isinstance(net, HybridNet)
    return net


@pytest.fixture(scope="module")
def exported(net: HybridNet, made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """From PyTorch as x.cam.onnx, and from its plain export as y.cam.onnx."""

    def make(folder: Path) -> None:
        plain, images = folder / "plain.onnx", photo_batch(6, 64)
        from_torch = export_torch(net, 64, folder / "x.cam.onnx", images=images, keep_plain=plain)
        from_onnx = export_onnx(plain, folder / "y.cam.onnx", images=images.numpy())
        for each in (from_torch, from_onnx):
            assert each.proof
            assert each.spec.layer.grid == (16, 16)

    return made_once("quantum", make) / "x.cam.onnx"


def run(path: Path, images: torch.Tensor, classes: list[int]) -> list[Array]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": images.numpy(), "cam_target": np.array(classes)})  # type: ignore[return-value]


def by_parameter_shift(net: HybridNet, image: torch.Tensor, index: int) -> Array:
    """Gradient (C, H, W) of the score of class `index`, in float64 and without any autograd."""
    state = {name: value.detach().double().numpy() for name, value in net.state_dict().items()}
    with torch.no_grad():
        features = net.features(image[None])[0].double().numpy()
    turn = np.tanh(state["encode.weight"] @ features.mean((1, 2)) + state["encode.bias"])
    slopes = state["read.weight"][index] @ shifted(np.pi * turn, state["circuit.weights"])
    each = (slopes * np.pi * (1 - turn**2)) @ state["encode.weight"] / features[0].size
    return np.broadcast_to(each[:, None, None], features.shape)


def test_both_files_give_the_gradient_of_the_parameter_shift_rule(net: HybridNet, exported: Path) -> None:
    images, classes = photo_batch(8, 64)[4:], [0, 3, 1, 4]
    from_torch = run(exported, images, classes)
    from_onnx = run(exported.with_name("y.cam.onnx"), images, classes)
    assert_spread(from_torch[0], from_torch[1], from_torch[2])
    expected = np.stack([by_parameter_shift(net, image, c) for image, c in zip(images, classes, strict=True)])
    largest = np.abs(expected).max()
    for answer in (from_torch, from_onnx):
        np.testing.assert_allclose(answer[0], net(images).detach().numpy(), atol=1e-5)
        assert np.abs(answer[2] - expected).max() < 2e-6 * largest  # float32 against float64
        np.testing.assert_array_equal(answer[-1], classes)
    assert np.abs(from_torch[2] - from_onnx[2]).max() < 1e-6 * largest


def test_the_weights_of_the_circuit_are_computed_at_export(exported: Path) -> None:
    """What depends on trained angles alone is a constant: only the embedding is left to compute."""
    forward_and_backward = 2
    for path in (exported, exported.with_name("y.cam.onnx")):
        operators = [node.op_type for node in onnx.load(path).graph.node]
        assert 0 < operators.count("Sin") <= forward_and_backward
        assert 0 < operators.count("Cos") <= forward_and_backward


def test_a_photo_is_explained(exported: Path) -> None:
    with Explainer(exported) as explainer:
        first, second = explainer.explain_batch([shared_path("data/photos/two_dogs.jpg")] * 2, [0, 1])
    assert first.logits is not None
    assert np.isclose(first.probabilities.sum(), 1)
    assert first.reason is None or second.reason is None
    assert not np.array_equal(first.map, second.map)
