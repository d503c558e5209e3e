"""`QuantGraph` -> TFLite flatbuffer, without TensorFlow, verified in two runtimes before it is written.

Windows are named "input", int8 NHWC (N, 1, T, C); logits "logits", int8 (N, K), of a regression by one value "output". Height is 1, and the
number of modalities between `Split` and `Join` or `Transpose`. The integers are those of the student; `operators` says how each operator
is spelled and why.

A file with an LSTM runs one window at a time: the runtime keeps the states between two calls until `reset_all_variables` is called.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from hwnas.export.comparison import Allowance, Allowed, Comparison, RunFile, RunNode, compare, part
from hwnas.export.runtimes import TfliteKernels, TfliteSession
from hwnas.export.scales import check_scales
from hwnas.export.seal import PLACEHOLDER, seal, student_mark
from hwnas.export.tflite.model import Model
from hwnas.export.tflite.operators import Tensors, append, nhwc
from hwnas.graph import Lstm
from hwnas.quantize.qgraph import Int8, QuantGraph
from hwnas.quantize.values import describe_outputs
from hwnas.resources import write_bytes

__all__ = ["ALLOWED", "to_bytes", "write"]

# An LSTM rounds its gates otherwise at every sample and carries that on in its states, where strong recurrence can make it grow.
ALLOWED: Allowed = {Lstm: Allowance(2, 0.99)}


def write(q: QuantGraph, path: Path, check: Int8) -> Comparison:
    """Write `q` to `path` after running it on windows `check` int8 (M, T, C) in tflite-runtime and ai-edge-litert.

    The figures end to end are those of the built-in kernels, `kernels` has those of each of `TfliteKernels`; every operator is tried
    with each of them.

    Raises:
        ExportError: an operator or a scale that the format lacks, no windows, a runtime that refuses the file, or an operator further
            from the reference than `ALLOWED` says (1 step where it says nothing).
        RunError: the file cannot be written.
    """
    check_scales(q, str(path))
    content = to_bytes(q)
    whole = {kernels.name.lower(): _file_runner(content, str(path), kernels) for kernels in TfliteKernels}
    comparison = compare(q, check, str(path), whole, [_node_runner(q, kernels) for kernels in TfliteKernels], ALLOWED)
    write_bytes(path, content)
    return comparison


def to_bytes(q: QuantGraph, nodes: Sequence[int] | None = None) -> bytes:
    """The sealed flatbuffer of `q`, or of its consecutive `nodes` alone, reading the tensors that they do not make."""
    inputs, chosen = part(q, nodes)
    model, tensors = Model(), Tensors()
    for index in inputs:
        quant, name = q.quants[index], "input" if index == 0 else f"node{index}"
        tensors[index] = model.activation(name, nhwc(q.graph.nodes[index].shape), quant.scale, quant.zero_point)
    for index in chosen:
        append(model, q, index, tensors)
    facts = {"graph": q.graph.hash, "labels": q.labels}
    return seal(
        model.pack(
            [tensors[i] for i in inputs],
            tensors[chosen[-1]],
            any_batch=not any(isinstance(q.graph.nodes[i].op, Lstm) for i in chosen),
            description=f"hwnas int8 student {q.graph.hash}; outputs: {describe_outputs(q.labels)}",
            metadata={"hwnas": json.dumps(facts).encode(), "hwnas_student": student_mark(q).encode(), "hwnas_seal": PLACEHOLDER.encode()},
        )
    )


def _file_runner(content: bytes, name: str, kernels: TfliteKernels) -> RunFile:
    session = TfliteSession(content, name, kernels)
    return lambda x: session.run(x[:, None]).reshape(len(x), -1)


def _node_runner(q: QuantGraph, kernels: TfliteKernels) -> RunNode:
    def run(index: int, inputs: list[Int8]) -> Int8:
        session = TfliteSession(to_bytes(q, [index]), f"node {index}", kernels)
        read = dict(zip(q.graph.nodes[index].inputs, inputs, strict=True))  # a node may read one tensor twice
        return session.run(*(x.reshape(len(x), *nhwc(q.graph.nodes[i].shape)[1:]) for i, x in read.items()))

    return run
