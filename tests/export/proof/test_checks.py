"""The proof without PyTorch: it holds for right files of every form, and fails on every wrong one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx_classifiers
import pytest
from cfcam.export.proof.checks import gradient_in_float32, prove_file
from cfcam.export.proof.exported_file import open_exported_file, plain_outputs
from cfcam.export.proof.results import Proof
from cfcam.export.writing import set_spec
from mutations import MUTATIONS, Mutation, constant, rewired
from onnx_classifiers import exported, written


def failures(proof: Proof) -> set[str]:
    return {check.name for check in proof.failures}


@pytest.mark.parametrize("which", ["default", "middle"])
@pytest.mark.parametrize("name", onnx_classifiers.NETS)
def test_right_files_pass(name: str, which: str, tmp_path: Path) -> None:
    path, plain = written(tmp_path, name, None if which == "default" else onnx_classifiers.NETS[name][1])
    file = open_exported_file(path)
    proof = prove_file(file, plain_outputs(plain, file))
    assert proof, proof.rows()
    values = {check.name: check.value for check in proof.checks}
    assert values["gradient in float64 against differences"] < 1e-6
    assert values["directions that could be compared, share"] == 1
    pooled = which == "default" and name != "tokens"
    assert ("gradient is the same for every image, as it should" in values) == pooled
    assert ("gradient moves with the image, against exact" in values) != pooled
    sizes = {16, 8, 12, 3, 32, onnx_classifiers.CLASSES}
    assert len(file.images) not in sizes


@pytest.mark.parametrize(("batch", "compared"), [(1, None), (2, "a batch against itself in another order")])
def test_a_fixed_batch(batch: int, compared: str | None, tmp_path: Path) -> None:
    path, plain = written(tmp_path, batch=batch, layer="middle")
    file = open_exported_file(path)
    proof = prove_file(file, plain_outputs(plain, file))
    assert proof, proof.rows()
    assert len(file.images) == {1: 5, 2: 6}[batch]
    names = [c.name.split(",")[0] for c in proof.checks if c.name.startswith("a batch")]
    assert names == ([] if compared is None else [compared] * 3 + ["a batch with other images in it"] * 3)


def test_a_max_pool_behind_the_layer_is_no_excuse(tmp_path: Path) -> None:
    """Exact zeros of the ReLU tie in the windows: these directions are tried without the zeros, and count."""
    b = onnx_classifiers.Builder()
    x = b("Relu", b.conv("image", 3, 8), out="before")
    x = b.conv(b("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2]), 8, 16)
    onnx_classifiers._head(b, b("Relu", x))
    model, spec = exported(b.model({"logits": ["N", onnx_classifiers.CLASSES]}, ["N", 3, 32, 32]), "before")
    set_spec(model, dataclasses.replace(spec, input=dataclasses.replace(spec.input, scale=1 / 127.5, mean=(1.0,) * 3)))
    onnx.save(model, tmp_path / "x.cam.onnx")
    proof = prove_file(open_exported_file(tmp_path / "x.cam.onnx"))
    assert proof, proof.rows()
    assert next(c.value for c in proof.checks if c.name.startswith("directions")) == 1


@pytest.mark.parametrize(
    ("mutation", "layer"),
    [
        (mutation, layer)
        for mutation in MUTATIONS
        for layer in (None, "middle")
        # Behind a global pooling every cell has the same gradient: nothing to transpose.
        if not (mutation.__name__ == "transposed_grid" and layer is None)
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_wrong_files_fail(mutation: Mutation, layer: str | None, tmp_path: Path) -> None:
    path, plain = written(tmp_path, layer=layer)
    file = open_exported_file(path)
    model = onnx.load(path)
    mutation(model, file)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    mutated = open_exported_file(path)
    proof = prove_file(mutated, plain_outputs(plain, mutated))
    assert MUTATIONS[mutation].format("logits") in failures(proof), proof.rows()


def test_a_gradient_that_is_wrong_in_onnx_runtime_only_fails(tmp_path: Path) -> None:
    """The file's own backward pass is right in float64, but what ONNX Runtime gives is not."""
    path, _ = written(tmp_path, layer="middle")
    file = open_exported_file(path)
    true = file.session.run

    def noisy(feeds: Any) -> dict[str, Any]:
        found = true(feeds)
        noise = np.random.default_rng(0).standard_normal(found["cam_gradients"].shape)
        return {**found, "cam_gradients": found["cam_gradients"] * np.float32(1 + 0.01 * noise)}

    file.session.run = noisy  # type: ignore[method-assign]
    assert "gradient in float32, share of the allowed error (median image)" in failures(prove_file(file))


@pytest.mark.parametrize(("quantised", "share", "passes"), [(True, 0.4, True), (True, 1.5, False), (False, 0.4, False)])
def test_one_image_may_be_off_where_rounding_to_steps_explains_it(quantised: bool, share: float, passes: bool) -> None:
    """MobileNetV2 in INT8, a middle layer: one of five images off by .1045, in ONNX Runtime and by numpy alike."""
    exact = np.random.default_rng(0).standard_normal((5, 4, 3, 3))
    found = exact.copy()
    found[3] *= 1.2
    shares = np.array([0, 0, 0, share, 0])
    yardstick = SimpleNamespace(exact=exact, shares=lambda _gradients: shares)
    file: Any = SimpleNamespace(quantised=quantised, yardstick=yardstick, top=SimpleNamespace(gradients=found))
    assert all(check.ok for check in gradient_in_float32(file)) == passes


def test_a_gradient_of_zeros_fails(tmp_path: Path) -> None:
    path, _ = written(tmp_path)
    model = onnx.load(path)
    constant(model, "zero", np.float32(0))
    rewired(model, "cam_gradients", ("Mul", ["it", "zero"], {}))
    onnx.save(model, path)
    found = failures(prove_file(open_exported_file(path)))
    assert {"images whose gradient is not zero", "gradient in float64 against differences"} <= found
