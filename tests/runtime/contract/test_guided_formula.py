"""The formula that docs/contract.md gives for programs of other languages, on what a file computes."""

import numpy as np
import onnxruntime
from cfcam.runtime import Explainer
from cfcam.runtime.cam import normalise
from cfcam.runtime.methods.numerics.resizing import resize


def test_the_contracts_formula_is_the_explainers_map_without_clusters(guided_path):
    image = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(guided_path), providers=["CPUExecutionProvider"])
    names = ["cam_activations", "cam_gradients", "cam_rivals", "cam_detail"]
    found = session.run(names, {"image": image, "cam_target": np.array([1])})
    a, g, r, b = (np.asarray(one)[0] for one in found)
    coarse = ((g - 0.3 * r) * a).sum(axis=0)  # (8, 8)
    pooled = b.reshape(8, 8, 2, 8, 2).mean(axis=(2, 4))
    weights = np.array([np.corrcoef(coarse.ravel(), one.ravel())[0, 1] if one.std() else 0 for one in pooled])
    live = [k for k in range(8) if b[k].any()]
    gate = np.maximum(sum(weights[k] * b[k] / np.linalg.norm(b[k]) for k in live), 0)
    ours = resize(np.maximum(coarse, 0)[None], (16, 16))[0] * (0.3 + 0.7 * gate / gate.max())
    with Explainer(guided_path, threads=1) as explainer:
        explained = explainer.explain(image[0], 1, settings={"clustering": "none", "shrinkage": 0})
    assert explained.detail == "early"
    np.testing.assert_allclose(explained.map, normalise(ours.astype(np.float32), 32), atol=1e-5)
