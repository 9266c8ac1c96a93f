"""Modules as people write them: what they return, how they end, what they do inside.

Each network is exported and explained; that its gradients are right is the exporter's own
proof. What is looked at here is which value counts as the score, and what is made of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from cfcam.export import ExportError, export_torch
from cfcam.export.report import ExportReport
from cfcam.export.traced.outputs import named_tensors
from cfcam.runtime import Explainer, Explanation
from opened_modules import Opened, opened
from small_nets import seeded
from torch import Tensor, nn
from torch.nn import functional as F

_SIZE = 24
_IMAGES = torch.randn(3, 3, _SIZE, _SIZE, generator=torch.Generator().manual_seed(0))


class Base(nn.Module):
    """Two convolutions, a pooling with dropout, a linear head; `forward` is the subclass's matter."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 7, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(7, 7, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(7, classes)

    def pooled(self, x: Tensor) -> Tensor:
        return self.drop(F.relu(self.conv2(F.relu(self.conv1(x)))).mean((2, 3)))

    def logits(self, x: Tensor) -> Tensor:
        return self.fc(self.pooled(x))


def explained(net: nn.Module, folder: Path, **options: Any) -> tuple[ExportReport, list[Explanation]]:
    report = export_torch(net, _SIZE, folder / "x.cam.onnx", **options)
    with Explainer(report.path) as explainer:
        return report, explainer.explain_batch(list(_IMAGES.numpy()))


def probabilities(found: list[Explanation]) -> np.ndarray:
    return np.stack([explanation.probabilities for explanation in found])


def scored(net: nn.Module, score: int | None = None) -> Opened:
    """Which output and value are taken as the score, without the rest of an export."""
    return opened(seeded(net), torch.zeros(1, 3, _SIZE, _SIZE), score)


class Eventful(Base):
    """Everything inside that a trace can stumble over, and a return value of every shape."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("level", torch.tensor([0.1, -0.2, 0.3])[:, None, None])
        self.act = nn.LeakyReLU(0.1, inplace=True)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> dict[str, Any]:
        x = (x - self.level).contiguous(memory_format=torch.channels_last)  # type: ignore[operator]
        x = self.act(self.conv1(x))
        x += 0.1
        x = F.relu_(self.conv2(x))
        x = self.act(self.conv2(x).mul_(1.5))  # the same layer once more
        x = x.float()  # "upcasts" must not spoil the proof in float64
        pooled, top = self.drop(x.mean((2, 3))), x.amax((2, 3))
        logits = self.fc(pooled) + F.linear(top, self.fc.weight)  # one weight for two heads
        aux = self.fc(pooled * 2)
        return {"embedding": pooled, "more": [aux, None, 3, "text"], "out": {"logits": logits, "again": logits}}


def test_a_module_with_all_of_it_in_train_mode_and_channels_last(tmp_path: Path) -> None:
    net = seeded(Eventful()).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    report, found = explained(net, tmp_path)
    assert net.training
    assert "forward" not in net.__dict__
    spec = report.spec
    assert (spec.output.kind, spec.output.classes, spec.layer.channels) == ("logits", 5, 7)
    with torch.no_grad():
        expected = net.eval()(_IMAGES)["out"]["logits"].softmax(1)
    np.testing.assert_allclose(probabilities(found), expected.numpy(), atol=1e-6)
    assert all(explanation.target == int(row.argmax()) for explanation, row in zip(found, expected, strict=True))


def test_two_calls_of_a_layer_are_two_values() -> None:
    names = scored(Eventful()).names
    first, second = (names.value(f"conv2:{call}") for call in (0, 1))
    assert first != second


@dataclass
class Answer:
    loss: Tensor | None
    aux: Tensor
    logits: Tensor


class Pair(NamedTuple):
    main: Tensor
    aux: Tensor


class Plain:
    """An object with attributes and no further rules."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


class ConvHead(Base):
    """Class scores (N, K, 1, 1), in a data class behind an auxiliary head."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(7, 5, 1)

    def forward(self, x: Tensor) -> Answer:
        pooled = self.pooled(x)
        return Answer(None, self.fc(pooled), self.head(pooled[:, :, None, None]))


def test_a_data_class_and_scores_with_axes_of_one(tmp_path: Path) -> None:
    net = seeded(ConvHead())
    report, found = explained(net, tmp_path)
    assert (report.spec.output.kind, report.spec.output.classes) == ("logits", 5)
    expected = net(_IMAGES).logits.flatten(1).softmax(1).detach()
    np.testing.assert_allclose(probabilities(found), expected, atol=1e-6)


RETURNED: dict[str, tuple[Callable[[Tensor, Tensor], Any], int]] = {
    "a tuple": (lambda logits, aux: (logits, None, aux), 0),
    "a named tuple": (lambda logits, aux: Pair(logits, aux), 0),
    "a list of a tuple": (lambda logits, aux: [(logits,), aux], 0),
    "a dict, named": (lambda logits, aux: {"aux": aux, "logits": logits}, 1),
    "a dict, unnamed": (lambda logits, aux: {"scores": logits, "aux": aux}, 0),
    "an object": (lambda logits, aux: Plain(loss=None, aux=aux, logits=logits), 1),
    "one per image beside it": (lambda logits, aux: (aux[:, 0], logits), 1),
    "a feature map in front": (lambda logits, aux: (aux[:, :, None, None].expand(-1, -1, 4, 4), logits), 1),
}


@pytest.mark.parametrize("case", RETURNED)
def test_the_score_is_found_in(case: str) -> None:
    returned, position = RETURNED[case]

    class Returns(Base):
        def forward(self, x: Tensor) -> Any:
            pooled = self.pooled(x)
            return returned(self.fc(pooled), F.linear(pooled * 2, self.fc.weight))

    found = scored(Returns())
    assert (found.position, found.score.kind, found.score.classes) == (position, "logits", 5)


def test_heads_that_only_train() -> None:
    class Auxiliary(Base):
        def forward(self, x: Tensor) -> Any:
            logits = self.logits(x)
            return Pair(logits, logits * 2) if self.training else logits

    assert scored(Auxiliary().train()).position == 0


ENDS: dict[str, tuple[int, Callable[[Tensor], Tensor], str, int]] = {
    "softmax": (5, lambda z: z.softmax(1), "softmax", 5),
    "log-softmax": (5, lambda z: F.log_softmax(z, -1), "logits", 5),
    "softmax of a conv head": (5, lambda z: z[:, :, None, None].softmax(1).flatten(1), "softmax", 5),
    "sigmoid": (5, torch.sigmoid, "sigmoid", 5),
    "one sigmoid": (1, torch.sigmoid, "sigmoid", 1),
    "one sigmoid, squeezed": (1, lambda z: torch.sigmoid(z).squeeze(1), "sigmoid", 1),
    "sigmoid of one, squeezed": (1, lambda z: torch.sigmoid(z.squeeze(-1)), "sigmoid", 1),
    "one logit": (1, lambda z: z, "binary", 1),
    "one logit, picked": (1, lambda z: z[:, 0], "binary", 1),
}


@pytest.mark.parametrize("case", ENDS)
def test_the_score_is_the_logit_before(case: str) -> None:
    classes, end, kind, count = ENDS[case]

    class Ends(Base):
        def forward(self, x: Tensor) -> Tensor:
            return end(self.logits(x))

    score = scored(Ends(classes)).score
    assert (score.kind, score.classes) == (kind, count)
    assert (score.value == score.output) == (kind == "binary")


class Detector(Base):
    """One logit (N,): bright red speaks for the class, dark red against it."""

    def __init__(self) -> None:
        super().__init__(1)

    def forward(self, x: Tensor) -> Tensor:
        return (self.pooled(x) * self.fc.weight[0]).sum(1) + self.fc.bias[0]


def test_one_logit_explains_the_class_that_a_high_logit_means(tmp_path: Path) -> None:
    net = seeded(Detector())
    report, found = explained(net, tmp_path, labels=["defect"])
    assert (report.spec.output.kind, report.spec.output.labels) == ("binary", ("not defect", "defect"))
    expected = net(_IMAGES).sigmoid().detach().numpy()
    np.testing.assert_allclose(probabilities(found)[:, 1], expected, atol=1e-6)
    np.testing.assert_allclose(probabilities(found).sum(1), 1, atol=1e-6)
    assert [explanation.target for explanation in found] == (expected > 0.5).astype(int).tolist()
    slopes = net.fc.weight.detach()[0].numpy()
    with Explainer(report.path) as explainer:
        for target, sign in ((1, 1), (0, -1), ("defect", 1), ("not defect", -1)):
            raw = explainer.tensors(list(_IMAGES.numpy()), target)
            wanted = sign * slopes / raw.gradients[0, 0].size
            np.testing.assert_allclose(raw.gradients.mean((2, 3)), np.broadcast_to(wanted, (3, 7)), rtol=1e-5)
    both = export_torch(net, _SIZE, tmp_path / "y.cam.onnx", labels=["fine", "defect"])
    assert both.spec.output.labels == ("fine", "defect")
    with pytest.raises(ExportError, match="3 labels for a model of 2 classes"):
        export_torch(net, _SIZE, tmp_path / "z.cam.onnx", labels=["a", "b", "c"])


def test_several_labels_at_once(tmp_path: Path) -> None:
    class Heads(Base):
        """Independent classes as logits, and the model's own idea of them."""

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            logits = self.logits(x)
            return {"sigmoid": torch.sigmoid(logits), "logits": logits}

    net = seeded(Heads())
    expected = net(_IMAGES)["sigmoid"].detach()
    report, found = explained(net, tmp_path, multi_label=True)
    assert report.spec.output.kind == "binary"
    np.testing.assert_allclose(probabilities(found), expected, atol=1e-6)
    assert scored(net, 0).score.kind == "sigmoid"

    class Exclusive(Base):
        def forward(self, x: Tensor) -> Tensor:
            return self.logits(x).softmax(1)

    with pytest.raises(ExportError, match="multi-label: output 'softmax' is a softmax, its classes exclude"):
        export_torch(seeded(Exclusive()), _SIZE, tmp_path / "y.cam.onnx", multi_label=True)


def test_names_of_what_a_module_returns() -> None:
    one, two, three = torch.zeros(1), torch.ones(1), torch.ones(2)
    result = {"a": one, "b": [two, None, 3, "x"], "c": Answer(None, three, one), "d": Plain(e=Pair(two, one))}
    found = named_tensors(result)
    assert [name for name, _ in found] == ["a", "b", "aux", "logits", "main", "aux"]
    assert all(a is b for (_, a), b in zip(found, [one, two, three, one, two, one], strict=True))
    assert named_tensors(one) == [("", one)]


def test_a_module_that_returns_no_scores_says_what_it_returns() -> None:
    class Segments(Base):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"masks": self.conv2(self.conv1(x))}

    with pytest.raises(ExportError, match=r"no output looks like class scores .* returns 0: \(N, 7, 12, 12\)"):
        scored(Segments())
