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
        "PhotoWarning",
        "Sess",
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


#: What the documentation has ever told users to import from elsewhere.
_DOCUMENTED = {
    "cfcam.runtime.bench.measure": {"measure"},
    "cfcam.runtime.cam": {"cam_map", "cam_results"},
    "cfcam.calibration.certified": {"CertifiedTopK"},
    "cfcam.calibration.evaluate": {
        "Evaluation",
        "Evaluator",
        "Instrument",
        "Journal",
        "Sample",
        "SharedEngine",
        "evaluate",
        "make_plan",
        "make_table",
        "register_instrument",
    },
    "cfcam.calibration.measures": {"EngineAccess"},
    "cfcam.calibration.randomisation": {"Randomisation", "RandomisedNetworks"},
    "cfcam.calibration.verify": {"Thresholds", "verify"},
}


@pytest.mark.parametrize("module", _DOCUMENTED)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_the_documentation_named_is_still_there(module):
    if module.startswith("cfcam.calibration"):
        pytest.importorskip("onnx")
    assert [name for name in _DOCUMENTED[module] if not hasattr(importlib.import_module(module), name)] == []
