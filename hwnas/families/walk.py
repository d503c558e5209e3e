"""Walking a space by the shapes that its parts can stand at: what a family's `reach` is made of. Pure Python; no torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from hwnas.graph import Conv1d, GraphBuilder, Input, Node, Op, Shape, Split

Part = Callable[..., int]  # (builder, node, **choices): adds operators that read the node; returns the one that it ends with
Choices = Iterable[Mapping[str, int]]
Met = dict[tuple[Op, tuple[Shape, ...]], Node]  # an operator and the shapes that it reads -> one node of the kind


class Walk:
    """The operators met so far, each once for each shape that it reads."""

    def __init__(self) -> None:
        self._met: Met = {}

    def __iter__(self) -> Iterator[tuple[Node, Shape]]:
        return ((node, sources[0]) for (_, sources), node in self._met.items())

    def step(self, sources: Iterable[Shape], part: Part, choices: Choices) -> set[Shape]:
        """The shapes after `part` with any one of `choices` at any one of `sources`."""
        return {self._end(source, part, chosen) for source in sorted(sources) for chosen in choices}

    def repeat(self, sources: Iterable[Shape], part: Part, choices: Choices, counts: Collection[int]) -> set[Shape]:
        """The shapes after `part` as many times as one of `counts` says, each time with any one of `choices`."""
        after: dict[Shape, set[Shape]] = {}
        standing, found = set(sources), set[Shape]()
        for done in range(max(counts)):
            if done in counts:
                found |= standing
            after |= {source: self.step([source], part, choices) for source in sorted(standing - after.keys())}
            standing = set[Shape]().union(*(after[source] for source in standing))
        return found | standing

    def _end(self, source: Shape, part: Part, chosen: Mapping[str, int]) -> Shape:
        builder = _Tracer(self._met)
        return builder.shape(part(builder, builder.stand(source), **chosen))


class _Tracer(GraphBuilder):
    """Adds what it meets to `met`. A node that was met stands for those like it, so the result is good for its shapes only."""

    def __init__(self, met: Met) -> None:
        super().__init__()
        self._met = met

    def add(self, op: Op, *inputs: int) -> int:
        key = (op, tuple(self._nodes[i].shape for i in inputs))
        node = self._met.get(key)
        if node is None:
            index = super().add(op, *inputs)
            self._met[key] = self._nodes[index]
            return index
        self._nodes.append(node)
        return len(self._nodes) - 1

    def stand(self, shape: Shape) -> int:
        """A node that writes a tensor of that shape; how it came about is not met."""
        if shape.modalities == 1:
            return super().add(Input(shape.channels, shape.length))
        signals = super().add(Split(), super().add(Input(shape.modalities, shape.length)))
        return super().add(Conv1d(shape.channels), signals) if shape.channels > 1 else signals
