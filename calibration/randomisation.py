"""Parameter randomisation: does the map depend on what the network has learned?

Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, arXiv 1810.03292. Weights are drawn anew, layer by
layer from the head downwards, and the map is compared with that of the trained network. A map that stays as it is
explains something else than the model.

The gradients inside an exported file come from the same weights as its scores. So the plain network is cut out of the
file, randomised, and differentiated again: forward and backward stay one network. No PyTorch.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from onnx import ModelProto, numpy_helper

from ..export.graph import Graph, load_model
from ..export.precision.plain_model import PlainModel, plain_model
from ..export.reverse import differentiate, per_image
from ..export.reverse.score import find_score, score_of
from ..export.tail.cutting import open_exported
from ..export.writing import set_spec, write_model
from ..runtime.closing import Closing
from ..runtime.contract.modelfile import read_spec
from ..runtime.contract.spec import CamSpec, OutputSpec
from ..runtime.errors import ArrayError, MethodError, ModelFileError
from ..runtime.explainer import Explainer
from ..runtime.files import scratch_folder
from .measures.access import EngineAccess
from .measures.base import Explain, Maps, Measure, check_batch, explained
from .measures.noise import agreement
from .statistics import mean_of_known

__all__ = [
    "Randomisation",
    "RandomisedNetworks",
    "WeightLayer",
    "randomised",
    "stage_layers",
    "weight_layers",
]

Order = Literal["cascading", "independent"]

#: Operators with weights, and which of their inputs are.
_WEIGHTS = {"Conv": (1, 2), "ConvTranspose": (1, 2), "Gemm": (1, 2), "MatMul": (0, 1)}


@dataclasses.dataclass(frozen=True)
class WeightLayer:
    """A node with weights. name: of the node's output. tensors: the initializers, its bias included."""

    name: str
    operator: str
    tensors: tuple[str, ...]


def weight_layers(model: ModelProto, score: OutputSpec | None = None) -> list[WeightLayer]:
    """The layers with weights on the way to the class scores, from the head downwards.

    Kernels and matrices with their biases, those of convolutions, Gemm and MatMul. The parameters of batch
    normalisation stay (unless an exporter folded them into a kernel): they are statistics of the data, and a
    negative variance makes no network.
    """
    graph = open_exported(model)
    found_score = find_score(graph) if score is None else score_of(graph, score)
    on_way = graph.ancestors([found_score.value])
    found: list[WeightLayer] = []
    taken: set[str] = set()
    for node in reversed(graph.nodes):
        if node.op_type not in _WEIGHTS or node.output[0] not in on_way:
            continue
        names = [node.input[i] for i in _WEIGHTS[node.op_type] if i < len(node.input)]
        tensors = [n for n in names if n in graph.constants and graph.is_float(n) and n not in taken]
        tensors += [n for n in _added_bias(graph, node.output[0]) if n not in taken]
        if any(len(graph.constants[n].dims) > 1 for n in tensors):
            taken.update(tensors)
            found.append(WeightLayer(node.output[0], node.op_type, tuple(tensors)))
    return found


def _added_bias(graph: Graph, value: str) -> list[str]:
    """The constant vector that an Add puts onto the value of a MatMul, as Keras' dense layers are converted."""
    readers = graph.consumers.get(value, [])
    maker = graph.producers[value]
    if maker.op_type != "MatMul" or len(readers) != 1 or readers[0].op_type != "Add":
        return []
    return [n for n in readers[0].input if n in graph.constants and graph.is_float(n)]


def randomised(model: ModelProto, layers: Sequence[WeightLayer], seed: int = 0) -> ModelProto:
    """A copy of `model` in which the tensors of `layers` are drawn anew: normal, each with its own mean and spread.

    A tensor's draw depends on `seed` and its name only, so that the layers that two calls share become the same.
    """
    wanted = {name for layer in layers for name in layer.tensors}
    graph = open_exported(model)
    for name in wanted:
        old = graph.constant(name)
        if old is None:
            raise ArrayError(f"randomise: the model has no weight '{name}'")
        random = np.random.default_rng([seed, *name.encode()])
        values = random.normal(old.mean(dtype=np.float64), old.std(dtype=np.float64), old.shape)
        graph.constants[name] = numpy_helper.from_array(values.astype(old.dtype), name)
    return graph.to_model()


def stage_layers(
    layers: Sequence[WeightLayer], stages: int, order: Order = "cascading"
) -> list[tuple[str, list[WeightLayer]]]:
    """(name, layers to randomise) of at most `stages` stages, evenly spread from the head to the first layer.

    cascading: everything from the head down to the layer that the stage is named after; independent: that layer alone.
    Raises `MethodError`.
    """
    if stages < 1 or order not in ("cascading", "independent"):
        raise MethodError(
            f"randomisation: expected at least 1 stage, cascading or independent, got {stages}, {order!r}"
        )
    if not layers:
        raise MethodError("randomisation: no layer with weights leads to the class scores")
    last = len(layers) - 1
    picked = sorted({round(i * last / max(stages - 1, 1)) for i in range(stages)})
    return [(layers[i].name, list(layers[: i + 1]) if order == "cascading" else [layers[i]]) for i in picked]


class RandomisedNetworks(Closing):
    """The network of an exported file, randomised in stages, each differentiated again and open in ONNX Runtime.

    path: the ``.cam.onnx`` file. order, stages, seed: see `stage_layers` and `randomised`. threads: for ONNX Runtime.
    progress: told the name of each stage. The files are temporary and go with `close`. All methods share them.

    names: of the stages, the layer that each reaches. explainers: one per stage.

    Not proved as an export is: the rules that differentiate are the same, and only the numbers have changed.
    Raises `ModelFileError`, `MethodError`, `LayerError`, and `ExportError` where there is no derivative rule.

    >>> with RandomisedNetworks("dogs.cam.onnx", stages=3) as networks:     # doctest: +SKIP
    ...     measure = Randomisation(networks.explains("gradcam"), networks.names)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        order: Order = "cascading",
        stages: int = 6,
        seed: int = 0,
        threads: int | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        spec = read_spec(path)
        if spec.precision == "int8":
            raise ModelFileError(
                f"{os.fspath(path)}: is quantised, and the spread of quantised weights cannot be drawn"
            )
        plain = plain_model(load_model(path), spec, fold=False)
        chosen = stage_layers(weight_layers(plain.model, spec.output), stages, order)
        self.names = [name for name, _ in chosen]
        self.explainers: list[Explainer] = []
        with ExitStack() as stack:
            folder = stack.enter_context(scratch_folder())
            for index, (name, layers) in enumerate(chosen):
                if progress is not None:
                    progress(name)
                file = Path(folder) / f"{index}.cam.onnx"
                _export_again(dataclasses.replace(plain, model=randomised(plain.model, layers, seed)), spec, file)
                self.explainers.append(stack.enter_context(Explainer(file, threads=threads)))
            self._opened = stack.pop_all()

    def explains(self, method: str | None = None, settings: object = None) -> list[Explain]:
        """The method on each stage's network, in the form of the file itself. Raises `MethodError`.

        The maps that they are compared with must be of that form too: of the same settings. With
        ``{"contrast": 0}`` in both, the contrast, which moves with the weights as well, has no part in the figure.
        """
        return [EngineAccess(explainer, method, settings).explain for explainer in self.explainers]

    def close(self) -> None:
        self._opened.close()


def _export_again(plain: PlainModel, spec: CamSpec, path: Path) -> None:
    """Differentiate `plain` at the target layers and write it as an exported file."""
    made = differentiate(
        plain.model,
        plain.layers,
        spec.output,
        view=plain.views,
        detail=plain.detail,
        rivals=spec.layer.rivals is not None,
        classes=per_image(spec.columns),
        target=spec.target,
        chosen=spec.chosen,
    )
    layers = tuple(
        dataclasses.replace(
            old, value=new.value, pooled=new.pooled, activations=new.activations, gradients=new.gradients
        )
        for old, new in zip(spec.layers, made.layers, strict=True)
    )
    detail = spec.layer.detail
    if detail is not None and made.detail is not None:
        detail = dataclasses.replace(detail, value=made.detail.value, activations=made.detail.activations)
    layers = (dataclasses.replace(layers[0], detail=detail, rivals=made.rivals), *layers[1:])
    output = dataclasses.replace(spec.output, score=made.score.value)
    set_spec(made.model, dataclasses.replace(spec, layers=layers, output=output, tail=None))
    write_model(made.model, path)


class Randomisation(Measure):
    """Spearman's correlation of the map with that of the randomised network, same class, per stage.

    explains: images and classes -> maps, one for each stage, from the head downwards: `RandomisedNetworks.explains`,
    or the same callable again and again for a baseline that uses no network. names: of the stages.

    Columns, lower is better: ``randomisation``, the mean over the stages; ``randomised_head``, the first stage;
    ``randomised_all``, the last (of a cascade: no learned weight is left). `stages` has every single one. A map that
    was lost (constant) counts 0; NaN where the clean map is constant. The maps are not negative, so that the
    paper's two variants, with and without absolute values, are one.

    Rewards maps that follow the network's weights. Gamed by noise, which passes with 0, and by any
    instability: a good figure says nothing about the map being right, only a bad one says that it is wrong. Not to be
    ranked by: how far a map *can* change is the architecture's affair too (a random convolution still sees edges;
    Yona and Greenfeld 2021, arXiv 2110.14297; Binder et al., CVPR 2023), and maps that share a bias towards the
    centre correlate whatever the weights are: the centre baseline, with 1, is the row to see that by.
    """

    def __init__(self, explains: Sequence[Explain], names: Sequence[str]) -> None:
        super().__init__({"randomisation": "lower", "randomised_head": "lower", "randomised_all": "lower"})
        if not explains or len(explains) != len(names):
            raise ArrayError(
                f"randomisation: {len(explains)} networks and {len(names)} names, expected as many, from 1 on"
            )
        self._explains = tuple(explains)
        self.names = tuple(names)
        self._rows: list[NDArray[np.float64]] = []

    def similarities(self, images: ArrayLike, classes: ArrayLike, maps: Maps) -> NDArray[np.float64]:
        """(N, stages), without keeping them. images: (N, C, H, W); maps of the network itself, (N, H, W)."""
        x, targets, clean = check_batch(images, classes, maps)
        found = np.empty((len(x), len(self._explains)))
        for stage, explain in enumerate(self._explains):
            again = explained(explain, x, targets)
            found[:, stage] = [agreement(a, b) for a, b in zip(clean, again, strict=True)]
        return found

    def update(self, images: ArrayLike, classes: ArrayLike, maps: Maps) -> dict[str, NDArray[np.float64]]:
        """As `similarities`, kept. Returns N values per column."""
        found = self.similarities(images, classes, maps)
        self._rows.append(found)
        return self._keep(randomisation=found.mean(axis=1), randomised_head=found[:, 0], randomised_all=found[:, -1])

    def stages(self) -> dict[str, float]:
        """Mean over the images of each stage, in order; NaN where there is none."""
        rows = np.concatenate([np.empty((0, len(self.names))), *self._rows])
        return {name: mean_of_known(column) for name, column in zip(self.names, rows.T, strict=True)}

    def reset(self) -> None:
        super().reset()
        self._rows.clear()
