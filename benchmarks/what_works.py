"""What works and what is refused: `docs/what-works.md`, from small models that are exported and explained, row by row.

    python benchmarks/what_works.py --output docs/what-works.md

A row works where the file passes its proof, has the layer and scores that it should, and shows the probability that
NumPy makes of the model's own logits; it is refused where the sentence is the expected one. Anything else is printed,
and the exit code is 1. A minute or two, on one core; PyTorch is needed.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import what_works_producers  # noqa: F401  (adds its rows)
from cfcam.export.report import ExportReport
from cfcam.runtime import CfcamError, Explainer
from cfcam.runtime.files import atomic_path
from onnx import helper
from PIL import Image
from what_works_rows import GROUPS, ROWS, Row

__all__ = ["main"]

HEAD = """# What works

Written by `python benchmarks/what_works.py --output docs/what-works.md`, which exports and explains a small model for
each row, and fails where one does something else than it says; do not edit. Options are those of
[`cfcam export`](cli.md#cfcam-export). Whole architectures: [the zoo](results/zoo.md). Single operators:
[operators](operators.md).
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="the page to write; without it the table is printed")
    parser.add_argument("--only", default="", help="rows whose text contains this")
    asked = parser.parse_args()
    logging.disable(logging.WARNING)  # quantisers have advice
    warnings.simplefilter("ignore")
    onnxruntime.set_default_logger_severity(3)
    wrong, lines = 0, {group: [] for group in GROUPS}
    for row in ROWS:
        if asked.only not in row.what:
            continue
        answer, fault = _tried(row)
        wrong += fault is not None
        print(f"{row.group}: {row.what}: {answer if fault is None else 'WRONG: ' + fault}", file=sys.stderr, flush=True)
        lines[row.group].append(f"| {row.what} | {answer} |")
    tables = [
        f"\n## {group}\n\n| what | answer |\n|---|---|\n" + "\n".join(rows) for group, rows in lines.items() if rows
    ]
    page = HEAD + "\n".join(tables) + "\n"
    if asked.output is None:
        print(page)
    elif not wrong:
        with atomic_path(asked.output) as path:
            path.write_text(page, encoding="utf-8")
    return 1 if wrong else 0


def _tried(row: Row) -> tuple[str, str | None]:
    """(the cell of the table, what is not as it should be)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            report = row.run(folder)
        except CfcamError as error:
            said = str(error).replace(f"{folder}/", "").replace("|", "\\|")
            return f"refused: {said}", None if row.refused and row.refused in said else said
        except Exception as error:
            return "", f"{type(error).__name__}: {error}"
        spec = report.spec
        grid = f"{spec.layer.grid[0]}x{spec.layer.grid[1]}"
        cell = f"works: layer `{spec.layer.name}`, {grid}; scores: {spec.output.kind}"
        if row.refused:
            return cell, "was expected to be refused"
        if (spec.layer.grid, spec.output.kind) != (row.grid, row.score):
            return cell, f"{cell}, expected {row.grid} and {row.score}"
        return cell, _explained(report, folder)


def _explained(report: ExportReport, folder: Path) -> str | None:
    """What is wrong with the explanation of a photo."""
    photo = Image.fromarray(np.random.default_rng(3).integers(0, 255, (40, 40, 3), np.uint8))
    with Explainer(report.path) as explainer:
        if explainer.spec.input.color == "channels":
            photo = np.random.default_rng(3).integers(0, 255, (40, 40, len(explainer.spec.input.mean)), np.uint8)
        found = explainer.explain(photo)
        tensor = np.asarray(explainer.prepare(photo).tensor)
        if not np.isfinite(found.map).all():
            return "the map is not finite"
        if not (folder / "net.onnx").exists() or found.probability is None:
            return None
        expected = _probability(folder / "net.onnx", tensor.reshape(1, *tensor.shape[-3:]), explainer.spec.output.kind)
        coarse = explainer.spec.precision != "float32" or explainer.spec.output.partial
        if abs(found.probability - expected) > (2e-2 if coarse else 1e-4):
            return f"shows a probability of {found.probability:.4f}, NumPy says {expected:.4f}"
    return None


def _probability(path: Path, image: np.ndarray, kind: str) -> float:
    """The largest probability: that of the model's "shares", or else what NumPy makes of its "logits"."""
    model = onnx.load(path)
    made = [output for node in model.graph.node for output in node.output]
    value = "shares" if "shares" in made else "logits"
    del model.graph.output[:]
    model.graph.output.append(helper.make_empty_tensor_value_info(value))
    if value == "logits":  # what stands behind them need not run
        end = next(place for place, node in enumerate(model.graph.node) if value in node.output)
        del model.graph.node[end + 1 :]
    image_alone = [given for given in model.graph.input if given.name == "image"]
    del model.graph.input[:]
    model.graph.input.extend(image_alone)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    batch = session.get_inputs()[0].shape[0]
    feeds = {"image": np.repeat(image, batch, axis=0) if isinstance(batch, int) and batch > 1 else image}
    logits = np.asarray(session.run([value], feeds)[0], np.float64)[0]
    if value == "shares":
        return float(logits.max())
    if kind == "binary":
        return float(1 / (1 + np.exp(-abs(logits[0]))))
    if kind == "sigmoid":
        return float(1 / (1 + np.exp(-logits.max())))
    powers = np.exp(logits - logits.max())
    return float(powers.max() / powers.sum())


if __name__ == "__main__":
    sys.exit(main())
