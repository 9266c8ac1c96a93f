"""Configurations, read by Triton's own schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cfcam.export.errors import ExportError
from cfcam.export.triton.config import TritonPlan, config_texts
from cfcam.runtime.contract.modelfile import ModelInfo, ValueInfo, read_model_info, read_spec

model_config = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="needs tritonclient[grpc]")


def configs(path: Path, **plan: Any) -> dict[str, Any]:
    from google.protobuf import text_format

    texts = config_texts(TritonPlan(name="m", **plan), read_spec(path), read_model_info(path))
    return {name: text_format.Parse(text, model_config.ModelConfig()) for name, text in texts.items()}


@pytest.fixture(scope="module")
def exported(guided_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The small network, fused, told no class and fed with pixels; and with as many classes per image as one asks."""
    from cfcam.export import export_onnx, preset

    forms: dict[str, dict[str, Any]] = {
        "fused": {"fused": True, "fixed_target": "top", "fold_preprocessing": "uint8-nhwc"},
        "free": {"classes_per_image": "free"},
    }
    folder, net = tmp_path_factory.mktemp("exported"), guided_path.with_name("net.onnx")
    return {
        name: export_onnx(net, folder / f"{name}.cam.onnx", preprocessing=preset("torchvision"), **more).path
        for name, more in forms.items()
    }


def tensors(values: Any) -> dict[str, tuple[int, list[int]]]:
    return {one.name: (one.data_type, list(one.dims)) for one in values}


FP32, FP16, INT64, INT32, UINT8 = (
    model_config.DataType.Value(f"TYPE_{name}") for name in ("FP32", "FP16", "INT64", "INT32", "UINT8")
)


@pytest.mark.parametrize("layout", ["one", "ensemble", "bls"])
def test_every_model_is_of_the_schema(layout: str, tiny_path) -> None:
    found = configs(tiny_path("softmax-and-logits"), layout=layout)
    assert all(config.name == name and config.max_batch_size == 8 for name, config in found.items())
    assert list(found) == list(TritonPlan(name="m", layout=layout).models)  # type: ignore[arg-type]
    assert tensors(found["m"].output)["map"] == (FP32, [32, 48])
    assert tensors(found["m"].output)["logits"] == (FP32, [6])


def test_the_file_on_the_onnx_runtime_backend(tiny_path) -> None:
    engine = configs(tiny_path("float16"), layout="bls")["m_engine"]
    assert (engine.backend, engine.default_model_filename) == ("onnxruntime", "model.onnx")
    assert tensors(engine.input) == {"image": (FP16, [3, 32, 48]), "cam_target": (INT64, [1])}
    assert tensors(engine.output)["cam_activations"] == (FP32, [8, 8, 12])
    by_name = {one.name: one for one in (*engine.input, *engine.output)}
    assert by_name["cam_target"].HasField("reshape")
    assert list(by_name["cam_target"].reshape.shape) == []
    assert not by_name["image"].HasField("reshape")


def test_a_fixed_batch_is_not_batched(tiny_path) -> None:
    found = configs(tiny_path("fixed-batch"), layout="bls")
    assert [config.max_batch_size for config in found.values()] == [0, 0]
    assert tensors(found["m_engine"].input) == {"image": (FP32, [2, 3, 32, 48]), "cam_target": (INT64, [2])}
    # Any number: the explainer fills batches up.
    assert tensors(found["m"].input)["tensor"] == (FP32, [-1, 3, 32, 48])
    assert tensors(found["m"].output)["map"] == (FP32, [-1, 32, 48])


def test_layouts_of_channels_last(tiny_path) -> None:
    assert tensors(configs(tiny_path("nhwc"))["m"].input)["tensor"] == (FP32, [32, 48, 3])


def test_no_logits_where_the_file_has_none(tiny_path) -> None:
    assert "logits" not in tensors(configs(tiny_path("softmax"))["m"].output)


@pytest.mark.parametrize(("device", "batching"), [("cpu", False), ("gpu", True)])
def test_requests_are_batched_on_a_gpu_only(device: str, batching: bool, tiny_path) -> None:
    found = configs(tiny_path("logits"), layout="bls", device=device)
    engine = found["m_engine"]
    assert engine.HasField("dynamic_batching") is batching
    assert engine.dynamic_batching.max_queue_delay_microseconds == 0
    kind = model_config.ModelInstanceGroup.Kind.Value(f"KIND_{device.upper()}")
    assert [group.kind for group in engine.instance_group] == [kind]
    assert not found["m"].HasField("dynamic_batching")


def test_detail_and_rivals_pass_through_an_ensemble(guided_path: Path) -> None:
    found = configs(guided_path, layout="ensemble")
    engine, mapper, whole = found["m_engine"], found["m_map"], found["m"]
    assert {"cam_detail", "cam_rivals"} <= set(tensors(mapper.input))
    assert tensors(mapper.input) == tensors(engine.output)
    first, second = whole.ensemble_scheduling.step
    assert dict(first.output_map) == dict(second.input_map)
    assert set(first.input_map.values()) == {one.name for one in whole.input} == {"tensor", "target"}
    assert set(second.output_map.values()) == {one.name for one in whole.output}
    inner = set(first.output_map.values())
    assert not inner & {one.name for one in (*whole.input, *whole.output)}


def test_names_are_quoted(tiny_path) -> None:
    plan = TritonPlan(name="m", environment='a "b" \\ ü')
    from google.protobuf import text_format

    path = tiny_path("logits")
    text = config_texts(plan, read_spec(path), read_model_info(path))["m"]
    config = text_format.Parse(text, model_config.ModelConfig())
    assert config.parameters["EXECUTION_ENV_PATH"].string_value == 'a "b" \\ ü'


def test_an_input_too_many_is_refused(tiny_path) -> None:
    path = tiny_path("logits")
    head = read_model_info(path)
    more = ModelInfo(head.path, 0, 9, 18, "", (*head.inputs, ValueInfo("mask", "float32", ("N", 1))), head.outputs)
    with pytest.raises(ExportError, match="more than the image and the class: mask"):
        config_texts(TritonPlan(name="m"), read_spec(path), more)


def test_a_plain_file_has_its_own_inputs_and_outputs(exported: dict[str, Path]) -> None:
    (config,) = configs(exported["fused"], layout="plain", instances=2).values()
    assert (config.backend, config.default_model_filename, config.max_batch_size) == ("onnxruntime", "model.onnx", 8)
    assert tensors(config.input) == {"image": (UINT8, [32, 32, 3])}
    assert tensors(config.output) == {
        "logits": (FP32, [7]),
        "cam_map": (FP32, [32, 32]),
        "cam_empty": (INT32, [1]),
        "cam_guided": (INT32, [1]),
        "cam_counts": (INT32, [4]),
        "cam_class": (INT32, [1]),
    }
    assert [group.count for group in config.instance_group] == [2]


@pytest.mark.parametrize("name", ["fused", "free", "logits"])
def test_shapes_are_those_that_onnx_runtime_compares_with(name: str, exported: dict[str, Path], tiny_path) -> None:
    """Triton's backend refuses a model of which a dimension differs from what its session says, -1 included."""
    import onnxruntime

    path = exported[name] if name in exported else tiny_path(name)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    shapes = {one.name: one.shape for one in (*session.get_inputs(), *session.get_outputs())}
    (config,) = configs(path, layout="plain").values()
    for one in (*config.input, *config.output):
        dims = [] if one.HasField("reshape") else list(one.dims)
        assert [-1, *dims] == [size if isinstance(size, int) else -1 for size in shapes.pop(one.name)]
    assert not shapes


def test_scores_have_labels(tiny_path) -> None:
    (config,) = configs(tiny_path("logits"), layout="plain").values()
    assert {one.name: one.label_filename for one in config.output if one.label_filename} == {"scores": "labels.txt"}
    (config,) = configs(tiny_path("unlabelled"), layout="plain").values()
    assert not any(one.label_filename for one in config.output)


@pytest.mark.parametrize("layout", ["plain", "bls", "ensemble"])
def test_an_engine_on_the_tensorrt_backend(layout: str, tiny_path) -> None:
    found = configs(tiny_path("softmax-and-logits"), layout=layout, backend="tensorrt", device="gpu")
    engine = found["m" if layout == "plain" else "m_engine"]
    assert (engine.backend, engine.default_model_filename) == ("tensorrt", "model.plan")
    assert engine.HasField("dynamic_batching")
    # TensorRT's backend does not start without a configuration for each output.
    head = read_model_info(tiny_path("softmax-and-logits"))
    assert [one.name for one in engine.output] == [value.name for value in head.outputs]
    others = [group.kind for name in found if found[name] is not engine for group in found[name].instance_group]
    assert others == ([] if layout == "plain" else [model_config.ModelInstanceGroup.KIND_CPU])
