"""The architectures of the zoo: how each is built, its input, its layers.

A row is one `Network`. Weights are random (`zoo_measure` calibrates them on photos), inputs are
small where the architecture permits, and of each family a small member stands for the large ones.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from torchvision_compat import import_torchvision

__all__ = ["NETWORKS", "Network", "find"]


def _as_it_is(module: nn.Module) -> nn.Module:
    return module


@dataclass(frozen=True)
class Network:
    """name: unique in the zoo. family: what the issue and the papers call it.

    build: makes the module with random weights. size: side of the square input.
    middle: name of the middle layer. last: of the last one; None takes the exporter's default.
    finish: applied to the calibrated module (fusing of branches, for instance).
    """

    name: str
    family: str
    build: Callable[[], nn.Module]
    size: int
    middle: str
    last: str | None = None
    finish: Callable[[nn.Module], nn.Module] = _as_it_is


def find(name: str) -> Network:
    """The network called `name`; raises `KeyError` with the known names."""
    for network in NETWORKS:
        if network.name == name:
            return network
    raise KeyError(f"no network '{name}' in the zoo: {', '.join(n.name for n in NETWORKS)}")


def _torchvision(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: getattr(import_torchvision().models, name)(weights=None, **options)


def _timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import_torchvision()  # timm imports it
        import timm

        return timm.create_model(name, pretrained=False, **options)

    return build


def _fuse(module: nn.Module) -> nn.Module:
    """Merge the branches of a re-parameterisable network into single convolutions."""
    from timm.utils.model import reparameterize_model

    return reparameterize_model(module)


_CONVOLUTIONAL = [
    Network("vgg11", "VGG", _torchvision("vgg11"), 112, "features.10"),
    Network("vgg13_bn", "VGG + BN", _torchvision("vgg13_bn"), 112, "features.23"),
    Network("alexnet", "AlexNet", _torchvision("alexnet"), 224, "features.4"),
    Network("squeezenet1_1", "SqueezeNet", _torchvision("squeezenet1_1"), 128, "features.7"),
    Network("resnet18", "ResNet", _torchvision("resnet18"), 128, "layer3"),
    Network("resnet50", "ResNet", _torchvision("resnet50"), 128, "layer3"),
    Network("resnetv2_50", "ResNet V2 (pre-activation)", _timm("resnetv2_50"), 128, "stages.2"),
    Network("resnetv2_50x1_bit", "ResNet V2, weight standardisation", _timm("resnetv2_50x1_bit"), 128, "stages.2"),
    Network("resnetblur50", "ResNet, anti-aliased", _timm("resnetblur50"), 128, "layer3"),
    Network("resnext50_32x4d", "ResNeXt", _torchvision("resnext50_32x4d"), 128, "layer3"),
    Network("wide_resnet50_2", "Wide-ResNet", _torchvision("wide_resnet50_2"), 128, "layer3"),
    Network("seresnet50", "SE-ResNet", _timm("seresnet50"), 128, "layer3"),
    Network("skresnet18", "SK-ResNet", _timm("skresnet18"), 128, "layer3"),
    Network("ecaresnet26t", "ECA-ResNet", _timm("ecaresnet26t"), 128, "layer3"),
    Network("resnest14d", "ResNeSt", _timm("resnest14d"), 128, "layer3"),
    Network("res2net50_26w_4s", "Res2Net", _timm("res2net50_26w_4s"), 128, "layer3"),
    Network("densenet121", "DenseNet", _torchvision("densenet121"), 128, "features.denseblock3"),
    Network("googlenet", "GoogLeNet", _torchvision("googlenet", init_weights=False), 128, "inception4e"),
    Network("inception_v3", "Inception-v3", _torchvision("inception_v3", init_weights=False), 139, "Mixed_6e"),
    Network("inception_v4", "Inception-v4", _timm("inception_v4"), 139, "features.17"),
    Network("xception", "Xception", _timm("legacy_xception"), 128, "block11"),
    Network("mobilenetv1_100", "MobileNet V1", _timm("mobilenetv1_100"), 128, "blocks.3"),
    Network("mobilenet_v2", "MobileNet V2", _torchvision("mobilenet_v2"), 128, "features.13"),
    Network("mobilenet_v3_large", "MobileNet V3", _torchvision("mobilenet_v3_large"), 128, "features.12"),
    Network("mobilenetv4_conv_small", "MobileNet V4", _timm("mobilenetv4_conv_small"), 128, "blocks.2"),
    Network("mobilenetv4_hybrid_medium", "MobileNet V4, hybrid", _timm("mobilenetv4_hybrid_medium"), 128, "blocks.2"),
    Network("shufflenet_v2_x1_0", "ShuffleNet V2", _torchvision("shufflenet_v2_x1_0"), 128, "stage3"),
    Network("ghostnet_100", "GhostNet", _timm("ghostnet_100"), 128, "blocks.6"),
    Network("ghostnetv2_100", "GhostNet V2", _timm("ghostnetv2_100"), 128, "blocks.6"),
    Network("mnasnet1_0", "MNASNet", _torchvision("mnasnet1_0"), 128, "layers.11"),
    Network("efficientnet_b0", "EfficientNet", _torchvision("efficientnet_b0"), 128, "features.5"),
    Network("tf_efficientnet_b0", "EfficientNet, SAME padding", _timm("tf_efficientnet_b0"), 128, "blocks.4"),
    Network("efficientnet_lite0", "EfficientNet-Lite", _timm("efficientnet_lite0"), 128, "blocks.4"),
    Network("efficientnetv2_rw_t", "EfficientNet V2", _timm("efficientnetv2_rw_t"), 128, "blocks.4"),
    Network("regnet_x_400mf", "RegNet X", _torchvision("regnet_x_400mf"), 128, "trunk_output.block3"),
    Network("regnet_y_400mf", "RegNet Y", _torchvision("regnet_y_400mf"), 128, "trunk_output.block3"),
    Network("eca_nfnet_l0", "NFNet", _timm("eca_nfnet_l0"), 128, "stages.2"),
    Network("nf_regnet_b0", "NF-RegNet", _timm("nf_regnet_b0"), 128, "stages.2"),
    Network("repvgg_a0", "RepVGG, as trained", _timm("repvgg_a0"), 128, "stages.2"),
    Network("repvgg_a0_fused", "RepVGG, fused", _timm("repvgg_a0"), 128, "stages.2", finish=_fuse),
    Network("mobileone_s0", "MobileOne, as trained", _timm("mobileone_s0"), 128, "stages.2"),
    Network("mobileone_s0_fused", "MobileOne, fused", _timm("mobileone_s0"), 128, "stages.2", finish=_fuse),
    Network("hrnet_w18_small", "HRNet", _timm("hrnet_w18_small"), 128, "stage3"),
    Network("dla34", "DLA", _timm("dla34"), 128, "level4"),
    Network("ese_vovnet19b_dw", "VoVNet", _timm("ese_vovnet19b_dw"), 128, "stages.2"),
    Network("cspresnet50", "CSPNet", _timm("cspresnet50"), 128, "stages.2"),
    Network("cspdarknet53", "CSPNet (Darknet)", _timm("cspdarknet53"), 128, "stages.3"),
]

#: Every row, in the order of the table. Names are unique.
NETWORKS: list[Network] = [*_CONVOLUTIONAL]
