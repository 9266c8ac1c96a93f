"""The independent answer: eager PyTorch, on the user's own module, by autograd.

The value that is the target layer need not be the result of a module, so it is recognised
by its contents: while the module runs, every call of a torch function is watched, and the
first result that equals the captured value becomes the leaf. Nothing of the trace is used
but those numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode

from ..axes.layout import NCHW, Layout
from ..errors import ProofError
from ..wording import first_line
from .capture import evaluation_mode
from .fold import copy_graph, get_tensor
from .outputs import by_class, named_tensors

__all__ = ["Doubles", "Eager", "in_float64", "run_eager", "value_of"]


class Eager:
    """One eager run: flat outputs, the layer's value and the function that differentiates it."""

    def __init__(
        self, outputs: list[torch.Tensor], scores: torch.Tensor, leaf: torch.Tensor, layout: Layout = NCHW
    ) -> None:
        self.outputs, self.leaf = outputs, leaf
        self._scores, self._layout = scores, layout

    @property
    def activations(self) -> torch.Tensor:
        """The layer's value as (N, C, H, W)."""
        return self._layout.to_nchw(self.leaf.detach())

    def gradient(self, classes: torch.Tensor) -> torch.Tensor:
        """Gradient (N, C, H, W) of each image's score of its class (N,)."""
        return self._layout.to_nchw(self.own_gradient(classes))

    def own_gradient(self, classes: torch.Tensor) -> torch.Tensor:
        """The same in the model's own layout."""
        picked = self._scores.gather(1, classes[:, None])
        try:
            (gradient,) = torch.autograd.grad(picked.sum(), self.leaf, retain_graph=True)
        except RuntimeError as error:  # in-place operators that overwrite what a gradient needs
            raise ProofError(f"PyTorch itself cannot differentiate this module: {first_line(error)}") from error
        return gradient


def run_eager(
    module: nn.Module,
    image: torch.Tensor,
    layer: torch.Tensor,
    scores: torch.Tensor,
    layout: Layout = NCHW,
    doubles: Doubles | None = None,
) -> Eager:
    """Run `module` on `image` (N, C, H, W), in the dtype of `image`.

    layer, scores: the values to recognise, from `value_of` on the same image. doubles: weights in
    float64 that exist already, for an image in float64.
    Raises `ProofError` when the eager run never makes such a value.
    """

    def cast(tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.detach()
        if doubles is not None:
            return doubles(tensor)
        return tensor.to(image.dtype) if tensor.is_floating_point() else tensor

    state: dict[str, torch.Tensor] = {
        name: cast(t) for name, t in [*module.named_parameters(), *module.named_buffers()]
    }
    watch = _Watch(layer, by_class(scores))
    try:
        with evaluation_mode(module), watch:
            result = torch.func.functional_call(module, state, (image,))
    except RuntimeError as error:
        kind = str(image.dtype).removeprefix("torch.")
        raise ProofError(
            f"{type(module).__name__} does not run in {kind}, in which its gradients are proved ({first_line(error)}): "
            "make what forward creates in the dtype of its input (dtype=image.dtype)"
        ) from error
    outputs = [tensor.detach() for _, tensor in named_tensors(result)]
    if watch.leaf is None or watch.scores is None:
        missing = "layer" if watch.leaf is None else "score"
        raise ProofError(
            f"the eager run of {type(module).__name__} makes no value equal to the traced {missing} "
            f"{tuple((layer if watch.leaf is None else scores).shape)}: the trace is not this module"
        )
    return Eager(outputs, watch.scores, watch.leaf, layout)


class _Watch(TorchFunctionMode):
    """Finds two values by content: the first equal to `layer`, the last equal to `scores`."""

    def __init__(self, layer: torch.Tensor, scores: torch.Tensor) -> None:
        super().__init__()
        self._layer, self._wanted_scores = layer, scores
        self.leaf: torch.Tensor | None = None
        self.scores: torch.Tensor | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        func = _EXACT.get(func, func)
        options: dict[str, Any] = kwargs or {}
        if self._layer.dtype == torch.float64 and func not in _CONSTANTS:
            # "Upcasts" to float32, as in many attentions, would throw the precision away.
            func = torch.Tensor.double if func is torch.Tensor.float else func
            args, options = _swap_dtype(args), _swap_dtype(options)
        result = func(*args, **options)
        if not isinstance(result, torch.Tensor) or not result.is_floating_point():
            return result
        if func in _BATCH_NORMS and result.requires_grad:
            result.register_hook(torch.Tensor.contiguous)
        if self.leaf is None and _equal(result, self._layer):
            self.leaf = result.detach().clone().requires_grad_(True)
            return self.leaf.clone()  # in-place operators may follow, and a leaf refuses them
        if self.leaf is not None and result.requires_grad and result.numel() == self._wanted_scores.numel():
            flat = result.reshape(len(result), -1) if result.dim() else result
            if _equal(flat, self._wanted_scores):
                self.scores = flat
        return result


def _exact_hardsigmoid(value: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    """PyTorch's float64 kernel differentiates with float32's 1/6, which is off by 3e-8."""
    return nn.functional.relu6(value + 3) / 6


_EXACT: dict[Callable[..., Any], Callable[..., Any]] = {nn.functional.hardsigmoid: _exact_hardsigmoid}

# Their backward on the CPU (PyTorch 2.13) takes the gradient of a batch of one for channels-last when its
# strides are, whatever those of the input, and is then wrong by more than its own size.
_BATCH_NORMS: set[Callable[..., Any]] = {nn.functional.batch_norm, torch.batch_norm}

# A constant written in the code is rounded to its dtype, in the trace as well.
_CONSTANTS: set[Callable[..., Any]] = {torch.tensor, torch.as_tensor}


def _equal(value: torch.Tensor, wanted: torch.Tensor) -> bool:
    if value.shape != wanted.shape or value.dtype != wanted.dtype:
        return False
    tolerance = 1e-3 if value.dtype == torch.float32 else 1e-9
    with torch._C.DisableTorchFunction():
        return bool((value.detach() - wanted).abs().max() <= tolerance * wanted.abs().max())


def value_of(graph: fx.GraphModule, image: torch.Tensor, *nodes: fx.Node) -> list[torch.Tensor]:
    """What `nodes` hold when `graph` runs on `image`."""

    class Reader(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if n in wanted:
                wanted[n] = result
            return result

    wanted: dict[fx.Node, Any] = dict.fromkeys(nodes)
    with torch.no_grad():
        Reader(graph).run(image)
    return [wanted[node] for node in nodes]


class Doubles:
    """Tensors in float64, each made once: a module and the program traced from it share their weights."""

    def __init__(self) -> None:
        self._made: dict[tuple[Any, ...], tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point():
            return tensor
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if key not in self._made or not tensor.numel():
            self._made[key] = (tensor, tensor.double())  # the tensor is kept, so that its address stays its own
        return self._made[key][1]


def in_float64(
    graph: fx.GraphModule, *nodes: fx.Node, doubles: Doubles | None = None
) -> tuple[fx.GraphModule, list[fx.Node]]:
    """The same program in float64, and what `nodes` are called in it. doubles: weights that exist already."""
    doubles = doubles or Doubles()
    copied, mapping = copy_graph(graph)
    double: dict[str, torch.Tensor] = {}
    for node in copied.graph.nodes:
        if node.op == "get_attr":
            name = str(node.target)
            double[name] = doubles(get_tensor(graph, name).detach())
        node.args = _swap_dtype(node.args)
        node.kwargs = _swap_dtype(node.kwargs)
        value = node.meta.get("val")
        if isinstance(value, FakeTensor) and value.is_floating_point():
            with value.fake_mode:
                node.meta["val"] = value.double()
    wide = fx.GraphModule(nn.Module(), fx.Graph())
    for name, tensor in double.items():
        wide.register_buffer(name.replace(".", "_"), tensor)
    for node in copied.graph.nodes:
        if node.op == "get_attr":
            node.target = str(node.target).replace(".", "_")
    wide.graph = copied.graph
    # Assigning a graph copies nothing; the nodes stay the ones that `mapping` knows.
    return wide, [mapping[node] for node in nodes]


def _swap_dtype(argument: Any) -> Any:
    if isinstance(argument, list | tuple):
        return type(argument)(_swap_dtype(a) for a in argument)
    if isinstance(argument, dict):
        return {k: _swap_dtype(v) for k, v in argument.items()}
    return torch.float64 if argument is torch.float32 else argument
