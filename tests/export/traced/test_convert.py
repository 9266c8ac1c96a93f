"""Captured programs in ONNX: the same values under the module's own names, and nothing of the machine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cfcam.export.errors import ExportError
from cfcam.export.proof.float64 import Evaluator
from cfcam.export.proof.session import Session
from cfcam.export.traced.capture import capture
from cfcam.export.traced.convert import plain_to_onnx, tail_to_onnx
from cfcam.export.traced.float64 import TailProgram, run_in_float64
from small_nets import ConvNet, TwoOutputs, seeded
from tail_gradients import captured_nodes, operator_gradients

IMAGES = torch.randn(3, 3, 40, 40, generator=torch.Generator().manual_seed(0))


def test_the_plain_model_is_the_module_under_its_own_names() -> None:
    net = seeded(TwoOutputs())
    model = plain_to_onnx(capture(net, IMAGES[:1]))
    assert [entry.name for entry in model.graph.output] == ["grid", "logits"]
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert ([(entry.domain, entry.version) for entry in model.opset_import], model.ir_version) == ([("", 18)], 9)
    session = Session(model)
    with torch.no_grad():
        expected = net(IMAGES)
    for name, value in session.run({session.inputs[0]: IMAGES.numpy()}).items():
        np.testing.assert_allclose(np.asarray(value, np.float32), expected[name].numpy(), rtol=1e-4, atol=1e-5)


def test_nothing_tells_of_the_machine() -> None:
    model = plain_to_onnx(capture(seeded(ConvNet()), IMAGES[:1]))
    for part in (*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output):
        assert not part.metadata_props
        assert not part.doc_string
    assert not model.graph.value_info
    assert b".py" not in model.SerializeToString()


def test_a_name_that_an_operator_has_is_not_taken_from_it() -> None:
    class Named(ConvNet):
        def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
            scores = super().forward(image)
            return {"image": scores, "scores": 2 * scores}

    model = plain_to_onnx(capture(seeded(Named()), IMAGES[:1]))
    first, second = (entry.name for entry in model.graph.output)
    assert first != "image"
    assert second == "scores"
    assert model.graph.input[0].name == "image"


def test_a_tail_in_float64() -> None:
    captured, score, node = captured_nodes(seeded(ConvNet()), IMAGES[:1], "act:1")
    tail = TailProgram(captured.graph, node, score, len(IMAGES))
    held, expected = run_in_float64(captured.graph, IMAGES, node, score)
    model = tail_to_onnx(tail, [held])
    assert [entry.name for entry in model.graph.input] == ["layer"]
    assert model.graph.input[0].type.tensor_type.elem_type == 11, "DOUBLE"
    (found,) = Evaluator(model).run({"layer": held.numpy()}).values()
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-11)


def test_what_the_converter_refuses_is_said() -> None:
    layer = torch.ones(2, 3, 10, 7, dtype=torch.float64)
    with pytest.raises(ExportError, match=r"PyTorch's ONNX converter refuses the graph .*adaptive_max_pool2d"):
        operator_gradients({"uneven": lambda x: F.adaptive_max_pool2d(x, (3, 4))}, layer)
