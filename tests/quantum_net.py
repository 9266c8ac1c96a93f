"""A hybrid classifier: convolutions, then a variational quantum circuit as the head.

The circuit has angle embedding (RY), layers of a general rotation on every qubit and a ring of
CNOTs, and Pauli-Z expectations. Its state vector is simulated in real arithmetic, real and
imaginary parts apart, with matrix products only, so that it is exported like any other head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["HybridNet", "QuantumHead"]


class QuantumHead(nn.Module):
    """Angles (N, Q) in radians -> Pauli-Z expectations (N, Q), each from -1 to 1.

    1. Embedding: qubit q becomes RY(angle_q)|0> = cos(angle_q / 2)|0> + sin(angle_q / 2)|1>.
    2. Every layer applies Rot(phi, theta, omega) = RZ(omega) RY(theta) RZ(phi) to each qubit,
       then CNOT from each qubit to the next, and from the last to the first.
    3. <Z_q> is the probability of reading 0 on qubit q minus that of reading 1.

    Qubit 0 is the most significant bit of a basis state's number.
    """

    signs: Tensor
    ring: Tensor

    def __init__(self, qubits: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.qubits = qubits
        self.weights = nn.Parameter(torch.rand(layers, qubits, 3) * 2 * math.pi)
        states = torch.arange(2**qubits)
        bits = (states[:, None] >> torch.arange(qubits - 1, -1, -1)) & 1
        self.register_buffer("signs", 1.0 - 2.0 * bits)
        self.register_buffer("ring", _ring(qubits))

    def forward(self, angles: Tensor) -> Tensor:
        half = angles / 2
        columns = torch.stack([half.cos(), half.sin()], dim=2)
        real = columns[:, 0]
        for qubit in range(1, self.qubits):
            real = (real.unsqueeze(2) * columns[:, qubit].unsqueeze(1)).flatten(1)
        imaginary = torch.zeros_like(real)
        for layer in self.weights:
            a, b = self._unitary(layer)  # acts on row vectors
            real, imaginary = real @ a - imaginary @ b, real @ b + imaginary @ a
        return (real * real + imaginary * imaginary) @ self.signs

    def _unitary(self, layer: Tensor) -> tuple[Tensor, Tensor]:
        """Real and imaginary part (2^Q, 2^Q) of one layer's transposed unitary. layer: (Q, 3)."""
        real, imaginary = _rotation(layer[0])
        for angles in layer[1:]:
            a, b = _rotation(angles)
            real, imaginary = (
                torch.kron(real, a) - torch.kron(imaginary, b),
                torch.kron(real, b) + torch.kron(imaginary, a),
            )
        return real @ self.ring, imaginary @ self.ring


def _rotation(angles: Tensor) -> tuple[Tensor, Tensor]:
    """Transposed Rot(phi, theta, omega) as real and imaginary part, (2, 2) each."""
    phi, theta, omega = angles.unbind()
    cosine, sine = (theta / 2).cos(), (theta / 2).sin()
    plus, minus = (phi + omega) / 2, (phi - omega) / 2
    real = torch.stack([cosine * plus.cos(), sine * minus.cos(), -sine * minus.cos(), cosine * plus.cos()])
    imaginary = torch.stack([-cosine * plus.sin(), -sine * minus.sin(), -sine * minus.sin(), cosine * plus.sin()])
    return real.reshape(2, 2), imaginary.reshape(2, 2)


def _ring(qubits: int) -> Tensor:
    """The CNOTs 0 -> 1, 1 -> 2, ..., Q-1 -> 0 as one permutation (2^Q, 2^Q) of row vectors."""
    size = 2**qubits
    matrix = torch.zeros(size, size)
    for start in range(size):
        bits = [start >> (qubits - 1 - q) & 1 for q in range(qubits)]
        for control in range(qubits):
            bits[(control + 1) % qubits] ^= bits[control]
        matrix[start, sum(bit << (qubits - 1 - q) for q, bit in enumerate(bits))] = 1
    return matrix


class HybridNet(nn.Module):
    """Two convolutions, pooling, one angle per qubit, the circuit, and a linear layer on its expectations."""

    def __init__(self, classes: int = 5, qubits: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.ReLU()
        )
        self.encode = nn.Linear(12, qubits)
        self.circuit = QuantumHead(qubits, layers)
        self.read = nn.Linear(qubits, classes)

    def forward(self, image: Tensor) -> Tensor:
        angles = math.pi * torch.tanh(self.encode(self.features(image).mean((2, 3))))
        return self.read(self.circuit(angles))
