"""An LSTM as one UNIDIRECTIONAL_SEQUENCE_LSTM in integers only: int8 activations and weights, int16 cell state. Touches no files.

The kernel's arithmetic is ours but for what it rounds: input and recurrent part of a gate each to Q3.12 before they are added, and the
activation functions, which it computes where we interpolate. Its scales are powers of two as ours: gates 2**-12, cell state 2**-11.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from hwnas.errors import ExportError
from hwnas.export.tflite.model import ABSENT, Model, Operator
from hwnas.graph import Lstm
from hwnas.quantize.qgraph import CELL_BITS, GATE_BITS, QuantGraph, gate_scales

GATE_NAMES = ("input", "forget", "cell", "output")
PEEPHOLES, PROJECTION, LAYER_NORMS = 3, 2, 4  # optional inputs, all absent


def append_lstm(model: Model, q: QuantGraph, index: int, source: int, output: int, name: str) -> None:
    """Append LSTM node `index`: (1, 1, L, C) in, (1, 1, L or 1, units) out.

    Raises:
        ExportError: units of one gate that have scales of their own; the format has one a gate.
    """
    node = q.graph.nodes[index]
    op, read, hidden = cast(Lstm, node.op), q.quants[node.inputs[0]], q.quants[index]
    shape, constants = q.graph.in_shape(node), q.lstms[index]
    if (constants.multiplier != constants.multiplier[0]).any():
        raise ExportError(
            f"node {index} (lstm): TFLite has one scale a gate, this node has several; quantise it with one multiplier a gate"
        )
    acc_scale = gate_scales(constants)[0]

    def weights(part: slice, what: str, scale: float) -> list[int]:
        return [
            model.constant(f"{name}/{gate}_{what}", constants.weights[:, k, part], acc_scale[k : k + 1] / scale)
            for k, gate in enumerate(GATE_NAMES)
        ]

    series = model.activation(f"{name}/series", (1, shape.length, shape.channels), read.scale, read.zero_point)
    states = model.activation(f"{name}/states", (1, shape.length, op.units), hidden.scale, hidden.zero_point)
    _reshape(model, source, series, f"{name}/series_shape", (-1, shape.length, shape.channels))
    inputs = [
        series,
        *weights(slice(None, shape.channels), "weights", read.scale),
        *weights(slice(shape.channels, None), "recurrent_weights", hidden.scale),
        *[ABSENT] * PEEPHOLES,
        *(model.constant(f"{name}/{gate}_bias", constants.bias[:, k], acc_scale[k : k + 1]) for k, gate in enumerate(GATE_NAMES)),
        *[ABSENT] * PROJECTION,
        model.variable(f"{name}/hidden_state", (1, op.units), np.int8, hidden.scale, hidden.zero_point),
        model.variable(f"{name}/cell_state", (1, op.units), np.int16, 2.0**-CELL_BITS, 0),
        *[ABSENT] * LAYER_NORMS,
    ]
    intermediates = [model.intermediate(f"{name}/{gate}_gate", np.int16, 2.0**-GATE_BITS, 0) for gate in GATE_NAMES]
    intermediates.append(model.intermediate(f"{name}/hidden", np.int8, hidden.scale, hidden.zero_point))
    options = schema.UnidirectionalSequenceLSTMOptionsT()
    options.fusedActivationFunction = schema.ActivationFunctionType.TANH
    model.operator(Operator.UNIDIRECTIONAL_SEQUENCE_LSTM, inputs, states, options, intermediates)
    if op.last:
        states = _last(model, states, shape.length, op.units, name, hidden.scale, hidden.zero_point)
    _reshape(model, states, output, f"{name}/shape", (-1, 1, node.shape.length, op.units))


def _last(model: Model, states: int, length: int, units: int, name: str, scale: float, zero_point: int) -> int:
    """The last of the hidden states, (1, 1, units)."""
    last = model.activation(f"{name}/last", (1, 1, units), scale, zero_point)
    ends = {"begin": [0, length - 1, 0], "end": [0, length, units], "strides": [1, 1, 1]}
    bounds = [model.constant(f"{name}/{what}", np.array(values, np.int32)) for what, values in ends.items()]
    options = schema.StridedSliceOptionsT()
    options.beginMask = options.endMask = 0b001  # the whole batch
    model.operator(Operator.STRIDED_SLICE, [states, *bounds], last, options)
    return last


def _reshape(model: Model, source: int, output: int, name: str, shape: tuple[int, ...]) -> None:
    options = schema.ReshapeOptionsT()
    options.newShape = np.array(shape, np.int32)
    model.operator(Operator.RESHAPE, [source, model.constant(name, options.newShape)], output, options)
