"""SESS against pytorch-grad-cam's, against a plain loop on an exported file, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import other_packages
import pytest
from cfcam.cli import main
from cfcam.runtime import Explainer, Sess
from cfcam.runtime.cam import cam_results
from cfcam.runtime.errors import MethodError
from cfcam.runtime.methods import CamResult
from cfcam.runtime.sess import Window, as_sess, cut_windows
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom

SIZE = (28, 28)


def by_torch(net, front, image, target, sess):
    """SESS with Grad-CAM on a PyTorch network: the windows, their maps and probabilities, and all put together."""
    torch = pytest.importorskip("torch")
    windows = sess.windows(SIZE)
    results, weights = [], []
    for one in torch.from_numpy(cut_windows(image, windows)):
        a = net[:front](one[None]).detach().requires_grad_()
        logits = net[front:](a)
        (g,) = torch.autograd.grad(logits[0, target], a)
        results += cam_results(a.detach().numpy(), g.numpy(), "gradcam")
        weights.append(logits.softmax(dim=1)[0, target].item())
    chosen = sess.best(np.array(weights, np.float32))
    return sess.fuse(
        [windows[i] for i in chosen], [results[i] for i in chosen], np.array(weights, np.float32)[chosen], SIZE
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"scales": 5, "stride": 0.5}, {"num_scales": 5, "step_size": 14}),
        ({"scales": 4, "pool": "max", "blur": 0.0}, {"num_scales": 4, "pool": "max", "smooth": False}),
        (
            {"scales": 4, "keep": 0.25, "growth": 0.5},
            {"num_scales": 4, "pre_filter_ratio": 0.75, "scale_step_ratio": 0.5},
        ),
    ],
)
def test_equals_pytorch_grad_cam(ours, theirs):
    torch = pytest.importorskip("torch", reason="the package to compare with needs PyTorch")
    package = other_packages.pytorch_grad_cam()
    torch.manual_seed(2)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 12, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(12, 16, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 5),
    ).eval()
    with torch.no_grad():
        net[-1].weight *= 10
    image = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    target = int(net(image)[0].argmax())
    with package.SESS(net, [net[3]], **theirs) as sess:
        expected = sess.forward_single_image(image, package.utils.model_targets.ClassifierOutputTarget(target))
    found = by_torch(net, 4, image.numpy()[0], target, Sess(**ours))
    assert expected.max() > 0
    np.testing.assert_allclose(found.map, expected, rtol=0, atol=1e-4 * expected.max())


def test_the_windows_cover_every_size():
    """Sides of 10 and 20, then 15 and 30; the last window of a side ends where it does."""
    found = Sess(scales=2, growth=0.5).windows((10, 20))
    assert found == [
        Window(0, 0, (10, 20)),
        *(Window(top, left, (15, 30)) for top in (0, 5) for left in (0, 10)),
    ]
    assert len(Sess().windows((224, 224))) == 122, "as the documents say"


def test_what_a_window_shows():
    """The enlarged image by scipy, at pixels' centres, and the same window cut out of it."""
    image = np.random.default_rng(0).random((2, 6, 8)).astype(np.float32)
    whole = np.asarray(zoom(image, (1, 2, 2), order=1, mode="nearest", grid_mode=True))
    (found,) = cut_windows(image, [Window(4, 7, (12, 16))])
    np.testing.assert_allclose(found, whole[:, 4:10, 7:15], atol=1e-6)


def test_fusion_by_hand():
    """One window is the image, the other its left half twice as large; the second is half as probable."""
    maps = [np.array([[0, 0, 1, 1]], np.float32), np.array([[0, 4, 4, 4]], np.float32)]
    results, windows = [CamResult(one) for one in maps], [Window(0, 0, (1, 4)), Window(0, 0, (1, 8))]
    weights = np.array([0.8, 0.4], np.float32)
    # The second map, half as wide: (0 + 4) / 2 and 4 over its maximum, times a half; then nothing.
    for sess in (Sess(blur=0), Sess(pool="max", blur=0)):
        np.testing.assert_allclose(sess.fuse(windows, results, weights, (1, 4)).map, [[0.25, 0.5, 1, 1]])
    # Both at one place: 0.5 alone, then 1 and 0.5 together.
    for sess, top in ((Sess(blur=0), 0.75), (Sess(pool="max", blur=0), 1)):
        found = sess.fuse(windows[:1] * 2, results, weights, (1, 4))
        np.testing.assert_allclose(found.map, [[0, 0.5, top, top]])
    empty = CamResult(np.zeros((1, 4), np.float32), empty="no")
    assert Sess().fuse(windows, [empty, empty], weights, (1, 4)).empty == "no"
    assert Sess(blur=0).fuse(windows, [empty, results[1]], weights, (1, 4)).map.any()
    even = CamResult(np.ones((1, 4), np.float32))
    assert "the same everywhere" in str(Sess().fuse(windows, [even, even], weights, (1, 4)).empty)


def test_what_people_give():
    assert (as_sess(None), as_sess(False), as_sess(True), as_sess(3)) == (None, None, Sess(), Sess(scales=3))
    assert as_sess({"pool": "max"}) == Sess(pool="max")
    for wrong, words in [
        (0, "sess: scales: expected a whole number of at least 1"),
        ({"growth": 0}, "sess: growth"),
        ({"pool": "sum"}, "sess: pool"),
        ({"theta": 1}, "sess: .*theta"),
    ]:
        with pytest.raises(MethodError, match=words):
            as_sess(wrong)
    with pytest.raises(MethodError, match="more than 10000 windows; take fewer scales or a larger stride"):
        Sess(scales=32, growth=1, stride=0.1).windows(SIZE)


@pytest.mark.parametrize("name", ["tail", "tail-nhwc", "tail-fixed-batch", "tail-sigmoid"])
def test_a_file_by_a_plain_loop(tiny_path, name):
    """Window by window, each explained and asked for its probability on its own."""
    sess = Sess(scales=3, stride=0.75, blur=2.0)
    with Explainer(tiny_path(name), threads=1, probe_batch=5) as explainer:
        spec = explainer.spec.input
        image = np.random.default_rng(1).standard_normal(spec.shape(1)[1:]).astype(np.float32)
        planes = image.transpose(2, 0, 1) if spec.layout == "NHWC" else image
        found = explainer.explain(image, 1, "hirescam", sess=sess)
        kept = explainer.explain(image, 1, "hirescam", sess={"scales": 3, "keep": 0.5})
        height, width = spec.height, spec.width
        total, count, weighed = np.zeros((height, width)), np.zeros((height, width)), []
        for window in sess.windows((height, width)):
            cut = cut_windows(planes, [window])
            tensor = cut.transpose(0, 2, 3, 1) if spec.layout == "NHWC" else cut
            one = explainer.explain(tensor[0], 1, "hirescam")
            weighed.append((window, one.probability, explainer.tensors(tensor, 1)))
        top = max(probability for _, probability, _ in weighed)
        for window, probability, raw in weighed:
            grid = cam_results(raw.activations, raw.gradients, "hirescam")[0].map
            scale = (height / grid.shape[0], width / grid.shape[1])
            heat = np.asarray(zoom(grid, scale, order=1, mode="nearest", grid_mode=True))
            heat -= heat.min()
            whole = np.zeros(window.size)
            whole[window.top : window.top + height, window.left : window.left + width] = heat / heat.max()
            rows, columns = (
                (np.arange(new) + 0.5) * old / new - 0.5 for new, old in zip((height, width), window.size, strict=True)
            )
            part = _sampled(whole, rows, columns) * probability / top
            total, count = total + part, count + (part > 1e-9)
    expected = gaussian_filter(total / np.maximum(count, 1), 2, mode="mirror", radius=2)
    expected /= expected.max()
    assert np.mean(np.abs(found.map - expected) < 1e-3) > 0.99, "pixels where the count hangs on rounding are few"
    assert found.to_dict()["sess"]["scales"] == 3
    assert np.abs(kept.map - found.map).max() > 0.01


def _sampled(plane, rows, columns):
    """Bilinear, with the border's value beyond it."""
    out = plane
    for axis, places in enumerate((rows, columns)):
        places = np.clip(places, 0, out.shape[axis] - 1)
        low = np.minimum(places.astype(int), out.shape[axis] - 2)
        share = np.expand_dims(places - low, 1 - axis)
        out = np.take(out, low, axis) * (1 - share) + np.take(out, low + 1, axis) * share
    return out


def test_probes_and_progress(tiny_path):
    told: list[tuple[int, int]] = []
    image = np.random.default_rng(2).standard_normal((3, 32, 48)).astype(np.float32)
    with Explainer(tiny_path("tail"), threads=1) as explainer:
        for method in ("gradcam", "reciprocam"):
            told.clear()
            found = explainer.explain(image, 0, method, sess=2, progress=lambda *pair: told.append(pair))
            assert not found.empty
            assert told[-1][0] == told[-1][1]
            assert [done for done, _ in told] == sorted({done for done, _ in told})
        with pytest.raises(MethodError, match="smooth and sess: cannot be combined; leave one of them out"):
            explainer.explain(image, 0, smooth=2, sess=True)


def test_the_command(tiny_path, tmp_path, capsys):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)).save(photo)
    command = ["explain", str(tiny_path("logits")), str(photo)]
    assert main([*command, "--sess", "--sess-scales", "2", "--json", "-o", str(tmp_path / "why.png")]) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["sess"]["scales"] == 2
    for wrong, words in [
        (["--sess-scales", "2"], "give that too"),
        (["--sess", "--smooth", "2"], "cannot be combined"),
    ]:
        assert main([*command, *wrong]) == 2
        assert words in " ".join(capsys.readouterr().err.split())
