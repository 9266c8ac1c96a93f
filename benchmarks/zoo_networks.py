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


def _inception_v4() -> nn.Module:
    """Fewer blocks of each kind: at its full depth random weights amplify rounding to more than the judge allows."""
    model: Any = _timm("inception_v4")()
    kept = [*range(8), 10, 11, 12, 18, 19]
    model.features = nn.Sequential(*(model.features[i] for i in kept))
    return model


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
    Network("inception_v4", "Inception-v4", _inception_v4, 139, "features.10"),
    Network("xception", "Xception", _timm("legacy_xception"), 128, "block11"),
    Network("mobilenetv1_100", "MobileNet V1", _timm("mobilenetv1_100"), 128, "blocks.3"),
    Network("mobilenet_v2", "MobileNet V2", _torchvision("mobilenet_v2"), 128, "features.13"),
    Network("mobilenet_v3_large", "MobileNet V3", _torchvision("mobilenet_v3_large"), 128, "features.12"),
    Network(
        "tf_mobilenetv3_small_075", "MobileNet V3, SAME padding", _timm("tf_mobilenetv3_small_075"), 128, "blocks.3"
    ),
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
    Network("hrnet_w18_small", "HRNet", _timm("hrnet_w18_small"), 128, "stage3.0.fuse_act:2"),
    Network("dla34", "DLA", _timm("dla34"), 128, "level4"),
    Network("ese_vovnet19b_dw", "VoVNet", _timm("ese_vovnet19b_dw"), 128, "stages.2"),
    Network("cspresnet50", "CSPNet", _timm("cspresnet50"), 128, "stages.2"),
    Network("cspdarknet53", "CSPNet (Darknet)", _timm("cspdarknet53"), 128, "stages.3"),
]


def _vision_transformer() -> nn.Module:
    models = import_torchvision().models
    return models.VisionTransformer(96, 16, num_layers=4, num_heads=3, hidden_dim=96, mlp_dim=192)


def _swin(version: int) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        swin = import_torchvision().models.swin_transformer
        parts = {} if version == 1 else {"block": swin.SwinTransformerBlockV2, "downsample_layer": swin.PatchMergingV2}
        return swin.SwinTransformer([4, 4], 24, [2, 2, 2], [2, 4, 4], [4, 4], **parts)

    return build


def _max_vit() -> nn.Module:
    models = import_torchvision().models
    return models.MaxVit((64, 64), 16, 4, [16, 32], [1, 1], head_dim=8, stochastic_depth_prob=0.0)


def _metaformer(mixer: str) -> Callable[[], nn.Module]:
    """The stages of the published networks, narrower and less deep."""

    def build() -> nn.Module:
        import_torchvision()
        from timm.layers.norm import GroupNorm1
        from timm.models import metaformer as m

        sizes: dict[str, Any] = {"depths": (1, 1, 2, 1), "dims": (32, 64, 96, 128)}
        if mixer == "pool":
            pooled: dict[str, Any] = {"downsample_norm": None, "mlp_act": nn.GELU, "mlp_bias": True}
            scales: dict[str, Any] = {"layer_scale_init_values": 1e-5, "res_scale_init_values": None}
            return m.MetaFormer(**sizes, **pooled, **scales, norm_layers=GroupNorm1, use_mlp_head=False)
        later = m.SepConv if mixer == "conv" else m.Attention
        mixers: list[type[nn.Module]] = [m.SepConv, m.SepConv, later, later]
        norms: list[type[nn.Module]] = [
            m.LayerNorm2dNoBias if one is m.SepConv else m.LayerNormNoBias for one in mixers
        ]
        return m.MetaFormer(**sizes, token_mixers=mixers, norm_layers=norms)

    return build


def _conv_mixer() -> nn.Module:
    import_torchvision()
    from timm.models.convmixer import ConvMixer

    return ConvMixer(dim=128, depth=5, kernel_size=7, patch_size=7)


def _mlp_mixer() -> nn.Module:
    import_torchvision()
    from timm.models.mlp_mixer import MlpMixer

    return MlpMixer(img_size=96, patch_size=16, num_blocks=4, embed_dim=128)


def _short(name: str, **options: Any) -> Callable[[], nn.Module]:
    """A transformer of timm with fewer blocks, on images of 96 pixels."""
    return _timm(name, **{"img_size": 96, "depth": 4, **options})


def _small(name: str, **options: Any) -> Callable[[], nn.Module]:
    """A windowed transformer of timm with two stages, on images of 64 pixels."""
    sizes = {"img_size": 64, "window_size": 4, "depths": (2, 2), "embed_dim": 24, "num_heads": (2, 4)}
    return _timm(name, **sizes, **options)


_MAXXVIT = {"img_size": 64, "depths": (1, 1), "embed_dim": (32, 64)}
_COATNET = {"img_size": 64, "depths": (1, 1, 2, 1), "embed_dim": (32, 32, 64, 64)}
_NARROW = {"depths": (1, 1, 2, 1)}

# Transformers, their hybrids with convolutions, and what else keeps its channels last.
_TRANSFORMERS = [
    Network("convnext_atto", "ConvNeXt", _timm("convnext_atto"), 64, "stages.2.blocks.3"),
    Network("convnext_tiny", "ConvNeXt, channels last", _torchvision("convnext_tiny"), 64, "features.5.4.block.5"),
    Network("convnextv2_atto", "ConvNeXt V2", _timm("convnextv2_atto"), 64, "stages.2.blocks.3"),
    Network("poolformer", "PoolFormer", _metaformer("pool"), 64, "stages.2.blocks.0"),
    Network("convformer", "MetaFormer, convolutions", _metaformer("conv"), 64, "stages.2.blocks.0"),
    Network("caformer", "MetaFormer, convolutions and attention", _metaformer("attention"), 64, "stages.2.blocks.0"),
    Network("convmixer", "ConvMixer", _conv_mixer, 70, "blocks.2"),
    Network("mlp_mixer", "MLP-Mixer", _mlp_mixer, 96, "blocks.1"),
    Network("vision_transformer", "ViT, torchvision", _vision_transformer, 96, "encoder.layers.encoder_layer_1"),
    Network("vit_tiny", "ViT", _short("vit_tiny_patch16_224"), 96, "blocks.1"),
    Network(
        "vit_tiny_pooled", "ViT, mean of tokens", _short("vit_tiny_patch16_224", global_pool="avg"), 96, "blocks.1"
    ),
    Network("vit_tiny_registers", "ViT, registers", _short("vit_tiny_patch16_224", reg_tokens=4), 96, "blocks.1"),
    Network(
        "vit_tiny_map",
        "ViT, attention pooling",
        _short("vit_tiny_patch16_224", global_pool="map", class_token=False),
        96,
        "blocks.1",
    ),
    Network("deit_tiny", "DeiT", _short("deit_tiny_patch16_224"), 96, "blocks.1"),
    Network("deit_tiny_distilled", "DeiT, distilled", _short("deit_tiny_distilled_patch16_224"), 96, "blocks.1"),
    Network("deit3", "DeiT III", _short("deit3_small_patch16_224", embed_dim=96, num_heads=3), 96, "blocks.1"),
    Network("beit", "BEiT", _short("beit_base_patch16_224", embed_dim=96, num_heads=3), 96, "blocks.1"),
    Network("cait_xxs24", "CaiT", _short("cait_xxs24_224"), 96, "blocks.1"),
    Network("eva02_tiny", "EVA-02", _timm("eva02_tiny_patch14_224", img_size=84, depth=4), 84, "blocks.1"),
    Network("swin", "Swin, torchvision", _swin(1), 64, "features.3.0"),
    Network("swin_v2", "Swin V2, torchvision", _swin(2), 64, "features.3.0"),
    Network("swin_tiny", "Swin", _small("swin_tiny_patch4_window7_224"), 64, "layers.1.blocks.0"),
    Network("swinv2_tiny", "Swin V2", _small("swinv2_tiny_window8_256"), 64, "layers.1.blocks.0"),
    Network("maxvit", "MaxViT, torchvision", _max_vit, 64, "blocks.1.layers.0.layers.MBconv"),
    Network("maxvit_tiny_tf", "MaxViT", _timm("maxvit_tiny_tf_224", **_MAXXVIT), 64, "stages.1.blocks.0.attn_block"),
    Network("coatnet_nano_rw", "CoAtNet", _timm("coatnet_nano_rw_224", **_COATNET), 64, "stages.2.blocks.0"),
    Network("mobilevit_xxs", "MobileViT", _timm("mobilevit_xxs"), 64, "stages.3.0"),
    Network("mobilevitv2_050", "MobileViT V2", _timm("mobilevitv2_050"), 64, "stages.3.0"),
    Network("efficientformer_l1", "EfficientFormer", _timm("efficientformer_l1", depths=(1, 1, 1, 2)), 224, "stages.2"),
    Network("efficientformerv2_s0", "EfficientFormer V2", _timm("efficientformerv2_s0", img_size=64), 64, "stages.2"),
    Network("efficientvit_b0", "EfficientViT (MIT)", _timm("efficientvit_b0"), 64, "stages.2"),
    Network("efficientvit_m0", "EfficientViT (MSRA)", _timm("efficientvit_m0", img_size=128), 128, "stages.1"),
    Network("pvt_v2_b0", "PVT v2", _timm("pvt_v2_b0", depths=(1, 1, 2, 1)), 64, "stages.2.blocks.0"),
    Network("pvt_v2_b2_li", "PVT v2, linear", _timm("pvt_v2_b2_li", **_NARROW), 64, "stages.2.blocks.0"),
    Network("tiny_vit_5m", "TinyViT", _timm("tiny_vit_5m_224", **_NARROW), 128, "stages.2.blocks.0"),
    Network("fastvit_t8", "FastViT, as trained", _timm("fastvit_t8"), 64, "stages.2"),
    Network("fastvit_t8_fused", "FastViT, fused", _timm("fastvit_t8"), 64, "stages.2", finish=_fuse),
    Network(
        "fastvit_sa12",
        "FastViT, attention",
        _timm("fastvit_sa12", layers=(1, 1, 1, 1), embed_dims=(16, 32, 64, 128)),
        64,
        "stages.2",
    ),
    # Before its last stage the tokens are sorted by units, which the ONNX route refuses.
    Network("hiera_tiny", "Hiera", _timm("hiera_tiny_224", img_size=(64, 64), stages=(1, 1, 2, 2)), 64, "blocks.4"),
    Network("vit_rope", "ViT, rotary", _short("vit_small_patch16_rope_224", embed_dim=96, num_heads=3), 96, "blocks.1"),
]


def _hybrid_quantum() -> nn.Module:
    from quantum_net import HybridNet

    return HybridNet()


_OTHERS = [Network("hybrid_quantum", "Hybrid, quantum circuit as head", _hybrid_quantum, 64, "features.1")]

#: Every row, in the order of the table. Names are unique.
NETWORKS: list[Network] = [*_CONVOLUTIONAL, *_TRANSFORMERS, *_OTHERS]
