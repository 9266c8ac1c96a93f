"""Fused files from end to end: what they give out, what reads them, and what is refused in a sentence."""

import numpy as np
import onnx
import onnx_classifiers
import onnxruntime
import pytest
from cfcam.calibration.build.config import BuildConfig, Method
from cfcam.calibration.build.job import make_job
from cfcam.calibration.check import check_file
from cfcam.export import ExportError, export_onnx, preset
from cfcam.runtime import Explainer
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.engines.tensorrt.build import build_engine
from cfcam.runtime.errors import EngineError, MethodError, ModelFileError
from cfcam.runtime.methods.cfcam.method import CfcamSettings, group_channels

RANDOM = np.random.default_rng(0)


def exported(folder, net="plain", name="net", **options):
    onnx.save(onnx_classifiers.make(net), folder / f"{name}.onnx")
    return export_onnx(folder / f"{name}.onnx", folder / f"{name}.cam.onnx", **options).path


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    return exported(folder, fused=True), exported(folder, name="host")


def images(spec, count=4):
    return RANDOM.standard_normal(spec.input.shape(count)).astype(spec.input.dtype)


@pytest.mark.parametrize("net", sorted(onnx_classifiers.NETS))
def test_the_file_explains_as_the_host_does(tmp_path, net):
    fused, host = exported(tmp_path, net, fused=True), exported(tmp_path, net, "host")
    with Explainer(fused) as one, Explainer(host) as other:
        batch = images(one.spec, 1 if net == "keras" else 4)
        for target in (None, 0, 1):
            for a, b in zip(one.explain_batch(batch, target), other.explain_batch(batch, target), strict=True):
                np.testing.assert_allclose(a.map, b.map, atol=2e-5)
                assert (a.target, a.method, a.settings, a.grid) == (b.target, b.method, b.settings, b.grid)
                assert (a.reason is None, a.form) == (b.reason is None, b.form)
                assert b.counts is not None
                assert a.counts == {key: b.counts[key] for key in ("clusters", "clustered", "noise", "dead")}


@pytest.mark.parametrize(
    ("method", "read"), [("cfcam", False), ("gradcam", False), ("hirescam", True), ("layercam", True)]
)
def test_a_gradient_that_is_one_number_per_channel_is_read_before_it_is_spread(tmp_path, method, read):
    model = onnx.load(exported(tmp_path, fused=True, method=method))
    (spreading,) = (node for node in model.graph.node if "cam_gradients" in node.output)
    reads = {name for node in model.graph.node if node.name.startswith("cam_fused") for name in node.input}
    assert ("cam_gradients" in reads, spreading.input[0] in reads) == (read, not read)


@pytest.mark.parametrize("method", ["gradcam", "hirescam", "layercam"])
def test_other_methods_and_the_finest_grid(tmp_path, method):
    fused, host = exported(tmp_path, fused=True, method=method, map_size="detail"), exported(tmp_path, name="host")
    with Explainer(fused) as one, Explainer(host) as other:
        assert one.spec.fused is not None
        assert one.spec.fused.size == one.spec.layer.grid
        assert one.spec.layer.detail is None
        assert one.spec.fused.counts is None
        batch = images(one.spec)
        np.testing.assert_allclose(one.maps(batch), other.maps(batch, method=method), atol=2e-5)


def test_settings_are_written_in(tmp_path):
    settings = {"sigma": 2.0, "contrast": 0.0, "guided": False}
    fused, host = exported(tmp_path, fused=True, settings=settings), exported(tmp_path, name="host")
    with Explainer(fused) as one, Explainer(host) as other:
        batch = images(one.spec)
        np.testing.assert_allclose(one.maps(batch), other.maps(batch, settings=settings), atol=2e-5)
        assert np.abs(one.maps(batch) - other.maps(batch)).max() > 0.01


def test_the_form_for_cpus_and_the_clusters_of_channels(tmp_path, pair):
    path = exported(tmp_path, fused=True, fused_form="cpu", cam_labels=True)
    with Explainer(path) as one, Explainer(pair[0]) as static, Explainer(pair[1]) as host:
        assert one.spec.fused is not None
        assert (one.spec.fused.form, one.spec.fused.labels) == ("cpu", "cam_labels")
        assert static.spec.fused is not None
        assert (static.spec.fused.form, static.spec.fused.labels) == ("static", None)
        batch = images(one.spec, 3)
        for a, b, c in zip(*(e.explain_batch(batch, 1) for e in (one, static, host)), strict=True):
            np.testing.assert_allclose(a.map, b.map, atol=1e-6)
            np.testing.assert_allclose(a.map, c.map, atol=2e-5)
            assert a.counts == b.counts
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        feeds = {"image": batch, "cam_target": np.ones(3, np.int64)}
        (labels,) = map(np.asarray, session.run(["cam_labels"], feeds))
        wanted = [group_channels(a, CfcamSettings()).labels for a in host.tensors(batch).activations]
        np.testing.assert_array_equal(labels, wanted)
    with pytest.raises(EngineError, match=r"form 'cpu'.* --fused-form static"):
        build_engine(path)


@pytest.mark.parametrize(("net", "options"), [("keras", {}), ("half", {}), ("plain", {"fixed_target": "top"})])
def test_the_form_for_cpus_alone_and_with_other_options(tmp_path, net, options):
    path, host = exported(tmp_path, net, fused=True, fused_form="cpu", **options), exported(tmp_path, net, "host")
    with Explainer(path) as one, Explainer(host) as other:
        batch = images(one.spec, 1 if net == "keras" else 3)
        np.testing.assert_allclose(one.maps(batch), other.maps(batch), atol=2e-5)
    assert check_file(path)  # as it is in the file


def test_a_class_that_does_not_exist_is_no_other_class(pair):
    session = onnxruntime.InferenceSession(str(pair[0]), providers=["CPUExecutionProvider"])
    batch = images(read_spec(pair[0]))
    names = [output.name for output in session.get_outputs()]
    assert names == ["logits", "cam_map", "cam_empty", "cam_guided", "cam_counts", "cam_class"]

    def run(*targets):
        values = map(np.asarray, session.run(None, {"image": batch, "cam_target": np.array(targets, np.int64)}))
        return dict(zip(names, values, strict=True))

    found, usual = run(0, 7, -2, 2**62), run(0, 1, 2, 3)
    np.testing.assert_array_equal(found["cam_map"][0], usual["cam_map"][0])
    assert found["cam_empty"].tolist() == [False, True, True, True]
    assert not found["cam_map"][1:].any()
    assert found["cam_class"].tolist() == [0, -1, -1, -1]
    np.testing.assert_array_equal(found["logits"], usual["logits"])


@pytest.mark.parametrize(("form", "count"), [("static", "free"), ("cpu", 2)])
def test_several_classes_in_one_inference(tmp_path, pair, form, count):
    pixels = {"fold_preprocessing": "float", "preprocessing": preset("torchvision")}
    path = exported(tmp_path, fused=True, fused_form=form, classes_per_image=count, **pixels)
    with Explainer(path) as many, Explainer(pair[0]) as fused, Explainer(pair[1]) as host:
        photos = [RANDOM.integers(0, 256, (40, 50, 3), np.uint8) for _ in range(2)]
        found = many.explain_classes(photos, [[-1, 5, 2], [3, -2, 0]])
        for each, photo in zip(found, photos, strict=True):
            for one in each:
                for other in (fused, host):
                    alone = other.explain(photo, one.target)
                    np.testing.assert_allclose(one.map, alone.map, atol=2e-5)
                    assert (one.probability, one.grid) == (pytest.approx(alone.probability, abs=1e-6), alone.grid)
                    assert one.counts is not None
                    assert one.counts.items() <= (alone.counts or {}).items()
            for one, alone in zip(each, many.explain_classes([photo], [one.target for one in each])[0], strict=True):
                np.testing.assert_allclose(one.map, alone.map, atol=2e-7)
        assert [one.target for one in many.explain_top(photos[0], 3)] == [best[0] for best in found[0][0].top[:3]]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    batch = RANDOM.integers(0, 256, (2, 3, 32, 32)).astype(np.float32)
    names = ["cam_map", "cam_empty", "cam_guided", "cam_class"]

    def run(*targets):
        return list(map(np.asarray, session.run(names, {"image": batch, "cam_target": np.array(targets, np.int64)})))

    usual = run([1, 3], [-1, -2])
    for missing in (7, -8, 2**62, -(2**63)):
        heat, empty, sharp, chosen = run([1, missing], [missing, -2])
        for now, before in zip((heat, empty, sharp, chosen), usual, strict=True):
            np.testing.assert_array_equal(now[[0, 1], [0, 1]], before[[0, 1], [0, 1]])
        assert not heat[[0, 1], [1, 0]].any()
        assert (empty[[0, 1], [1, 0]].all(), chosen[[0, 1], [1, 0]].tolist()) == (True, [-1, -1])


def test_an_image_of_nan_spoils_no_other(pair):
    session = onnxruntime.InferenceSession(str(pair[0]), providers=["CPUExecutionProvider"])
    batch, target = images(read_spec(pair[0])), np.zeros(4, np.int64)
    spoilt = batch.copy()
    spoilt[1] = np.nan
    names = ["cam_map", "cam_empty"]
    usual, _ = map(np.asarray, session.run(names, {"image": batch, "cam_target": target}))
    found, empty = map(np.asarray, session.run(names, {"image": spoilt, "cam_target": target}))
    np.testing.assert_allclose(found[[0, 2, 3]], usual[[0, 2, 3]], atol=1e-6)
    assert not found[1].any()
    assert empty[1]


def test_what_a_fused_file_cannot_do_is_refused(pair):
    with Explainer(pair[0]) as explainer:
        batch = images(explainer.spec)
        for words, call in {
            "--fused --method gradcam": lambda: explainer.maps(batch, method="gradcam"),
            "without --fused for method 'scorecam'": lambda: explainer.maps(batch, method="scorecam"),
            "constants of the graph": lambda: explainer.maps(batch, settings={"contrast": 0.5}),
            "no activations": lambda: explainer.tensors(batch),
            "smooth puts maps together": lambda: explainer.maps(batch, smooth=3),
            "sess puts maps together": lambda: explainer.maps(batch, sess=True),
        }.items():
            with pytest.raises(MethodError, match=words):
                call()
        explainer.maps(batch, method="cfcam", settings={"contrast": 0.3})  # which is what the file has
        explainer.warm_up(1)


def test_a_product_of_a_fused_file_keeps_its_method(pair):
    def job(method=None, **options):
        config = BuildConfig(backend="onnxruntime", method=method and Method(name=method[0], settings=method[1]))
        return make_job(pair[0], "c", config, pair[0].parent, **options)

    one = job()
    assert one.fused
    assert one.plan_rule(one.spec.two_stage) == job(("cfcam", {"contrast": 0.3})).plan_rule(one.spec.two_stage)
    for method in (("gradcam", {}), ("cfcam", {"contrast": 0})):
        with pytest.raises(ModelFileError, match=r"take 'method' out .*, or build .* without --fused"):
            job(method)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"map_size": "detail"}, "add --fused"),
        ({"fused_form": "cpu"}, "fused_form: for fused files alone"),
        ({"cam_labels": True}, "cam_labels: for fused files alone"),
        ({"fused": True, "fused_form": "gpu"}, "expected static or cpu"),
        ({"fused": True, "method": "gradcam", "cam_labels": True}, "cam_labels: 'gradcam' has no clusters"),
        ({"method": "gradcam"}, "add --fused"),
        ({"fused": True, "with_tail": True}, "no tail"),
        ({"fused": True, "classes_per_image": 99}, "99 classes per image: the model has 7"),
        (
            {"fused": True, "classes_per_image": 2, "fixed_target": "top"},
            "leave --classes-per-image or --fixed-target out",
        ),
        ({"fused": True, "method": "scorecam"}, "runs the model again"),
        ({"fused": True, "map_size": "photo"}, "expected input or detail"),
        ({"fused": True, "settings": {"min_samples": 99}}, "noise"),
    ],
)
def test_what_cannot_be_exported_is_refused(tmp_path, options, words):
    with pytest.raises(ExportError, match=words):
        exported(tmp_path, **options)
    assert not (tmp_path / "net.cam.onnx").exists()


def test_older_files_read_as_before(pair):
    spec = read_spec(pair[1])
    assert spec.fused is None
    assert "fused" not in spec.to_dict()
    assert type(spec).from_dict({**spec.to_dict(), "schema": "1.3"}).layer == spec.layer
