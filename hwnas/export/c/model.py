"""model.h and model.c of a student: its interface, its constants, its layer table. Text only; no torch, no files."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import hwnas
from hwnas.errors import ExportError
from hwnas.export import depthwise
from hwnas.export.packing import PackedNode, Words, pack_node
from hwnas.graph import ARITY, OP_NAMES, DepthwiseConv1d, Graph
from hwnas.hardware.ops import Layout, calls
from hwnas.memory import ABSENT, Plan, modality_bytes
from hwnas.quantize.input_counts import input_steps
from hwnas.quantize.qgraph import QuantGraph
from hwnas.quantize.values import Expectation, Value, value_of

WORDS_PER_LINE = 12
NUMERATOR_MAX = 2**15  # of a scale as a ratio: times a difference of two int8 it fits 32 bits by far
DENOMINATOR_MAX = 2**31 - 1  # of an int32


def instances(graph: Graph) -> list[depthwise.Filter]:
    """The depthwise shapes of `graph` that get a function of their own."""
    found = {
        depthwise.Filter(n.op.kernel, n.op.stride, n.op.dilation, n.shape.channels) for n in graph if isinstance(n.op, DepthwiseConv1d)
    }
    return sorted(f for f in found if depthwise.is_specialised(f))


def packed_node(q: QuantGraph, index: int, weights: Layout) -> PackedNode:
    """Node `index` packed, with the function that its shape has of its own."""
    node, packed = q.graph.nodes[index], pack_node(q, index, weights)
    if isinstance(node.op, DepthwiseConv1d):
        own = depthwise.Filter(node.op.kernel, node.op.stride, node.op.dilation, node.shape.channels)
        return replace(packed, kernel=depthwise.function(own))
    return packed


def layers(graph: Graph) -> int:
    """Rows of the layer table: one a node, or one a modality where a kernel knows a single one."""
    return sum(calls(node.op, graph.in_shape(node)) for node in graph.nodes[1:])


def ratio(scale: float) -> Fraction:
    """`scale` as a fraction whose numerator is at most 2**15: within one part in 2**15, mostly far nearer.

    Raises:
        ExportError: a scale that no ratio of two int32 comes near.
    """
    found = Fraction(scale).limit_denominator(min(max(int(NUMERATOR_MAX / scale), 1), DENOMINATOR_MAX))
    if abs(found / Fraction(scale) - 1) > Fraction(1, NUMERATOR_MAX):
        raise ExportError(
            f"the outputs have scale {scale!r}, which is no ratio of two int32 (1 / {DENOMINATOR_MAX} is the smallest); the logits are "
            "next to nothing: train the student again"
        )
    return found


def header(q: QuantGraph, plan: Plan, weights_hash: str, rate_hz: float | None) -> str:
    """Text of model.h: sizes, quantisation of input and output, identity, and the functions."""
    shape = q.graph.input_shape
    output = ratio(q.output.scale)
    macros: dict[str, object] = {
        "INPUT_LENGTH": shape.length,
        "INPUT_CHANNELS": shape.channels,
        "INPUT_BYTES": shape.elements,
        "OUTPUT_BYTES": q.graph.output_shape.elements,
        "ARENA_BYTES": max(plan.arena_bytes, 4),
        "LAYERS": layers(q.graph),
        "INPUT_SCALE": f"{q.input.scale!r}f",
        "INPUT_SCALE_NUMERATOR": 1,
        "INPUT_SCALE_DENOMINATOR": input_steps(q),
        "INPUT_ZERO_POINT": f"({q.input.zero_point})",
        "OUTPUT_SCALE": f"{q.output.scale!r}f",
        "OUTPUT_SCALE_NUMERATOR": output.numerator,
        "OUTPUT_SCALE_DENOMINATOR": output.denominator,
        "OUTPUT_ZERO_POINT": f"({q.output.zero_point})",
        "GRAPH_HASH": quoted(q.graph.hash),
        "WEIGHTS_HASH": quoted(weights_hash),
        "LABELS": quoted(",".join(q.labels)),
        "LABEL_NAMES": "{" + ", ".join(quoted(label) for label in q.labels) + "}",
    }
    if rate_hz is not None:
        macros["INPUT_RATE_HZ"] = f"{rate_hz:g}"
    value = value_of(q.labels)
    read_out = PROBABILITIES
    if isinstance(value, Value):
        macros |= {"VALUE_OFFSET": value.offset, "VALUE_STEP": value.step(q.output.scale), "VALUE_UNIT": quoted(value.unit)}
        read_out = VALUE.format(name=value.name, unit=value.unit)
    elif isinstance(value, Expectation):
        macros |= {"VALUE_LOWEST": value.offset, "VALUE_WIDTH": value.width, "VALUE_UNIT": quoted(value.unit)}
        read_out = EXPECTATION.format(name=value.name, unit=value.unit) + PROBABILITIES.replace("probabilities.c", "value.c")
    lines = [f"#define HWNAS_MODEL_{name} {text}" for name, text in macros.items()]
    return HEADER.format(version=quoted(hwnas.__version__), macros="\n".join(lines), read_out=read_out)


HEADER = """/* Written by hwnas; README.md says how to use it. Apache License 2.0.
 *
 * int8, channels-last: input [INPUT_LENGTH][INPUT_CHANNELS]. Real value = SCALE * (q - ZERO_POINT); SCALE is NUMERATOR / DENOMINATOR too,
 * for programs without floating point. LABELS and LABEL_NAMES ({{"a", "b"}}) name the outputs in order.
 */
#ifndef HWNAS_MODEL_H
#define HWNAS_MODEL_H

#include <stdint.h>

#define HWNAS_VERSION {version}
{macros}

#ifdef __cplusplus
extern "C" {{
#endif

/* Runs one window. `arena`: ARENA_BYTES, 4-byte aligned; nothing in it outlives the call. */
void hwnas_model_run(const int8_t *input, int8_t *output, void *arena);

/* "hwnas VERSION model GRAPH_HASH weights WEIGHTS_HASH" */
const char *hwnas_model_version(void);

/* input.c. Counts of the sensor [INPUT_LENGTH][INPUT_CHANNELS] -> the window as the model was trained on it: each channel of it scaled by
 * its own minimum and maximum to [-1, 1], in integers:
 *     span = max - min,    q = (4 * N * (count - min) + span) / (2 * span) - N + INPUT_ZERO_POINT,    N = INPUT_SCALE_DENOMINATOR
 * (division of unsigned integers, rounded down; saturated to int8). A channel without any change becomes INPUT_ZERO_POINT, the real 0:
 * there is no signal in it, and the outputs mean nothing then. */
void hwnas_model_quantize_input(const int16_t *samples, int8_t *input);

{read_out}
#if defined(HWNAS_MODEL_SELF_TEST)
/* self_test.c. Runs a window that is compiled in: 0 if every output is what it was when the model was exported, else 1 + the index of the
 * first one that is not. `arena` as for `hwnas_model_run`. */
int hwnas_model_self_test(void *arena);
#endif

#ifdef __cplusplus
}}
#endif

#endif
"""


PROBABILITIES = """/* probabilities.c. Outputs -> softmax of what they stand for, in 1/256; 255 stands for 255/256 and more. */
void hwnas_model_probabilities(const int8_t *logits, uint8_t *probabilities);
"""

VALUE = """/* value.c. Output -> {name} in 1/256 {unit}, in integers:
 *     (VALUE_OFFSET + VALUE_STEP * (output - OUTPUT_ZERO_POINT) + 128) / 256        (rounded down), saturated to 0 ... 65535
 * VALUE_OFFSET and VALUE_STEP are in 1/65536 {unit}. */
uint16_t hwnas_model_value(const int8_t *output);
"""

EXPECTATION = """/* value.c. Outputs, logits of classes -> {name} in 1/256 {unit}: the mean of the classes' middles under softmax, in
 * integers. With d[i] = exp(output[i] - largest output) in 1/65536:
 *     total = sum(d),    moment = VALUE_WIDTH * sum(d[i] * i)
 *     value = VALUE_LOWEST + 256 * (moment / total) + (256 * (moment % total) + total / 2) / total        (divisions rounded down)
 * VALUE_LOWEST is the middle of the first class in 1/256 {unit}, VALUE_WIDTH how many {unit} the next is above it. */
uint16_t hwnas_model_value(const int8_t *output);

"""


def body(q: QuantGraph, plan: Plan, packed: dict[int, PackedNode]) -> str:
    """Text of model.c: the constants of every layer and the layer table."""
    parts = [BODY, depthwise.declarations(instances(q.graph))]
    rows = []
    for index, node in packed.items():
        parts.append(layer(index, node, OP_NAMES[type(q.graph.nodes[index].op)]))
        rows += [f"    {{{node.kernel}, &params_{index}, {places}}}," for places in _places(q.graph, plan, index)]
    parts.append("static const hwnas_layer layers[HWNAS_MODEL_LAYERS] = {\n" + "\n".join(rows) + "\n};\n")
    parts.append(
        "void hwnas_model_run(const int8_t *input, int8_t *output, void *arena)\n"
        "{\n    hwnas_run(layers, HWNAS_MODEL_LAYERS, input, output, arena);\n}\n"
    )
    parts.append(
        "const char *hwnas_model_version(void)\n"
        '{\n    return "hwnas " HWNAS_VERSION " model " HWNAS_MODEL_GRAPH_HASH " weights " HWNAS_MODEL_WEIGHTS_HASH;\n}\n'
    )
    return "\n".join(parts)


BODY = """/* Written by hwnas: constants in the layouts that the heads of the files in kernels describe. */
#include "model.h"
#include "include/hwnas_kernels.h"

/* Where the linker puts the packed weights; nothing else of the model is large. See README.md. */
#ifndef HWNAS_MODEL_WEIGHTS_SECTION
#define HWNAS_MODEL_WEIGHTS_SECTION
#endif
"""


def layer(index: int, node: PackedNode, operator: str) -> str:
    """The constants of one layer: packed weights, if it has some, and parameters."""
    fields = ", ".join(f"{_literal(value)} /* {name} */" for name, value in node.params.items())
    if not node.packed.size:
        return f"/* {index}: {operator} */\nstatic const {node.struct} params_{index} = {{{fields}}};\n"
    return (
        f"/* {index}: {operator} */\n"
        f"HWNAS_MODEL_WEIGHTS_SECTION static const uint32_t packed_{index}[{node.packed.size}] = {{\n{_hex(node.packed)}\n}};\n"
        f"static const {node.struct} params_{index} = {{packed_{index}, {fields}}};\n"
    )


def _literal(value: int) -> str:
    """An int32 constant; C has no literal for the smallest."""
    return "(-2147483647 - 1)" if value == -(2**31) else str(value)


def _places(graph: Graph, plan: Plan, index: int) -> list[str]:
    """`in`, `out` and `aux` of each call of a node: byte offset, a multiple of 4, plus the buffer's number (0 arena, 1 input, 2 output).

    What holds several modalities is in the arena, since graphs begin and end with one.
    """
    node = graph.nodes[index]

    def place(tensor: int) -> int:
        if plan.offsets[tensor] != ABSENT:
            return plan.offsets[tensor]
        return 1 if tensor == 0 else 2

    aux = place(node.inputs[1]) if ARITY.get(type(node.op), 1) == 2 else max(plan.scratch[index], 0)
    source, target = place(node.inputs[0]), place(index)
    read, written = modality_bytes(graph.in_shape(node)), modality_bytes(node.shape)
    return [f"{source + m * read}u, {target + m * written}u, {aux}u" for m in range(calls(node.op, graph.in_shape(node)))]


def _hex(words: Words) -> str:
    return table([f"0x{int(word):08x}" for word in words])


def table(values: list[str]) -> str:
    """The lines of an initialiser."""
    return "\n".join("    " + ", ".join(values[i : i + WORDS_PER_LINE]) + "," for i in range(0, len(values), WORDS_PER_LINE))


def quoted(text: str) -> str:
    """A C string literal; every byte but plain printable ASCII is escaped, so that no label can end the literal."""
    plain = [chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode()]
    return '"' + "".join(plain) + '"'
