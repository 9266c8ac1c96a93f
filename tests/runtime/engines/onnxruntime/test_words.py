"""What is left of ONNX Runtime's messages."""

import logging

import pytest
from cfcam.runtime.engines.onnxruntime.words import log_severity, refusal


@pytest.mark.parametrize(
    ("said", "left"),
    [
        (
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Reshape node. Name:'flat' "
            "Status Message: /onnxruntime_src/onnxruntime/core/providers/cpu/tensor/reshape_helper.h:91 "
            "onnxruntime::ReshapeHelper::ReshapeHelper(const onnxruntime::TensorShape&, "
            "onnxruntime::TensorShapeVector&, bool) input_shape_size == requested_shape_size was "
            "false. The input tensor cannot be reshaped to the "
            "requested shape. Input shape:{2,7}, requested shape:{1,7}\n",
            "Reshape node 'flat': The input tensor cannot be reshaped to the requested shape. Input shape:{2,7}, "
            "requested shape:{1,7}",
        ),
        (
            "[ONNXRuntimeError] : 10 : INVALID_GRAPH : Load model from /tmp/a b/x.onnx failed:This is an invalid "
            "model. In Node, (f) is not a registered function/op",
            "In Node, (f) is not a registered function/op",
        ),
        ("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions", "Got invalid dimensions"),
        ("plain words", "plain words"),
        ("", "RuntimeError"),
    ],
)
def test_the_message_without_what_stands_around_it(said: str, left: str) -> None:
    assert refusal(RuntimeError(said)) == left


def test_long_messages_are_cut() -> None:
    assert len(refusal(RuntimeError("word " * 2000))) == 301


def test_errors_are_printed_for_debugging_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert log_severity() == 4
    monkeypatch.setattr(logging.getLogger("cfcam"), "level", logging.DEBUG)
    logging.getLogger("cfcam").manager._clear_cache()  # type: ignore[attr-defined]
    try:
        assert log_severity() == 3
    finally:
        monkeypatch.undo()
        logging.getLogger("cfcam").manager._clear_cache()  # type: ignore[attr-defined]
