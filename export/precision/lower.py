"""`lower`: an explained file in, the same explanation in another precision out, proved."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from onnx import ModelProto

from ...runtime.contract.modelfile import read_spec
from ...runtime.contract.spec import INT8_IN_HALF, CamSpec, LayerSpec
from ...runtime.engines.onnxruntime.workarounds import session_workarounds
from ...runtime.files import scratch_folder
from ...runtime.targets import class_input
from ..errors import ExportError
from ..fused.joining import join_rule
from ..fused.plan import FusedPlan
from ..graph import Graph, load_model
from ..proof.checks import prove_file
from ..proof.exported_file import ExportedFile, open_exported_file, plain_outputs
from ..proof.results import Check, Proof, relative_error
from ..proof.session import Session, release_memory
from ..report import Stopwatch
from ..reverse import Differentiated, differentiate, per_image
from ..tail.cutting import open_exported
from ..tail.file import tail_path, write_tail
from ..writing import set_spec, staging_folder, write_model
from .bias import channel_means, correct_biases
from .calibration_images import CalibrationImages
from .half import to_half
from .plain_model import PlainModel, plain_model
from .plan import Plan
from .quantise import quantise
from .round import round_weights

__all__ = ["Lowered", "lower"]


#: Where ONNX Runtime really rounds to float16 depends on who else reads a value; what lies on the boundary of two
#: quantisation steps then takes the other one.
_AMONG_HALF = 2e-2


@dataclass(frozen=True)
class Lowered:
    """path: the written file. spec: what it says about itself. proof: what was measured (empty when it was not
    asked for). calibration: {"sha256", "count", "calibrator"}, or None. seconds: pass name -> seconds."""

    path: Path
    spec: CamSpec
    plan: Plan
    proof: Proof
    calibration: dict[str, Any] | None
    seconds: dict[str, float]
    notes: list[str] = field(default_factory=list)


def lower(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    plan: Plan,
    images: Iterable[NDArray[Any]] | None = None,
    *,
    prove: bool = True,
    ranges: str | os.PathLike[str] | None = None,
    fuse: Callable[[CamSpec], FusedPlan] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Lowered:
    """Write the explained file `source` in the precision of `plan` to `output`; the gradient is that of what runs.

    The plain model is cut out, its batch norms folded, quantised if that is asked for, and differentiated again by the
    ONNX route: forward and backward pass read the same weights. float16 is made last, over both.

    images: batches of ready input tensors (N, ...), read once; INT8 needs them, float16 is better with them.
    prove: False leaves the proof out, for candidates of a search. ranges: a file that keeps the ranges of all
    values, of the same images and calibrator. fuse: plans the rule that becomes part of the graph, from the lowered
    file's spec; None for a file that gives out what maps are made of, also where `source` is fused. The rule stays
    float32: it is added last.
    progress: told the name of each pass as it starts.
    Raises `ModelFileError`, `SpecError`, `ExportError` (no images, a failing tool), `UnsupportedOperatorError`,
    `ProofError` (the file would be wrong; nothing is written), `OutputError`.
    """
    source, output = Path(source), Path(output)
    watch = Stopwatch(progress)
    if source.exists() and output.exists() and os.path.samefile(source, output):
        raise ExportError(f"{output}: is the explained file itself, give the lowered one another name")
    if plan.quantised and images is None:
        raise ExportError(f"{source}: INT8 needs calibration images")
    said = read_spec(source)
    spec = said.two_stage
    if said.fixed_target is not None:
        raise ExportError(f"{source}: has a fixed target: export the model without --fixed-target, and lower that file")
    if fuse is not None:
        fuse(spec)  # what cannot be fused is said before any work
    calibration: dict[str, Any] | None = None
    with staging_folder(output) as folder, scratch_folder() as name:
        scratch = Path(name)
        with watch("cut"):
            plain = plain_model(load_model(source), said)
        network = plain.model
        if images is not None and (plan.quantised or (plan.half and plan.correct_bias)):
            with watch("read images"):
                fixed = Graph(network).shape(spec.input.name)
                step = int(fixed[0]) if fixed and isinstance(fixed[0], int) else 1
                kept = CalibrationImages(images, spec.input, scratch / "images", step)
            if plan.quantised:
                calibration = {"sha256": kept.sha256, "count": kept.count, "calibrator": plan.calibrator}
                network = _quantised(plain, spec, plan, kept, scratch, None if ranges is None else Path(ranges), watch)
            else:
                with watch("round weights"):
                    network = round_weights(network, channel_means(network, kept))
        with watch("differentiate"):
            made = differentiate(
                network,
                plain.layers,
                spec.output,
                view=plain.views,
                detail=plain.detail,
                rivals=spec.layer.rivals is not None,
                classes=per_image(spec.columns),
                guarded=fuse is not None,
            )
        new = _spec(spec, made, plan)
        notes = list(made.notes)
        with watch("write"):
            explained = to_half(made.model, new, plan.float_nodes) if plan.half else made.model
            staged, exported = folder / output.name, None
            if fuse is not None:
                joined = Graph(explained)
                new = join_rule(joined, new, fuse(new))
                explained = joined.to_model()
            else:
                exported = open_exported(explained)
                if spec.tail is not None and new.precision == INT8_IN_HALF:
                    notes.append(
                        "no tail was written: ONNX Runtime would run INT8 among float16 wrongly without being told"
                    )
                elif spec.tail is not None:
                    new = write_tail(exported, new, folder / tail_path(output).name)
                set_spec(exported.model, new)
            set_spec(explained, new)
            write_model(explained, staged)
        proof = Proof()
        if prove:
            with watch("prove"):
                before = to_half(network, new, plan.float_nodes) if plan.half else network
                proof = _proved(staged, before, exported, output)
        release_memory()
    return Lowered(output, new, plan, proof, calibration, watch.seconds, notes)


def _quantised(
    plain: PlainModel,
    spec: CamSpec,
    plan: Plan,
    images: CalibrationImages,
    scratch: Path,
    ranges: Path | None,
    watch: Stopwatch,
) -> ModelProto:
    pooled = [name for name, layer in zip(plain.layers, spec.layers, strict=True) if layer.pooled]
    with watch("quantise"):
        network = quantise(plain.model, plan, images, scratch, score=spec.output, pooled=pooled, ranges=ranges)
    if plan.correct_bias:
        with watch("correct biases"):
            network = correct_biases(network, plain.model, channel_means(plain.model, images))
    return network


def _spec(spec: CamSpec, made: Differentiated, plan: Plan) -> CamSpec:
    """The old spec for the new graph: layers keep their names and what they are to a method."""
    layers: tuple[LayerSpec, ...] = tuple(
        replace(old, value=new.value, activations=new.activations, gradients=new.gradients)
        for old, new in zip(spec.layers, made.layers, strict=True)
    )
    detail = spec.layer.detail
    if detail is not None and made.detail is not None:
        detail = replace(detail, value=made.detail.value, activations=made.detail.activations)
    layers = (replace(layers[0], detail=detail, rivals=made.rivals), *layers[1:])
    precision = INT8_IN_HALF if plan.quantised and plan.half else plan.precision
    output = replace(spec.output, score=made.score.value)
    return replace(spec, layers=layers, precision=precision, tail=None, output=output)


def _proved(staged: Path, network: ModelProto, exported: Graph | None, output: Path) -> Proof:
    """The exporter's proof; network: the plain model in its new precision. exported: the file's graph, if at hand."""
    file = open_exported_file(staged, graph=exported)
    if file.quantised:
        proof = Proof()
        # Optimised, the two would run in different kernels here and there, a quantisation step apart.
        # The plain file does not say that it is mixed, and would be run in the other way.
        entries = session_workarounds(staged)
        have, want = (_as_it_stands(model, file, entries) for model in (str(staged), network))
        limit = _AMONG_HALF if file.half else 1e-5
        for name in want:
            error = relative_error(have[name], want[name])
            proof.checks.append(Check(f"output '{name}' against the plain model", error, limit))
        proof.checks += prove_file(file).checks
    else:
        proof = prove_file(file, plain_outputs(network, file))
    proof.demand(output, "lowered")
    return proof


def _as_it_stands(model: str | ModelProto, file: ExportedFile, entries: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    """What a model gives for the file's images when no node is fused with another. entries: of the session."""
    session = Session(model, optimise=False, entries=entries)
    feeds = {file.spec.input.name: file.images, file.spec.target: class_input(file.spec, file.top.classes)}
    return session.run_in_batches(feeds, file.batch or len(file.images))
