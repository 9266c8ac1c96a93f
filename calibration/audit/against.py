"""Whether the explanations of what was audited may stand for those of its model in float32.

A comparison with the float32 file says so, on a sample of the photos and by the gate's measures (`verify`); without
one, the gate of the build that made the product. A file that was lowered and has neither is told so.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...runtime.contract.manifest import Manifest
from ...runtime.contract.modelfile import file_sha256
from ...runtime.errors import CfcamError, one_line
from ...runtime.files import write_bytes
from ...runtime.json_reader import read_json
from ...runtime.photos.images import pixel_limit
from ...runtime.shown import utf8
from ..json_values import plain
from ..verify.thresholds import Thresholds
from ..verify.verdict import TITLES
from .errors import AuditError
from .plan import Plan
from .row import Row
from .sources import Source

if TYPE_CHECKING:
    from ..verify import VerifyReport

__all__ = ["PAGE", "SCHEMA", "check_against", "compared", "is_met", "table_rows", "unless_compared"]

SCHEMA = "cfcam.audit-against/1"

#: In the audit's folder: the comparison's figures, and its page.
FILE, PAGE = "against.json", "against.html"

#: The verdicts, from the one that is always allowed on.
_WORSE = ("passed", "undecided", "failed")
_NOTHING = "nothing shows that its explanations stand for the model's"
#: The folder has a plan by then, of an audit that is compared with nothing.
_OPTIONS = "with --against, and another folder with -o"
#: Bytes of the largest figures that are read.
_MOST = 64 * 2**20


def check_against(model: Path, reference: Path, plan: Plan) -> None:
    """Whether a file can be what an audited one is compared with, before anything is measured.

    Args:
        model: What is audited.
        reference: The float32 file.
        plan: With the method, its settings and the provider.

    Raises:
        AuditError: It is the audited file itself, or not the file that the audited one was made of.
        VerifyError: The two do not belong together: classes, layers, input or labels differ.
        CfcamError: One of them cannot be used.
    """
    from ..verify.compared_file import open_files

    sha256 = file_sha256(reference)
    if sha256 == plan.model_sha256:
        raise AuditError(
            f"{reference}: is what is audited: give the float32 file that {model} was made of, or leave it out"
        )
    manifest = Manifest.read(model)
    if manifest is not None and manifest.source.sha256 != sha256:
        raise AuditError(
            f"{reference}: is not the file that {model} was made of, which its manifest calls "
            f"{manifest.source.file} (SHA-256 {manifest.source.sha256}): give that one"
        )
    try:
        _thresholds(model)
    except CfcamError as error:
        raise AuditError(
            f"{Manifest.place(model)}: its gate is not what `cfcam build` writes ({one_line(error)}): build the "
            "product again"
        ) from error
    with open_files(
        model,
        reference,
        method=plan.method,
        settings=dict(plan.settings) or None,
        layer=None,
        provider=plan.provider,
        allow_fallback=False,
        threads=plan.threads,
    ):
        pass


def compared(
    model: Path,
    reference: Path,
    plan: Plan,
    rows: Iterable[Row],
    source: Source,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """The comparison with the float32 file on a sample of what was audited, or what the folder has of it already.

    Args:
        model: What was audited.
        reference: The float32 file, which `check_against` has seen.
        plan: How many photos are compared, by which method and from which seed.
        rows: Of the audit; with ``image``, ``sha256`` and ``error``.
        source: Of the photos.
        folder: Of the audit: for ``against.json`` and ``against.html``.
        progress: Told how many photos of how many are compared.

    Returns:
        For ``against`` in ``summary.json``: ``by``, ``verdict``, ``text``, ``reference``, ``sample`` and ``report``.

    Raises:
        OutputError: The folder cannot be written.
        CfcamError: The files cannot be run.
    """
    sample, known = _sample(rows, plan)
    thresholds = _thresholds(model)
    asked = {
        "model_sha256": plan.model_sha256,
        "reference": {"file": str(reference), "sha256": plan.against_sha256},
        "method": plan.method,
        "settings": dict(plan.settings),
        "provider": plan.provider,
        "thresholds": asdict(thresholds),
        "sample": {"photos": len(sample), "of": known, "seed": plan.seed, "sha256": _digest(sample)},
    }
    asked = plain(json.loads(json.dumps(asked)))
    place = folder / FILE
    report = _kept(place, asked)
    if report is None:
        found = _verified(model, reference, plan, list(sample), source, thresholds, progress)
        found.save_html(folder / PAGE)
        report = found.to_dict()
        text = json.dumps(utf8({"schema": SCHEMA, "asked": asked, "report": report}), allow_nan=False)
        write_bytes(place, (text + "\n").encode())
    short = {name: value for name, value in report.items() if name != "photos"}
    return {
        "by": "comparison",
        "verdict": report["verdict"],
        "text": _text(
            report,
            f"{reference.name}, on {report['count']} photos",
            "audit more --images into another folder, with --against-photos",
        ),
        "reference": asked["reference"],
        "sample": asked["sample"],
        "report": short,
    }


def unless_compared(model: Path, plan: Plan, precision: str) -> dict[str, Any]:
    """What is known without a comparison: the gate of the product's build, or nothing.

    Args:
        model: What was audited.
        plan: With the method, its settings and the provider.
        precision: Of the file.

    Returns:
        As `compared`; ``verdict`` is None where nothing is known.

    Raises:
        AuditError: The manifest's gate is not what a build writes.
        ManifestError: The manifest cannot be read.
    """
    manifest = Manifest.read(model)
    found: dict[str, Any] = {"by": None, "verdict": None, "reference": None, "sample": None, "report": None}
    if manifest is None:
        if precision == "float32":
            return found | {"by": "itself", "text": "the file is in float32 itself"}
        remedy = f"give the float32 file that it was made of {_OPTIONS}"
        return found | {"text": f"the file is in {precision} and has no manifest of a build: {_NOTHING}: {remedy}"}
    found["reference"] = {"file": manifest.source.file, "sha256": manifest.source.sha256}
    gate, remedy = manifest.gate, f"give {manifest.source.file}, of which it was made, {_OPTIONS}"
    doubt = _doubt(manifest, plan)
    if gate is None or doubt:
        return found | {"text": f"{doubt}: {_NOTHING}: {remedy}"}
    if not _is_report({"verdict": manifest.verdict, **gate}):
        raise AuditError(
            f"{Manifest.place(model)}: its gate is not what `cfcam build` writes: build the product again, or {remedy}"
        )
    count = f", on {gate['count']} photos" if "count" in gate else ""
    text = _text(gate, f"{manifest.source.file} in the gate of its build{count}", remedy)
    return found | {"by": "gate", "verdict": manifest.verdict, "text": text, "report": gate}


def is_met(found: Mapping[str, Any], allowed: str | None) -> bool:
    """Whether a verdict is good enough.

    Args:
        found: What `compared` or `unless_compared` gave.
        allowed: The worst verdict that ``limits.yaml`` allows; None where it says nothing, and then a verdict has to be
            ``passed``, and an unknown one is no reason.

    Returns:
        Whether it is; an unknown verdict is not where limits ask for one.
    """
    if found["verdict"] is None:
        return allowed in (None, "failed") or found["by"] == "itself"
    return _WORSE.index(found["verdict"]) <= _WORSE.index(allowed or "passed")


def table_rows(report: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The measures of a comparison as a page shows them.

    Args:
        report: ``report`` of what `compared` or `unless_compared` gave.

    Returns:
        For each: ``layer``, ``title``, ``cells`` (candidate, worst photo, score, jittered, other class, noise; None for
        what is not known), and whether its limit was ``missed``.
    """
    if report is None:
        return []
    missed = {(one.get("place"), one.get("measure")) for one in report.get("failures", ())}
    found = [("", "top1", {"candidate": (report.get("top1") or {}).get("share")})]
    for layer in report.get("layers", ()):
        name, kept = layer["name"], layer["class_sensitivity"]
        found += [(name, measure, values) for measure, values in layer["measures"].items()]
        found.append((name, "class_sensitivity", {"candidate": kept["candidate"], "score": kept["kept"]}))
    cells = ("candidate", "worst", "score", "jitter", "other_class", "noise")
    return [
        {
            "layer": layer,
            "title": TITLES.get(measure, measure),
            "cells": [values.get(cell) for cell in cells],
            "missed": (layer or None, measure) in missed,
        }
        for layer, measure, values in found
    ]


def _doubt(manifest: Manifest, plan: Plan) -> str:
    """Why the gate of a build says nothing about this audit; empty where it does."""
    gate = manifest.gate
    if gate is None:
        return "its build has compared it with nothing"
    here = f"{manifest.product.file} on {plan.provider}"
    if gate.get("ran_on") != here:
        return f"the gate of its build ran {gate.get('ran_on', 'something else')}, and the audit {here}"
    asked = plain(json.loads(json.dumps({"method": plan.method, "settings": dict(plan.settings)})))
    if {name: gate.get(name) for name in asked} != asked:
        return f"the gate of its build judged maps of '{gate.get('method')}' by other settings or another method"
    return ""


def _text(report: Mapping[str, Any], what: str, more: str) -> str:
    """The verdict as a sentence. more: what is to be done for more photos."""
    verdict = report.get("verdict", "passed" if report["passed"] else "failed")
    if verdict == "passed":
        return f"compared with {what}: passed, its explanations may stand for the model's"
    if verdict == "failed":
        reasons = "; ".join(one.get("text", "") for one in report.get("failures", ()))
        return f"compared with {what}: FAILED, its explanations do not stand for the model's: {reasons}"
    needed = report.get("photos_needed")
    enough = "too close to a limit to say how many would decide" if needed is None else f"about {needed} would decide"
    return f"compared with {what}: UNDECIDED, {enough} ({more}; or say 'against: undecided' in --limits)"


def _sample(rows: Iterable[Row], plan: Plan) -> tuple[dict[str, str], int]:
    """Name -> hash of the photos that are compared, in an order of chance that the rows' order does not change; and how
    many contents there are."""
    contents: dict[str, str] = {}
    for row in rows:
        if not row["error"]:
            name = contents.get(row["sha256"])
            contents[row["sha256"]] = row["image"] if name is None else min(name, row["image"])
    order = sorted(contents, key=lambda sha256: hashlib.sha256(f"{plan.seed} {sha256}".encode()).digest())
    return {contents[sha256]: sha256 for sha256 in order[: plan.against_photos]}, len(contents)


def _digest(sample: Mapping[str, str]) -> str:
    return hashlib.sha256("".join(f"{name}\0{sha256}\n" for name, sha256 in sample.items()).encode()).hexdigest()


def _thresholds(model: Path) -> Thresholds:
    """The limits that the build of a product has judged it by; of other files, those of their precision."""
    from ...runtime.contract.modelfile import read_spec

    manifest = Manifest.read(model)
    if manifest is None:
        return Thresholds.for_precision(read_spec(model).precision)
    said = (manifest.gate or {}).get("thresholds")
    return Thresholds.from_mapping(said if isinstance(said, dict) else {}, manifest.precision)


def _kept(place: Path, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """The report of the same comparison, where the folder has one."""
    if not place.exists():
        return None
    try:
        known = read_json(place, AuditError, most=_MOST)
    except CfcamError:
        return None
    same = isinstance(known, dict) and known.get("schema") == SCHEMA and known.get("asked") == asked
    return known["report"] if same and _is_report(known.get("report")) and place.with_name(PAGE).exists() else None


def _is_report(value: Any) -> bool:
    """Whether a value has what is read of a comparison: somebody may have edited the file that it is from."""
    try:
        cells = [cell for row in table_rows(value) for cell in row["cells"]]
        _text(value, "", "")
        return value["verdict"] in _WORSE and all(cell is None or isinstance(cell, int | float) for cell in cells)
    except (AttributeError, KeyError, TypeError):
        return False


def _verified(
    model: Path,
    reference: Path,
    plan: Plan,
    names: Sequence[str],
    source: Source,
    thresholds: Thresholds,
    progress: Callable[[int, int], None] | None,
) -> VerifyReport:
    from ..verify import verify

    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cfcam-against-")))
        if plan.max_pixels is not None:
            stack.enter_context(pixel_limit(plan.max_pixels))
        numbered = enumerate(source.photos(frozenset(names)))
        files = {photo.name: photo.as_file(scratch / f"{number:06}") for number, photo in numbered}
        return verify(
            model,
            reference,
            [files[name] for name in names],
            thresholds,
            method=plan.method,
            settings=dict(plan.settings) or None,
            provider=plan.provider,
            seed=plan.seed,
            progress=progress,
        )
