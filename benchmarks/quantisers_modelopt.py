"""Quantise one plain ONNX model with NVIDIA's ModelOpt: what quantisers.py runs in ModelOpt's own environment.

    python quantisers_modelopt.py float.onnx images.npy max out.onnx [NODE ...]

images.npy: (N, C, H, W). The nodes that are named stay float. Activations become int8 with zero point 0, weights are
stored as int8 per channel.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import onnx
from modelopt.onnx.quantization import quantize  # pyright: ignore[reportMissingImports] - another environment's


def main(model: str, images: str, method: str, output: str, *float_nodes: str) -> None:
    name = onnx.load(model).graph.input[0].name
    quantize(
        model,
        quantize_mode="int8",
        calibration_data={name: np.load(images)},
        calibration_method=method,
        calibration_eps=["cpu"],
        nodes_to_exclude=[f"^{re.escape(node)}$" for node in float_nodes],
        high_precision_dtype="fp32",  # its default rounds the rest to float16
        dq_only=True,  # int8 weights in the file; otherwise float32 ones with a QuantizeLinear behind each
        output_path=output,
        log_level="ERROR",
    )
    if not Path(output).is_file():
        raise SystemExit(f"ModelOpt wrote no {output}")


if __name__ == "__main__":
    main(*sys.argv[1:])
