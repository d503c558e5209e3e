"""An architecture in words, as every report and card writes it. Pure."""

from __future__ import annotations

from hwnas.graph import OP_NAMES, Add, AvgPool1d, Concat, Conv1d, Dense, DepthwiseConv1d, GlobalAvgPool, Graph, Lstm, MaxPool1d, Op


def summary(graph: Graph) -> str:
    """The architecture in a line: what each layer is, but for means over all of time."""
    return " · ".join(name_of(node.op) for node in graph.nodes[1:] if not isinstance(node.op, GlobalAvgPool))


def name_of(op: Op) -> str:
    """An operator in a few words: "x2" with dilation 2, "/2" with stride 2."""
    if isinstance(op, Conv1d):
        return f"{'pw' if op.kernel == 1 else f'conv{op.kernel}'} {op.out_channels}" + _steps(op.stride, op.dilation)
    if isinstance(op, DepthwiseConv1d):
        return f"dw{op.kernel}" + _steps(op.stride, op.dilation)
    if isinstance(op, AvgPool1d | MaxPool1d):
        return f"{'avg' if isinstance(op, AvgPool1d) else 'max'}{op.kernel}" + _steps(op.stride)
    if isinstance(op, Lstm | Dense):
        return f"{OP_NAMES[type(op)]} {op.units}"
    return {Add: "+", Concat: "|", GlobalAvgPool: "mean"}.get(type(op), OP_NAMES[type(op)])


def _steps(stride: int, dilation: int = 1) -> str:
    return (f" x{dilation}" if dilation > 1 else "") + (f" /{stride}" if stride > 1 else "")
