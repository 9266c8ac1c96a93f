"""What a plain model says of an image, alone and in company."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cfcam.export.errors import ExportError
from cfcam.export.graph import Graph, open_graph
from cfcam.export.proof.company import refuse_company, why_single
from onnx import NodeProto
from score_heads import IMAGES, head, integers, node

FIRST = {"first": integers(0), "little": np.float32(0.01)}
MEAN = node("ReduceMean", ["logits", "first"], ["mean"])
#: Each image's own, for any batch.
OWN = [node("Identity", ["logits"], ["out"])]
#: A hundredth of the batch's mean is in every answer.
MIXED = [MEAN, node("Mul", ["mean", "little"], ["part"]), node("Add", ["logits", "part"], ["out"])]
#: Of one image nothing is left.
NOTHING = [MEAN, node("Sub", ["logits", "mean"], ["out"])]


def opened(nodes: list[NodeProto], constants: dict[str, Any] | None = None, batch: int | None = None) -> Graph:
    model = head(nodes, {name: np.asarray(value) for name, value in (constants or {}).items()})
    if batch is not None:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    return open_graph(model)[0]


def single(graph: Graph, coarse: bool = False) -> str | None:
    return why_single(graph, "image", IMAGES, ["out"], coarse=coarse)


def test_a_model_that_answers_for_each_image() -> None:
    assert single(opened(OWN)) is None


def test_a_model_that_mixes_images_is_right_for_single_ones() -> None:
    reason = single(opened(MIXED, FIRST))
    assert reason is not None
    assert reason.startswith("'out' of an image depends on the other images of its batch (by 0.0")
    assert single(opened(MIXED, FIRST), coarse=True) is None, "as much as float16 may do"


def test_batches_that_are_squeezed_or_refused() -> None:
    flat = opened([node("Reshape", ["logits", "flat"], ["out"])], {"flat": integers(-1)})
    assert single(flat) == "'out' has shape (5,) for one image and (10,) for 2"
    one_row = opened([node("Reshape", ["logits", "row"], ["out"])], {"row": integers(1, 5)})
    reason = single(one_row)
    assert reason is not None
    assert reason.startswith("the model does not run on 2 images at once (")


def test_no_answer_for_one_image() -> None:
    with pytest.raises(ExportError, match="'out' is the same for every image that is given alone: the model has no"):
        single(opened(NOTHING, FIRST))


def test_a_model_that_runs_on_several_images_only() -> None:
    """The second row is taken, which one image does not have."""
    second = opened([node("Gather", ["logits", "second"], ["row"]), node("Sub", ["logits", "row"], ["out"])],
                    {"second": integers(1)})  # fmt: skip
    with pytest.raises(ExportError, match="does not run on a single image, only on several at once"):
        single(second)


def test_a_fixed_batch() -> None:
    def refuse(nodes: list[NodeProto], batch: int, constants: dict[str, Any] | None = None, **how: bool) -> None:
        refuse_company(opened(nodes, constants, batch), "image", IMAGES, ["out"], **{"coarse": False, **how})

    refuse(OWN, 1)
    refuse(OWN, 3)
    refuse(MIXED, 1, FIRST)
    refuse(MIXED, 3, FIRST, coarse=True)
    with pytest.raises(ExportError, match=r"depends on the other images of its batch of 3 \(by 0\.0.* a free batch"):
        refuse(MIXED, 3, FIRST)
    with pytest.raises(ExportError, match="'out' is the same for every image that is given alone"):
        refuse(NOTHING, 1, FIRST)
