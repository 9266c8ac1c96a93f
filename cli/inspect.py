"""``cfcam inspect``: what is in an exported file, for a person and for a program."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .console import Bold, file_size, print_json, print_rows
from .options import Json, ProductFile

if TYPE_CHECKING:
    from ..runtime.contract.manifest import Manifest
    from ..runtime.contract.modelfile import ModelInfo, ValueInfo
    from ..runtime.contract.spec import CamSpec, FusedSpec, InputSpec, LayerSpec

__all__ = ["inspect"]


def inspect(model: ProductFile, json: Json = False) -> None:
    """Show what is in an exported file, or in a product and its manifest."""
    from ..runtime.contract.modelfile import file_sha256, read_model_info, read_spec
    from ..runtime.engines.opening import read_manifest

    manifest = read_manifest(model, machine=False)  # a product may be inspected where it cannot run
    if manifest is not None and manifest.is_engine:  # which says nothing about itself
        spec, product = manifest.cam_spec, manifest.product
        if json:
            file = {"path": model, "bytes": product.bytes, "sha256": product.sha256}
            print_json({**spec.to_dict(), "file": file, "manifest": manifest.to_dict()})
        else:
            about = _file_rows(model, product.bytes, product.sha256, "TensorRT engine")
            _print_rows({**about, **_manifest_rows(manifest), **_spec_rows(spec)})
        raise typer.Exit(0)
    spec, info, digest = read_spec(model), read_model_info(model), file_sha256(model)
    if json:
        print_json(_document(spec, info, digest, manifest))
    else:
        more = {} if manifest is None else _manifest_rows(manifest)
        form = f"ONNX opset {info.opset}, IR {info.ir_version}, {info.producer or 'producer unknown'}"
        more |= {name: text for name, text in info.metadata.items() if name.startswith("Image.")}
        values = {"inputs": ", ".join(map(_value, info.inputs)), "outputs": ", ".join(map(_value, info.outputs))}
        _print_rows({**_file_rows(info.path, info.bytes, digest, form), **more, **_spec_rows(spec), **values})
    raise typer.Exit(0)


def _document(spec: CamSpec, info: ModelInfo, digest: str, manifest: Manifest | None) -> dict[str, Any]:
    """The CamSpec as it is in the file, and beside it what the file itself says."""
    return {
        **spec.to_dict(),
        **({} if manifest is None else {"manifest": manifest.to_dict()}),
        "opset": info.opset,
        "ir_version": info.ir_version,
        "file": {
            "path": str(info.path),
            "bytes": info.bytes,
            "sha256": digest,
            "producer": info.producer,
            "opsets": info.opsets,
            "inputs": [dataclasses.asdict(value) for value in info.inputs],
            "outputs": [dataclasses.asdict(value) for value in info.outputs],
        },
    }


def _file_rows(path: str | Path, size: int, digest: str, form: str) -> dict[str, str]:
    return {"file": f"{path}, {file_size(size)}", "sha256": digest, "format": form}


def _manifest_rows(manifest: Manifest) -> dict[str, str]:
    """What was built, for what, and whether its explanations passed."""
    backend, target, calibration = manifest.backend, manifest.target, manifest.calibration
    rows = {
        "built for": f"{backend.name} {backend.version}" + (f" ({backend.provider})" if backend.provider else ""),
        "built": f"{manifest.created}, from {manifest.source.file}, sha256 {manifest.source.sha256[:16]}...",
        "gate": {
            "passed": "passed",
            "failed": "FAILED: its explanations are too far from the reference",
            "undecided": _undecided(manifest),
            None: "not asked",
        }[manifest.verdict],
    }
    if manifest.form is not None:
        guide = f"guided by layer '{manifest.form.get('detail')}'" if manifest.form.get("guided") else "not guided"
        rows["maps"] = f"{guide}, contrast {manifest.form.get('contrast')}"
    if target is not None:
        capability = f"compute capability {target.compute_capability}" if target.compute_capability else ""
        rows["target"] = ", ".join(filter(None, (target.gpu, capability)))
    if calibration is not None:
        rows["calibration"] = (
            f"{calibration.calibrator}, {calibration.count} images, sha256 {calibration.sha256[:16]}..."
        )
    return rows


def _undecided(manifest: Manifest) -> str:
    gate = manifest.gate or {}
    needed = gate.get("photos_needed")
    more = f", about {needed} would decide" if needed else ""
    return f"UNDECIDED: {gate.get('count')} photos{more}; readers that know two verdicts see it as not passed"


def _columns(count: int | None) -> str:
    return f"{'as many as asked for' if count is None else count} of each image in one inference"


def _spec_rows(spec: CamSpec) -> dict[str, str]:
    output = spec.output
    score = "" if output.score == output.name else f", differentiated: {output.score}"
    shown = [output.label(index) for index in range(min(output.classes, 2))]
    labels = ", ".join([*shown, *(["..."] if output.classes > 2 else [])]) if output.labels else "none"
    count = f"{output.classes} classes" if not output.values else f"{output.values} value{'s' * (output.values > 1)}"
    count += f" in {output.unit}" if output.unit else ""
    return {
        "source": f"{spec.source.name} ({spec.source.kind}), sha256 {spec.source.sha256[:16]}...",
        "input": f"{spec.input.name}, {spec.input.layout} {spec.input.height}x{spec.input.width}, {spec.input.dtype}, "
        f"{spec.input.color}",
        "pixels": _pixels(spec.input) + _photo_range(spec.input),
        "resize": _resize(spec.input),
        "output": f"{output.name}, {output.kind}, {count}{score}",
        "labels": labels + (f", offset {output.label_offset}" if output.label_offset else ""),
        **{("layer" if index == 0 else f"layer {index + 1}"): _layer(layer) for index, layer in enumerate(spec.layers)},
        "detail": _detail(spec),
        **({} if spec.columns is None else {"classes": _columns(spec.columns.count)}),
        **({} if spec.fixed_target is None else {"class": _fixed(spec)}),
        **({"fusion": f"{spec.fusion} of the layers' maps"} if len(spec.layers) > 1 else {}),
        "method": spec.method.name + (f" {spec.method.settings}" if spec.method.settings else ""),
        **({} if spec.fused is None else {"fused": _fused(spec.fused)}),
        "precision": spec.precision,
        "made by": ", ".join(f"{name} {version}" for name, version in spec.tools.items()) or "unknown",
        "spec": f"schema {spec.schema}" + (f", unknown sections kept: {', '.join(spec.extra)}" if spec.extra else ""),
    }


def _print_rows(rows: dict[str, str]) -> None:
    print_rows(("", ""), [(Bold(name), text) for name, text in rows.items()], head=False)


def _layer(layer: LayerSpec) -> str:
    text = f"{layer.name}: {layer.channels} channels, {layer.grid[0]}x{layer.grid[1]}"
    text += ", before the last pooling" if layer.pooled else ""
    text += ", with the rivals' gradient" if layer.rivals is not None else ""
    return text + (f", layout {layer.layout} assumed" if layer.assumed else "")


def _detail(spec: CamSpec) -> str:
    detail = spec.layer.detail
    if detail is None:
        return "none"
    return f"{detail.name}: {detail.channels} channels, {detail.grid[0]}x{detail.grid[1]}"


def _fused(fused: FusedSpec) -> str:
    height, width = fused.size
    return f"the method is part of the graph, form {fused.form}; maps of {height}x{width} ({fused.map_size})"


def _fixed(spec: CamSpec) -> str:
    assert spec.fixed_target is not None
    index = spec.fixed_target.index
    which = "the top one" if index < 0 else f"{spec.output.label(index)} ({index})"
    return f"{which} alone (fixed: there is no class input)"


def _pixels(spec: InputSpec) -> str:
    done = spec.folded or spec
    formula = f"(p * {_short(done.scale)} - [{_list(done.mean)}]) / [{_list(done.std)}]"
    return formula if spec.folded is None else f"p as it is, of which the graph makes {formula}"


def _photo_range(spec: InputSpec) -> str:
    return "" if spec.photo_range is None else f"; deep photos from {':'.join(map(_short, spec.photo_range))}"


def _resize(spec: InputSpec) -> str:
    rule = spec.resize
    if rule.mode == "shorter":
        return f"shorter side {rule.size}, {rule.interpolation}, {rule.crop} crop"
    if rule.size is not None:
        return f"{rule.mode} to {rule.size}x{rule.size}, {rule.interpolation}, {rule.crop} crop"
    return f"{rule.mode}, {rule.interpolation}"


def _value(value: ValueInfo) -> str:
    shape = "" if value.shape is None else f" ({', '.join('?' if axis is None else str(axis) for axis in value.shape)})"
    return f"{value.name}{shape} {value.dtype}"


def _short(value: float) -> str:
    return f"{value:.6g}"


def _list(values: tuple[float, ...]) -> str:
    return ", ".join(map(_short, values))
