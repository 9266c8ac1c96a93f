"""Hugging Face folders: model, preprocessing and labels come from disk, and nothing else happens."""

from __future__ import annotations

import json
import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calibrated import calibrate, photo_batch
from cfcam.cli import main
from cfcam.export.errors import ExportError
from cfcam.export.sources.factory import load
from cfcam.runtime import Explainer
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.errors import CfcamError, ModelFileError
from cfcam.runtime.photos.images import open_image
from cfcam.runtime.photos.preprocess import prepare
from image_processors import PROCESSORS, SIZE, processor, transformers
from shared_data import shared_path

AUTO = "transformers:AutoModelForImageClassification"
_LABELS = ("cat", "dog", "bird", "hot dog", "espresso")


def _vit(kind: str) -> Any:
    return getattr(transformers, f"{kind}Config")(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=64, patch_size=16
    )


# Small members of families; each with the processor that its kind has.
MODELS: dict[str, tuple[Callable[[], Any], str]] = {
    "ResNet": (
        lambda: transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"),
        "crop share",
    ),
    "ConvNext": (lambda: transformers.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2), "crop share"),
    "MobileNetV2": (lambda: transformers.MobileNetV2Config(depth_multiplier=0.25), "shorter side"),
    "ViT": (lambda: _vit("ViT"), "plain"),
    "Beit": (lambda: _vit("Beit"), "plain"),
    "DeiT": (lambda: _vit("DeiT"), "stretch then crop"),
    "Swin": (
        lambda: transformers.SwinConfig(
            image_size=64, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4
        ),
        "plain",
    ),
    "MobileViT": (
        lambda: transformers.MobileViTConfig(
            image_size=64, hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 8, 16, 16, 24, 32, 48]
        ),
        "BGR",
    ),
}


def save(folder: Path, kind: str = "ResNet", **changes: Any) -> Path:
    """A calibrated model of `kind` with its processor, as ``save_pretrained`` writes them."""
    make, case = MODELS[kind]
    config = make()
    config.id2label = dict(enumerate(_LABELS))
    config.label2id = {name: index for index, name in enumerate(_LABELS)}
    for key, value in changes.items():
        setattr(config, key, value)
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForImageClassification")(config)
    calibrate(model, photo_batch(6, SIZE))
    model.save_pretrained(folder)
    name, settings = PROCESSORS[case]
    processor(name, **settings).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("hf") / "resnet")


def as_transformers_would(folder: Path, photo: Path) -> Any:
    """The probabilities (K,) of a photo, by transformers alone."""
    model = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    theirs = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    with torch.no_grad():
        return model(**theirs(images=open_image(photo), return_tensors="pt")).logits.softmax(1)[0].numpy()


@pytest.mark.parametrize("kind", MODELS)
def test_loaded_models_classify_as_transformers_would(kind: str, tmp_path: Path) -> None:
    folder, photo = save(tmp_path, kind), shared_path("data/photos/two_dogs.jpg")
    loaded = load(AUTO, None, folder)
    assert loaded.preprocessing is not None
    assert (loaded.size, loaded.labels, loaded.notes) == ((SIZE, SIZE), _LABELS, ())
    tensor = prepare(open_image(photo), loaded.preprocessing.input_spec("image", SIZE, SIZE)).tensor
    with torch.no_grad():
        found = loaded.module(torch.from_numpy(tensor[None])).logits.softmax(1)[0].numpy()
    assert np.ptp(found) > 0.01
    np.testing.assert_allclose(found, as_transformers_would(folder, photo), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["DeiT", "Swin"])
def test_exported_and_explained_as_transformers_would_classify(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, path = save(tmp_path / "model", kind), tmp_path / "x.cam.onnx"
    photo = shared_path("data/photos/two_dogs.jpg")
    assert main(["export", "--model", AUTO, "--weights", str(folder), "-o", str(path)]) == 0, capsys.readouterr().err
    spec = read_spec(path)
    assert (spec.output.labels, spec.output.kind, spec.source.name) == (_LABELS, "logits", AUTO)
    assert (spec.input.name, spec.input.height, spec.input.width) == ("pixel_values", SIZE, SIZE)
    assert (spec.layer.pooled, spec.layer.prefix_tokens) == ((False, 2) if kind == "DeiT" else (True, 0))
    with Explainer(path) as explainer:
        explanation = explainer.explain(photo)
    expected = as_transformers_would(folder, photo)
    np.testing.assert_allclose(explanation.probabilities, expected, atol=1e-5)
    assert explanation.label == _LABELS[int(expected.argmax())]
    assert explanation.reason is None
    assert explanation.map.max() == 1
    assert np.ptp(explanation.map) > 0.1


@pytest.mark.slow
def test_options_come_before_what_the_folder_says(resnet: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.cam.onnx"
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\n")
    options = ["--labels", str(tmp_path / "names.txt"), "--mean", "0.1,0.2,0.3", "--input-size", "96", "--color", "bgr"]
    assert main(["export", "--model", AUTO, "--weights", str(resnet), *options, "-o", str(path)]) == 0
    spec = read_spec(path)
    assert spec.output.labels == ("a", "b", "c", "d", "e")
    assert (spec.input.mean, spec.input.color, spec.input.height) == ((0.3, 0.2, 0.1), "bgr", 96)
    assert spec.input.resize.size == 120  # a crop share of 0.8, at the new size
    assert spec.input.resize.interpolation == "bicubic"  # what no option names stays


def test_a_preset_replaces_the_processor(resnet: Path) -> None:
    loaded = load(AUTO, None, resnet, processor=False)
    assert (loaded.preprocessing, loaded.notes, loaded.labels) == (None, (), _LABELS)


def test_no_connection_is_opened(resnet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    loaded = load(AUTO, None, resnet)
    assert loaded.size == (64, 64)
    assert not loaded.module.training
    for name in ("google/vit-base-patch16-224", "no such folder"):
        with pytest.raises(ModelFileError, match="no such folder"):
            load(AUTO, None, name)


def test_settings_change_the_config(resnet: Path) -> None:
    assert load(AUTO, {"problem_type": "multi_label_classification"}, resnet).multi_label
    assert not load(AUTO, None, resnet).multi_label
    with pytest.raises(ExportError, match="a resnet config has no trust_remote_code"):
        load(AUTO, {"trust_remote_code": True}, resnet)


def test_the_models_own_class_half_precision_and_placeholder_labels(tmp_path: Path) -> None:
    save(tmp_path, id2label={i: f"LABEL_{i}" for i in range(5)})
    half = transformers.ResNetForImageClassification.from_pretrained(tmp_path).half()
    half.save_pretrained(tmp_path)
    loaded = load("transformers:ResNetForImageClassification", None, tmp_path)
    assert {parameter.dtype for parameter in loaded.module.parameters()} == {torch.float32}
    assert loaded.labels is None


def _write(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_code_beside_a_model_is_not_run(tmp_path: Path) -> None:
    save(tmp_path)
    marker = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Net: pass\nclass Config: pass\n")
    _write(tmp_path, auto_map={"AutoModelForImageClassification": "evil.Net", "AutoConfig": "evil.Config"})
    load(AUTO, None, tmp_path)  # a type that transformers knows: its own code is used
    _write(tmp_path, model_type="evil")
    with pytest.raises(ExportError, match=r"config\.json: cannot be used"):
        load(AUTO, None, tmp_path)
    assert not marker.exists()


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


def test_pickled_weights_are_refused_unopened(tmp_path: Path) -> None:
    save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with (tmp_path / "pytorch_model.bin").open("wb") as file:
        pickle.dump(_Trap(tmp_path / "ran"), file)
    with pytest.raises(ModelFileError, match=r"pytorch_model\.bin only, which is not opened .* convert it once"):
        load(AUTO, None, tmp_path)
    assert not (tmp_path / "ran").exists()


def _without_head(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in weights.items() if not k.startswith("classifier")}, folder / "model.safetensors")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), r"has no config\.json"),
    "config no JSON": (lambda f: (f / "config.json").write_text("{"), r"config\.json: cannot be used"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"has no weights, model\.safetensors was expected"),
    "damaged": (lambda f: (f / "model.safetensors").write_bytes(b"x" * 99), "cannot be loaded as transformers:Auto"),
    "an adapter": (lambda f: (f / "adapter_config.json").write_text("{}"), "holds an adapter: merge it"),
    "no head": (
        _without_head,
        r"do not fill ResNetFor.*2 weights missing \(classifier\.1\.bias, ",
    ),
    "other classes": (
        lambda f: _write(f, id2label={"0": "a", "1": "b"}, label2id={"a": 0, "b": 1}),
        "cannot be loaded|of another shape",
    ),
    "processor no JSON": (
        lambda f: (f / "preprocessor_config.json").write_text("{"),
        r"preprocessor_config\.json: cannot be used.* with --preset the file is not read",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_folders(case: str, resnet: Path, tmp_path: Path) -> None:
    for file in resnet.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    damage, message = BROKEN[case]
    damage(tmp_path)
    with pytest.raises(CfcamError, match=message) as caught:
        load(AUTO, None, tmp_path)
    assert "\n" not in str(caught.value)


def test_other_models_and_names(resnet: Path, tmp_path: Path) -> None:
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(ExportError, match=r"holds a 'bert' model, which is no transformers:Auto.* image classifiers"):
        load(AUTO, None, tmp_path)
    with pytest.raises(ExportError, match="BertModel takes 'input_ids', not an image"):
        load("transformers:BertModel", None, tmp_path)
    with pytest.raises(ExportError, match="has no model class 'AutoModelForCats'"):
        load("transformers:AutoModelForCats", None, resnet)
    with pytest.raises(ExportError, match="needs --weights DIR"):
        load(AUTO)
    with pytest.raises(ModelFileError, match="is a file; a folder"):
        load(AUTO, None, resnet / "config.json")


def test_a_folder_without_processor_says_so(resnet: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((resnet / name).read_bytes())
    loaded = load(AUTO, None, tmp_path)
    assert loaded.preprocessing is None
    assert "has no preprocessor_config.json: check the preprocessing options" in loaded.notes[0]
