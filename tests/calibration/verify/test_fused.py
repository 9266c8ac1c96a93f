"""Fused files in `verify`: against their two-stage file, and against one another."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_classifiers
import pytest
from cfcam.calibration.verify import VerifyError, verify
from cfcam.export import export_onnx, preset
from cfcam.runtime.errors import MethodError


@pytest.fixture(scope="module")
def fused(tmp_path_factory, guided_path):
    """The network of `guided_path`, fused."""
    folder = tmp_path_factory.mktemp("fused")
    onnx.save(onnx_classifiers.plain(), folder / "net.onnx")

    def make(name, **options):
        options = {"preprocessing": preset("torchvision"), "fused": True, **options}
        return export_onnx(folder / "net.onnx", folder / f"{name}.cam.onnx", **options).path

    return make


@pytest.fixture(scope="module")
def default(fused):
    return fused("fused")


def spoilt(path, copy):
    """A copy whose maps are turned upside down, and whose scores are not touched."""
    model = onnx.load(path)
    for node in model.graph.node:
        for place, name in enumerate(node.output):
            if name == "cam_map":
                node.output[place] = "upright"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.arange(31, -1, -1), "backwards"))
    model.graph.node.append(onnx.helper.make_node("Gather", ["upright", "backwards"], ["cam_map"], axis=1))
    onnx.save(model, copy)
    return copy


def test_a_fused_file_against_its_two_stage_file(default, guided_path, photos):
    report = verify(default, guided_path, photos[:4], threads=1, pictures=0)
    plain = verify(guided_path, guided_path, photos[:4], threads=1, pictures=0)
    assert report.verdict == plain.verdict == "passed"
    assert (str(report.form), report.method) == ("guided by layer 'early', contrast 0.3", "cfcam")
    measures, usual = report.places[0].measures, plain.places[0].measures
    assert 1 - measures["pearson"].worst < 1e-6
    for name in ("spearman", "pearson", "iou"):  # the scale of the scores is the strict one
        assert measures[name].other == usual[name].other
    # The sensitivity of both is measured where a fused file can have it.
    assert report.places[0].kept == pytest.approx(1, abs=1e-4)
    assert report.places[0].sensitivity_reference > plain.places[0].sensitivity_reference
    assert [text for text in report.warnings if "contrast 0.3, a constant" in text] == list(report.warnings[:1])
    assert "scale of the scores" not in report.warnings[0]


def test_two_fused_files_and_the_other_way_round(default, guided_path, photos):
    report = verify(default, default, photos[:4], threads=1, pictures=0)
    assert report.verdict == "passed"
    assert report.places[0].measures["pearson"].score == 1
    assert "give the reference that is exported without --fused" in report.warnings[0]
    assert verify(guided_path, default, photos[:4], threads=1, pictures=0).verdict == "passed"


def test_the_gate_sees_broken_maps(default, guided_path, photos, tmp_path):
    broken = spoilt(default, tmp_path / "broken.cam.onnx")
    for reference in (default, guided_path):
        report = verify(broken, reference, photos, threads=1, pictures=1)
        assert report.verdict == "failed"
        assert report.top1.share == 1
        assert {one.place for one in report.failures} == {"last"}
        assert len(report.cases) == 1


def test_methods_of_the_graph(fused, default, guided_path, photos):
    other = fused("gradcam", method="gradcam")
    found = verify(other, guided_path, photos[:2], threads=1, pictures=0)
    assert (found.method, found.verdict, found.warnings) == ("gradcam", "passed", found.warnings)
    with pytest.raises(VerifyError, match=r"do not belong together: method of the graph: gradcam and cfcam Cfcam"):
        verify(other, default, photos[:1])
    with pytest.raises(MethodError, match=r"made by method 'cfcam'.*--fused --method gradcam"):
        verify(default, guided_path, photos[:1], method="gradcam")
    with pytest.raises(MethodError, match="constants of the graph"):
        verify(default, guided_path, photos[:1], settings={"contrast": 0})
    plain = fused("plain", settings={"contrast": 0, "guided": False})
    found = verify(plain, guided_path, photos[:2], threads=1, pictures=0)
    assert (found.verdict, str(found.form)) == ("passed", "not guided, contrast 0")
    assert not [text for text in found.warnings if "contrast" in text]
