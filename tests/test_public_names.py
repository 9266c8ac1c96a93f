"""Names that users import: more may come, none may go."""

import importlib

import pytest

_FROZEN = {
    "cfcam.runtime": {
        "ArrayError",
        "CamSpec",
        "CfcamError",
        "Engine",
        "EngineError",
        "EngineInfo",
        "EngineOptions",
        "Explainer",
        "Explanation",
        "Frame",
        "ImageError",
        "Manifest",
        "ManifestError",
        "MethodError",
        "MissingDependencyError",
        "ModelFileError",
        "ModelInfo",
        "OutputError",
        "Smoothing",
        "SpecError",
        "TargetError",
        "Tensors",
        "__version__",
        "cam_map",
        "file_sha256",
        "find_images",
        "method_names",
        "open_engine",
        "open_image",
        "read_model_info",
        "read_spec",
    },
    "cfcam.export": {
        "Check",
        "ExportError",
        "ExportReport",
        "LayerError",
        "Preprocessing",
        "Proof",
        "ProofError",
        "UnsupportedOperatorError",
        "export_onnx",
        "export_torch",
        "preset",
    },
    "cfcam.calibration": {
        "LayerSample",
        "PartsReport",
        "PartsRow",
        "Spread",
        "class_sensitivity",
        "measure_part",
        "measure_parts",
        "pearson",
    },
}


@pytest.mark.parametrize("package", _FROZEN)
def test_no_public_name_has_gone(package):
    if package == "cfcam.export":
        pytest.importorskip("torch")
        pytest.importorskip("onnx")
    module = importlib.import_module(package)
    assert set(module.__all__) >= _FROZEN[package]
    assert len(module.__all__) == len(set(module.__all__))
    missing = [name for name in module.__all__ if getattr(module, name, None) is None]
    assert missing == [], "every name in __all__ can be imported"
    assert set(module.__all__) <= set(dir(module))
