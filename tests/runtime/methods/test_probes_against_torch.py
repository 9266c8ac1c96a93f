"""Every probe against a package or, where no package has it, against PyTorch code of its own.

Compared are the maps on the layer's grid, before each package's own normalisation.
"""

from __future__ import annotations

import numpy as np
import other_packages
import pytest
from cfcam.runtime.methods import ScoreCamSettings, ablationcam, fusioncam, reciprocam, scorecam
from cfcam.runtime.methods.reciprocam import ReciproCamSettings
from probing_nets import by_torch

torch = pytest.importorskip("torch", reason="the packages to compare with need PyTorch")

LAYERS = {"before pooling": 5, "middle": 3}
SIZE = (32, 40)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 12, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(12, 20, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(20, 16, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 5),
    ).eval()
    with torch.no_grad():
        net[3 - 1].bias[:4] = -10  # dead channels, as most networks have
        net[-1].weight *= 20  # or all maps would nearly be the mean of the channels
    return net


@pytest.fixture(scope="module")
def image():
    return torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=LAYERS)
def layer(request):
    return LAYERS[request.param]


@pytest.fixture(params=["positive", "negative"])
def target(request, model, image):
    """The class with the largest logit, and one with a negative logit."""
    logits = model(image)[0]
    found = int(logits.argmax() if request.param == "positive" else logits.argmin())
    assert (logits[found] > 0) == (request.param == "positive")
    return found


def probing(model, image, layer, target):
    return by_torch(model[: layer + 1], model[layer + 1 :], image, target, batch=7)


def package_map(model, image, layer, target, name, **options):
    package = other_packages.pytorch_grad_cam()
    targets = [lambda scores: scores[target]]
    module = model[layer]
    with getattr(package, name)(model, [module], **options) as cam:
        cam(image, targets)
        activations = cam.activations_and_grads.activations[0].numpy()
        return cam.get_cam_image(image, module, targets, activations, None, False)[0]


def agree(ours, theirs):
    assert theirs.max() > 0
    np.testing.assert_allclose(ours, np.maximum(theirs, 0), rtol=0, atol=1e-4 * theirs.max())


def test_scorecam_equals_pytorch_grad_cam(model, image, layer, target):
    theirs = package_map(model, image, layer, target, "ScoreCAM")
    ours = probing(model, image, layer, target)
    agree(scorecam(ours, ScoreCamSettings(align_corners=True)).map, theirs)
    assert np.abs(scorecam(ours).map - theirs).max() > 1e-3 * theirs.max(), "corners are aligned in vain"


def test_scorecam_equals_torch_cam():
    """In a layer of the image's size: torch-cam brings masks to 0 to 1 before it enlarges them, others after."""
    package = other_packages.torchcam()
    torch.manual_seed(3)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 8, 3, stride=2),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(8 * 5 * 5, 4),
    ).eval()
    image = torch.randn(1, 3, 12, 12)
    with package.methods.ScoreCAM(net, net[1]) as extract:
        theirs = extract(1, net(image), normalized=False)[0][0].detach().numpy()
    agree(scorecam(by_torch(net[:2], net[2:], image, 1)).map, theirs)


def test_scorecam_by_probability_equals_the_authors_algorithm(model, image, layer, target):
    """Their loop: a channel at a time, weighed by the softmax of the masked image; constant ones are passed over."""
    activations = model[: layer + 1](image)[0].detach()
    expected = torch.zeros(activations.shape[1:])
    with torch.no_grad():
        for channel in activations:
            mask = torch.nn.functional.interpolate(channel[None, None], SIZE, mode="bilinear")
            if mask.max() > mask.min():
                mask = (mask - mask.min()) / (mask.max() - mask.min())
                expected += model(image * mask).softmax(dim=1)[0, target] * channel
    agree(scorecam(probing(model, image, layer, target), ScoreCamSettings(weights="probability")).map, expected.numpy())


def test_ablationcam_equals_pytorch_grad_cam(model, image, layer, target):
    """But for the sign of the class's logit, by which they divide: below zero their map is turned round."""
    package = other_packages.pytorch_grad_cam()
    theirs = package_map(
        model, image, layer, target, "AblationCAM", ablation_layer=package.ablation_layer.AblationLayer()
    )
    agree(ablationcam(probing(model, image, layer, target)).map, theirs * np.sign(model(image)[0, target].item()))


@pytest.mark.parametrize("gaussian", [False, True])
@pytest.mark.parametrize("score", ["probability", "logit"])
def test_reciprocam_equals_a_loop_over_cells(model, image, layer, target, gaussian, score):
    activations = model[: layer + 1](image)[0].detach()
    height, width = activations.shape[1:]
    kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    expected = torch.zeros(height, width)
    with torch.no_grad():
        for y in range(height):
            for x in range(width):
                padded = torch.zeros(len(activations), height + 2, width + 2)
                if gaussian:
                    padded[:, y : y + 3, x : x + 3] = activations[:, y, x, None, None] * kernel
                else:
                    padded[:, y + 1, x + 1] = activations[:, y, x]
                logits = model[layer + 1 :](padded[None, :, 1:-1, 1:-1])[0]
                expected[y, x] = (logits.softmax(dim=0) if score == "probability" else logits)[target]
    settings = ReciproCamSettings(gaussian=gaussian, score=score)
    agree(reciprocam(probing(model, image, layer, target), settings).map, (expected - expected.min()).numpy())


def test_fusioncam_equals_its_formula_in_torch(model, image, layer, target):
    one = probing(model, image, layer, target)
    activations, gradients = (torch.from_numpy(values) for values in (one.activations, one.gradients))

    def unit(values):
        return (values - values.min()) / (values.max() - values.min())

    def enlarge(values):
        return unit(torch.nn.functional.interpolate(values.clamp(min=0)[None, None], SIZE, mode="bilinear")[0, 0])

    def recovered(values):
        with torch.no_grad():
            found = model(torch.cat([image * values, image * 0])).softmax(dim=1)[:, target]
        return (found[0] - found[1]).clamp(min=0)

    def shares(p, q):
        return (p / (p + q), q / (p + q)) if p + q > 0 else (0.5, 0.5)

    gradient = enlarge(torch.einsum("khw,k->hw", activations, gradients.mean(dim=(1, 2))))
    gradient = unit(gradient.where(gradient >= gradient.flatten().quantile(0.1), torch.zeros(())))
    region = enlarge(torch.from_numpy(scorecam(one).map))
    mine, theirs = shares(recovered(gradient), recovered(region))
    union = unit(mine * gradient + theirs * region)
    mine, theirs = shares(recovered(union), recovered(region))
    a, b = mine * union, theirs * region
    alike = (1 - (a - b).abs()).clamp(0, 1)
    expected = alike * torch.maximum(a, b) + (1 - alike) * (a + b) / 2
    found = fusioncam(one)
    assert found.map.shape == SIZE
    agree(found.map, expected.numpy())
