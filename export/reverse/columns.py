"""Several classes of each image in one inference: a class input (N, K) instead of (N,).

The forward pass is the model's own. In the backward pass the columns are more rows: N * K of them, an image's K next to
each other. The pass is written for N rows, as ever, and then widened: what it computes from the classes has N * K rows
by itself, and what it reads of the forward pass is repeated K times for each image. A value whose rows cannot be told
(they were folded into other axes, or are counted somewhere) is computed once more from repeated ones, which is right
for any model that treats the images of a batch apart.

Where the batch is fixed, its size stands in the graph's constants, and there is no other number of rows. The backward
pass is then written once for each column, and the results are put beside each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import NodeProto, TensorProto, helper

from ...runtime.contract.columns_spec import MOST_RANKS
from ..errors import ExportError
from ..graph import Graph, Shape
from ..graph.graph import Dim, reads, rename_inputs
from .emitter import Emitter, Value
from .score import Score

__all__ = ["Columns", "ranks_of"]

#: Name of the free dimension.
_FREE = "classes"
#: So many backward passes may stand in a graph.
_MOST_PASSES = 100


def ranks_of(score: Score) -> int:
    """How far down the file knows the order of the classes."""
    return min(score.classes, MOST_RANKS)


class Columns:
    """The class input (N, K) of a graph, and the widening of what was written for its rows.

    rows: the explained classes for which the backward pass is written, once for each entry. With a free batch there is
    one entry, int64 (N * K,), those of all columns one below the other, and the pass is written as though they were
    (N,); with a fixed batch there are K, int64 (N,). classes: the same (N, K), where a class that is not there stays
    as it was asked for, or if `guarded` is another one, so that it stops no batch.
    """

    def __init__(
        self, graph: Graph, emitter: Emitter, score: Score, target: str, count: int | None, *, guarded: bool = False
    ) -> None:
        self._graph, self._emitter, self._target = graph, emitter, target
        self._images = list(graph.input_names)
        self._batch = _batch(graph, count)
        if count is not None and count > score.classes:
            raise ExportError(f"{count} classes per image: the model has {score.classes}; ask for at most as many")
        #: How many there are: a number, or a dimension's name.
        self.count: Dim = count if count is not None else _free_name(graph)
        graph.inputs.append(helper.make_tensor_value_info(target, TensorProto.INT64, [self._batch, self.count]))
        graph.types[target] = (TensorProto.INT64, (self._batch, self.count))
        graph.names.add(target)
        self.classes = self._chosen(score, guarded)
        if isinstance(self._batch, int) and isinstance(self.count, int):
            parts = [emitter.slice(self.classes, 1, k, k + 1, length=1) for k in range(self.count)]
            self.rows = [emitter.squeeze(part, [1]) for part in parts]
        else:
            self.rows = [emitter("Reshape", self.classes, emitter.ints([-1]), shape=(self._batch,))]
        self._wide: dict[str, str] = {}

    def _chosen(self, score: Score, guarded: bool) -> Value:
        """(N, K): where a column holds -r the class of rank r, else what it holds.

        A rank that the file does not know becomes a class that is not there: as an index from the end it would be
        another class's. Guarded, it becomes any class, and so does a class that is not there.
        """
        emitter, graph = self._emitter, self._graph
        wanted, ranks = emitter.value(self._target), ranks_of(score)
        # Where the scores do not determine the output, as the mean of several views, the order is the output's.
        value = emitter.value(score.value if score.exact else score.output)
        if value.shape is None or len(value.shape) != 2:
            value = emitter.reshape(value, value, (self._batch, score.classes))
        if graph.elem_type(value.name) != TensorProto.FLOAT:
            value = emitter.cast(value, TensorProto.FLOAT)
        _, order = emitter.many(
            "TopK", value, emitter.ints([ranks]), outputs=2, shapes=[(self._batch, ranks)] * 2, axis=1
        )
        place = emitter("Min", emitter("Max", -1 - wanted, emitter.ints([0])), emitter.ints([ranks - 1]))
        ranked = emitter("GatherElements", order, place, axis=1, shape=(self._batch, self.count))
        if guarded:
            return emitter.where(~(wanted < 0) & (wanted < score.classes), wanted, ranked)
        is_rank = (wanted < 0) & (wanted > -ranks - 1)
        no_rank = emitter.where(wanted < 0, emitter.ints([score.classes]), wanted)
        return emitter.where(is_rank, ranked, no_rank)

    def beside(self, values: Sequence[Value]) -> Value:
        """What was made for each entry of `rows`, (N, ...), beside each other, (N, K, ...); a single one as it is."""
        if not self._is_stacked:
            return values[0]
        return self._emitter("Concat", *(self._emitter.unsqueeze(value, [1]) for value in values), axis=1)

    @property
    def _is_stacked(self) -> bool:
        return isinstance(self._batch, int)

    def shape(self, dims: Shape) -> Shape:
        """Of an output whose shape for one class is `dims` (N, ...), before `widen`."""
        return (dims[0], self.count, *dims[1:]) if self._is_stacked else dims

    def widen(self, outputs: Mapping[str, Shape], chosen: str) -> None:
        """Give `outputs`, written for N rows, N * K of them, as (N, K, ...); their shapes for N rows are given.

        Those that were put `beside` each other are so already.

        chosen: what the output with the classes is called by now. Afterwards the graph's nodes are in order again.
        """
        graph, emitter = self._graph, self._emitter
        if self._is_stacked:
            return
        self.classes = emitter.value(chosen)
        rows = self.rows[0].name
        self._dependent = graph.descendants([rows])
        self._of_image = graph.descendants(self._images)
        self._of_pixels = self._reached_by_data()
        before = list(graph.nodes)
        for node in before:
            if rows not in node.output and not self._dependent.isdisjoint(node.output):
                rename_inputs(node, {name: wide for name in reads(node) if (wide := self._widened(name)) != name})
        for name in self._dependent:
            kind, shape = graph.types.get(name, (TensorProto.FLOAT, None))
            graph.types[name] = (kind, _many_rows(shape, self._batch))
        graph.reindex()
        for name, dims in outputs.items():
            raw = graph.fresh(f"{name}_rows")
            graph.rename(name, raw)
            flat = emitter.value(self._widened(raw))
            if all(isinstance(d, int) for d in (self.count, *dims[1:])):
                target = emitter.ints([-1, *(int(d or 0) for d in (self.count, *dims[1:]))])
            else:
                target = emitter("Concat", emitter("Shape", self.classes), emitter.ints(_ints(dims[1:])), axis=0)
            made = emitter("Reshape", flat, target, shape=(dims[0], self.count, *dims[1:]))
            graph.rename(made.name, name)
        _sort(graph)

    def _widened(self, name: str) -> str:
        """The value of N * K rows that takes the place of `name`."""
        if name in self._dependent or name not in self._of_image:
            return name
        if name not in self._wide:
            if self._has_rows(name):
                self._wide[name] = self._repeated(name)
            else:
                self._compute_again(self._graph.producers[name])
        return self._wide[name]

    def _has_rows(self, name: str) -> bool:
        """Whether the value's first axis is the batch, and its rows are told by their image alone.

        Numbers may count rows, and so may masks that were made of them.
        """
        shape, kind = self._graph.shape(name), self._graph.elem_type(name)
        if not shape or shape[0] != self._batch or self._batch in shape[1:] or None in shape[1:]:
            return False
        if name in self._images:
            return True
        if name not in self._of_pixels:
            return False
        if kind == TensorProto.BOOL:
            read = [n for n in reads(self._graph.producers[name]) if n in self._of_image]
            return all(self._graph.is_float(n) and self._has_rows(n) for n in read)
        return self._graph.is_float(name)

    def _reached_by_data(self) -> set[str]:
        """The values that an image's pixels can change, not its size alone."""
        found = set(self._images)
        for node in self._graph.nodes:
            if node.op_type not in ("Shape", "Size") and not found.isdisjoint(reads(node)):
                found.update(name for name in node.output if name)
        return found

    def _repeated(self, name: str) -> str:
        """Each row K times."""
        emitter = self._emitter
        value = emitter.value(name)
        sizes = value.dims[1:]
        apart = emitter.unsqueeze(value, [1])
        many = emitter("Expand", apart, self._times(value.rank + 1, 1), shape=(self._batch, self.count, *sizes))
        if all(isinstance(d, int) for d in sizes):
            target = emitter.ints([-1, *_ints(sizes)])
        else:
            rest = emitter.slice(emitter("Shape", value), 0, 1, value.rank, length=value.rank - 1)
            target = emitter("Concat", emitter.ints([-1]), rest, axis=0)
        return emitter("Reshape", many, target, shape=(self._rows_name, *sizes)).name

    def _compute_again(self, node: NodeProto) -> None:
        """A copy of the node that reads widened values."""
        graph = self._graph
        if node.op_type == "Shape" and not node.attribute and self._has_rows(node.input[0]):
            shape = self._emitter.value(node.output[0])
            times = self._times(len(graph.shape(node.input[0]) or ()), 0)
            self._wide[node.output[0]] = (shape * times).name
            return
        copy = NodeProto()
        copy.CopyFrom(node)
        rename_inputs(copy, {name: self._widened(name) for name in reads(node)})
        copy.name = graph.fresh(f"{node.name or node.op_type}_rows")
        for position, name in enumerate(node.output):
            if name:
                copy.output[position] = self._wide[name] = graph.fresh(f"{name}_rows")
                kind, shape = graph.types.get(name, (TensorProto.FLOAT, None))
                graph.types[copy.output[position]] = (kind, _many_rows(shape, self._batch))
        graph.add_node(copy)

    def _times(self, rank: int, axis: int) -> Value:
        """int64 (rank,): K at `axis`, 1 elsewhere."""
        emitter = self._emitter
        if isinstance(self.count, int):
            return emitter.ints([self.count if a == axis else 1 for a in range(rank)])
        count = emitter.slice(emitter("Shape", emitter.value(self._target)), 0, 1, 2, length=1)
        parts = [emitter.ints([1] * n) for n in (axis, rank - axis - 1)]
        return emitter("Concat", *(p for p in (parts[0], count, parts[1]) if p.dims[0]), axis=0)

    @property
    def _rows_name(self) -> str:
        return f"{self._batch}_rows"


def _batch(graph: Graph, count: int | None) -> str | int:
    """The batch's size. Raises `ExportError` where it is fixed and the number of classes is free, or too large."""
    shapes = [shape for name in graph.input_names if (shape := graph.shape(name))]
    batch = shapes[0][0] if shapes else None
    if isinstance(batch, str):
        return batch
    if isinstance(batch, int) and count is not None and count <= _MOST_PASSES:
        return batch
    raise ExportError(
        f"several classes per image: the batch is fixed to {batch}, and each class needs a backward pass of its own: "
        f"give their number, --classes-per-image K, at most {_MOST_PASSES}, or export the model with a free batch"
    )


def _free_name(graph: Graph) -> str:
    known = {dim for _, shape in graph.types.values() for dim in shape or () if isinstance(dim, str)}
    return next(name for name in (_FREE, *(f"{_FREE}_{i}" for i in range(2, 99))) if name not in known)


def _many_rows(shape: Shape | None, batch: Dim) -> Shape | None:
    """The shape with N * K in the place of N."""
    return None if shape is None else tuple(f"{batch}_rows" if dim == batch else dim for dim in shape)


def _ints(dims: Shape) -> list[int]:
    if not all(isinstance(dim, int) for dim in dims):
        raise ExportError(f"several classes per image: sizes {dims} are not fixed; give the layer's size with --grid")
    return [int(dim or 0) for dim in dims]


def _sort(graph: Graph) -> None:
    """Put every node behind those that it reads, otherwise in the order of the list."""
    ordered: list[NodeProto] = []
    done: set[int] = set()
    for node in graph.nodes:
        waiting = [node]
        while waiting:
            one = waiting[-1]
            if id(one) in done:
                waiting.pop()
                continue
            before = [graph.producers[n] for n in reads(one) if n in graph.producers]
            missing = [made for made in before if id(made) not in done]
            if missing:
                waiting.extend(missing)
                continue
            done.add(id(one))
            ordered.append(one)
            waiting.pop()
    graph.nodes = ordered
    graph.reindex()
