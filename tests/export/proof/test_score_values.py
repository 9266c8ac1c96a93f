"""Values that cannot be logits are told from those that can, and probabilities are those of the source."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from cfcam.export import export_onnx
from cfcam.export.errors import ExportError
from cfcam.export.proof.exported_file import PlainOutputs, open_exported_file, plain_outputs
from cfcam.export.proof.score_values import doubts_about_scores, probabilities_as_given
from cfcam.export.reverse.score import Score
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto
from score_heads import head, logits, node, run

LOGITS = np.random.default_rng(0).standard_normal((6, 5)) * 3
SOFTMAX = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
UNIT = LOGITS / np.linalg.norm(LOGITS, axis=1, keepdims=True)
SIGMOID = 1 / (1 + np.exp(-LOGITS))

Kind = Literal["logits", "softmax", "sigmoid", "binary", "regression"]


def file_with(values: NDArray[Any], kind: Kind = "logits") -> Any:
    """A file whose output "shown" holds these values."""
    return SimpleNamespace(
        spec=SimpleNamespace(output=SimpleNamespace(name="shown", kind=kind), input=SimpleNamespace(dtype="float32")),
        top=SimpleNamespace(outputs={"shown": values}),
        images=np.zeros((len(values), 1)),
        coarse=False,
        coarse_before=False,
    )


def score(kind: Kind = "logits", **more: Any) -> Score:
    return Score("shown", kind, "value", (None, 5), 5, source="source", **more)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (SOFTMAX, "holds numbers from 0 to 1 that add up to 1 on all 6 images of the proof, .* --score-kind softmax"),
        (np.round(SOFTMAX, 2), "holds numbers from 0 to 1 that add up to 1 on all 6 images"),
        (
            LOGITS / np.linalg.norm(LOGITS, axis=1, keepdims=True),
            "is a vector of length 1 on all 6 .* --reference FILE.npy",
        ),
    ],
)
def test_values_that_are_certainly_no_logits(values: NDArray[Any], words: str) -> None:
    with pytest.raises(ExportError, match=f"output 'source' {words}"):
        doubts_about_scores(file_with(values), score())
    assert doubts_about_scores(file_with(values), score(recognised=True)) == []


def test_values_that_may_be_none() -> None:
    (doubt,) = doubts_about_scores(file_with(SIGMOID), score())
    assert doubt.startswith(
        "output 'source' lies between 0 and 1 on all 6 images of the proof, and no sigmoid was found"
    )
    (doubt,) = doubts_about_scores(file_with(np.log(SOFTMAX)), score())
    assert "holds logarithms of probabilities" in doubt
    assert doubts_about_scores(file_with(LOGITS), score()) == []
    assert doubts_about_scores(file_with(-SIGMOID), score()) == []
    joined = np.concatenate([LOGITS[:, :1], SIGMOID], 1)  # a first column that was added, which says nothing
    assert doubts_about_scores(file_with(joined), score()) == []
    assert len(doubts_about_scores(file_with(joined), score(columns=(0, 1)))) == 1


def test_years_and_pixels_make_one_class_certain() -> None:
    years = 40 + LOGITS[:, :1]
    (doubt,) = doubts_about_scores(file_with(np.concatenate([-years, years], 1), "binary"), score(columns=(0, 1)))
    assert doubt.startswith(
        f"output 'source' ({years.min():.4g} to {years.max():.4g}) makes one class certain on all 6"
    )
    assert "--score-kind regression" in doubt
    corners = np.array([20.0, 60, 30, 90, 5]) + LOGITS
    assert len(doubts_about_scores(file_with(corners), score())) == 1
    assert doubts_about_scores(file_with(corners), score(recognised=True)) == []
    corners[0, 0] = 200  # another class is certain
    assert doubts_about_scores(file_with(corners), score()) == []


def error(kind: Kind, given: NDArray[Any], shown: NDArray[Any] = LOGITS, **more: Any) -> list[float]:
    checks = probabilities_as_given(
        file_with(shown, kind), score(kind, recognised=True, **more), PlainOutputs(source=given)
    )
    return [check.value for check in checks]


def test_what_people_are_shown_is_what_the_source_gives() -> None:
    assert error("softmax", SOFTMAX, SOFTMAX) == pytest.approx([0], abs=1e-7)
    assert error("logits", SOFTMAX) == pytest.approx([0], abs=1e-7)
    assert error("softmax", 100 * SOFTMAX + 3, SOFTMAX, factor=100.0, offset=3.0) == pytest.approx([0], abs=1e-7)
    assert error("softmax", SOFTMAX / 2, SOFTMAX) == pytest.approx([SOFTMAX.max() / 2])
    best = -np.sort(-SOFTMAX, axis=1)[:, :2]
    assert error("softmax", best, SOFTMAX) == pytest.approx([0], abs=1e-7)


def test_limits_go_by_what_is_between_them() -> None:
    limits = []
    for exact in (True, False):
        stated = score("softmax", recognised=True, exact=exact)
        (check,) = probabilities_as_given(file_with(SOFTMAX, "softmax"), stated, PlainOutputs(source=SOFTMAX))
        limits.append(check.limit)
    assert limits == [1e-5, 2e-2]


def test_where_there_is_nothing_to_compare() -> None:
    assert error("softmax", LOGITS, SOFTMAX) == []  # the source gives logits out
    assert error("softmax", np.ones((6, 7)) / 7, SOFTMAX) == []  # more columns than classes
    assert error("softmax", SOFTMAX.argmax(1), SOFTMAX) == []
    assert probabilities_as_given(file_with(SOFTMAX, "softmax"), score("softmax"), PlainOutputs(source=SOFTMAX)) == []
    assert (
        probabilities_as_given(file_with(SOFTMAX, "softmax"), score("softmax", recognised=True), PlainOutputs()) == []
    )


CHECK = "probability as the source gives it"
STEP = {"step": np.float32(1 / 255), "zero": np.uint8(0)}
PAIR = [node("QuantizeLinear", ["p", "step", "zero"], ["q"]), node("DequantizeLinear", ["q", "step", "zero"], ["out"])]
HALF = [node("Cast", ["p"], ["h"], to=TensorProto.FLOAT16), node("Cast", ["h"], ["out"], to=TensorProto.FLOAT)]


@pytest.mark.parametrize("behind", [PAIR, HALF], ids=["quantiser", "float16"])
def test_a_rounded_probability_of_one_logit_is_that_of_the_logit(behind, tmp_path: Path) -> None:
    constants = {name: np.asarray(value) for name, value in STEP.items()} if behind is PAIR else {}
    onnx.save(head([node("Sigmoid", ["logits"], ["p"]), *behind], constants, classes=1), tmp_path / "x.onnx")
    report = export_onnx(tmp_path / "x.onnx", tmp_path / "x.cam.onnx")
    assert CHECK in {check.name for check in report.proof.checks}
    given = run(onnx.load(report.path), cam_target=np.full(6, -1))[report.spec.output.name]
    np.testing.assert_allclose(given, np.concatenate([-logits(1), logits(1)], axis=1), rtol=1e-4, atol=1e-5)


def quantised() -> ModelProto:
    """A softmax behind a network whose image is quantised."""
    model = head(
        [node("Softmax", ["logits"], ["out"])], {"step": np.array(0.02, np.float32), "zero": np.array(128, np.uint8)}
    )
    pair = [("QuantizeLinear", "image", "q"), ("DequantizeLinear", "q", "rounded")]
    nodes = [node(kind, [x, "step", "zero"], [y]) for kind, x, y in pair]
    model.graph.node[0].input[0] = "rounded"
    body = [*nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(body)
    return model


def test_kernels_for_quantised_values_are_no_other_probability(tmp_path: Path) -> None:
    onnx.save(quantised(), tmp_path / "x.onnx")
    report = export_onnx(tmp_path / "x.onnx", tmp_path / "x.cam.onnx")
    file = open_exported_file(report.path)
    expected = plain_outputs(tmp_path / "x.onnx", file)
    one_by_one = expected.node_by_node
    assert one_by_one is not None
    softmax = Score("out", "softmax", "logits", (None, 5), 5, "out", recognised=True)

    def check(whole: int, alone: int) -> bool:
        """The source's classes in another order, in its answer as a whole and node by node."""
        plain = PlainOutputs(out=np.roll(expected["out"], whole, axis=1))
        plain.node_by_node = {"out": np.roll(one_by_one["out"], alone, axis=1)}
        (found,) = probabilities_as_given(file, softmax, plain)
        assert found.name == CHECK
        return found.ok

    assert check(0, 0)
    assert check(1, 0)  # what kernels do to the source
    assert not check(0, 1)
