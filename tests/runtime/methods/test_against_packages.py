"""Every well-known rule against pytorch-grad-cam and torch-cam, run as their users run them.

A small network, its layer before a global pooling and one before that. The packages find
activations and gradients with hooks of their own, our side with autograd; compared are the maps
on the layer's grid, before each package's own normalisation.
"""

from __future__ import annotations

import numpy as np
import other_packages
import pytest
from cfcam.runtime.cam import cam_map, cam_results
from cfcam.runtime.contract.spec import LayerSpec
from cfcam.runtime.inference import LayerTensors
from cfcam.runtime.methods import finercam, get_method, make_settings
from cfcam.runtime.methods.layer_fusion import run_rule
from probing_nets import by_torch

torch = pytest.importorskip("torch", reason="the packages to compare with need PyTorch")

CLASS = 2
LAYERS = {"before pooling": 5, "middle": 3}
#: Our name -> pytorch-grad-cam's class, torch-cam's class.
RULES = {
    "gradcam": ("GradCAM", "GradCAM"),
    "hirescam": ("HiResCAM", None),
    "layercam": ("LayerCAM", "LayerCAM"),
    # torch-cam (0.5) divides a copy of alpha's numerator and drops it, which makes it another formula.
    "gradcam++": ("GradCAMPlusPlus", None),
    "xgradcam": ("XGradCAM", "XGradCAM"),
    "eigencam": ("EigenCAM", None),
    "eigengradcam": ("EigenGradCAM", None),
    "segeigencam": ("SegEigenCAM", None),
    "fem": ("FEM", None),
    "kpcacam": ("KPCA_CAM", None),
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 24, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(24, 40, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(40, 32, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(32, 5),
    ).eval()


@pytest.fixture(scope="module")
def image():
    return torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(1))


def arrays(model, image, layer):
    """Activations and gradients (C, H, W) at `layer`, by autograd."""
    a = model[: LAYERS[layer] + 1](image).detach().requires_grad_()
    (g,) = torch.autograd.grad(model[LAYERS[layer] + 1 :](a)[0, CLASS], a)
    return a.detach().numpy()[0], g.numpy()[0]


def agree(ours, theirs):
    assert theirs.max() > 0
    np.testing.assert_allclose(ours, np.maximum(theirs, 0), rtol=0, atol=1e-4 * theirs.max())


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", RULES)
def test_equals_pytorch_grad_cam(model, image, layer, name):
    package = other_packages.pytorch_grad_cam()
    module, targets = model[LAYERS[layer]], [lambda scores: scores[CLASS]]
    with getattr(package, RULES[name][0])(model, [module]) as cam:
        cam(image, targets)
        seen = cam.activations_and_grads
        theirs_a, theirs_g = (found[0].numpy() if found else None for found in (seen.activations, seen.gradients))
        if name == "kpcacam":  # in single precision their kernel rounds away most of what small activations say
            theirs_a = np.asarray(theirs_a, np.float64)
        theirs = cam.get_cam_image(image, module, targets, theirs_a, theirs_g, False)[0]
    if name in ("eigencam", "eigengradcam") and theirs.max() < -theirs.min():
        theirs = -theirs  # they leave an eigenvector's sign as it comes out
    settings = {"eps": 1e-6} if name == "gradcam++" else None
    agree(cam_results(*arrays(model, image, layer), name, settings)[0].map, theirs)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", [name for name, (_, theirs) in RULES.items() if theirs])
def test_equals_torch_cam(model, image, layer, name):
    package = other_packages.torchcam()
    with getattr(package.methods, RULES[name][1])(model, model[LAYERS[layer]]) as extract:
        theirs = extract(CLASS, model(image), normalized=False)[0][0].numpy()
    agree(cam_results(*arrays(model, image, layer), name)[0].map, theirs)


def test_finercam_equals_pytorch_grad_cam(model, image):
    """Their choice of classes, their weights, their gradient: on the class with the largest logit."""
    package = other_packages.pytorch_grad_cam()
    for index in LAYERS.values():
        module = model[index]
        with package.FinerCAM(model, [module]) as finer:
            finer(image)
            seen = finer.base_cam.activations_and_grads
            a, g = seen.activations[0].numpy(), seen.gradients[0].numpy()
            theirs = finer.base_cam.get_cam_image(image, module, None, a, g, False)[0]
        top = int(model(image).argmax())
        agree(finercam(by_torch(model[: index + 1], model[index + 1 :], image, top, batch=2)).map, theirs)


def test_refinecam_equals_pytorch_grad_cam(model, image):
    """The product of their maps of both layers, each resized to the finer grid and brought to 0 to 1."""
    package = other_packages.pytorch_grad_cam()
    modules, targets = [model[5], model[1]], [lambda scores: scores[CLASS]]
    tensors, names = [], [LayerSpec(name=str(i), value=str(i), channels=1, grid=(1, 1)) for i in range(2)]
    for index in (5, 1):
        a = model[: index + 1](image).detach().requires_grad_()
        (g,) = torch.autograd.grad(model[index + 1 :](a)[0, CLASS], a)
        tensors.append(LayerTensors(a.detach().numpy(), g.numpy()))
    method = get_method("refinecam")
    ours = run_rule(method, make_settings(method, {"eps": 1e-6}), names, tensors, 0, "gate").map
    expected = 1.0
    for module in modules:
        with package.GradCAMPlusPlus(model, [module]) as cam:
            # Their own resize and scaling, to the finer grid in place of the image.
            cam.get_target_width_height = lambda _: ours.shape[::-1]
            expected = expected * cam(image, targets)[0]
    assert ours.shape == (16, 20)
    agree(ours, expected)


def test_eps_of_gradcam_plus_plus_is_no_detail(model, image):
    """Before pooling, pytorch-grad-cam's 1e-6 outweighs squared gradients of (0.2 / 80)**2 and less."""
    a, g = arrays(model, image, "before pooling")
    published, theirs = (cam_map(a, g, "gradcam++", {"eps": eps}) for eps in (0, 1e-6))
    tiny_published, tiny_theirs = (cam_map(a, g * 1e-2, "gradcam++", {"eps": eps}) for eps in (0, 1e-6))
    assert np.abs(published - theirs).max() < np.abs(tiny_published - tiny_theirs).max()
    assert np.abs(tiny_published - tiny_theirs).max() > 0.02
