"""The end of every family: mean over time, dense head. Pure Python; no torch."""

from __future__ import annotations

from hwnas.graph import Dense, GlobalAvgPool, GraphBuilder


def add_head(builder: GraphBuilder, x: int, outputs: int) -> int:
    """`outputs` logits from the mean over time of node `x`."""
    pooled = builder.add(GlobalAvgPool(), x) if builder.shape(x).length > 1 else x
    return builder.add(Dense(outputs), pooled)
