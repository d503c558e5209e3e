"""`QuantGraph` -> a folder of C: model.c, model.h, and copies of the kernels they call. Writes that folder; no torch.

The folder compiles with any C99 compiler; on Cortex-M4 the kernels use its DSP instructions, elsewhere portable C with the same
results. `hwnas.firmware` builds and runs it and holds it against the int8 reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hwnas.errors import ExportError
from hwnas.export import depthwise
from hwnas.export.packing import PackedNode, Words, pack_node
from hwnas.graph import ARITY, OP_NAMES, DepthwiseConv1d, Graph
from hwnas.hardware.deployment import Deployment
from hwnas.hardware.ops import Layout
from hwnas.memory import ABSENT, Plan
from hwnas.quantize.qgraph import QuantGraph
from hwnas.resources import folder as data_folder
from hwnas.resources import write_bytes, write_text

# Names of the folder's parts, also read by `hwnas.firmware.build`.
KERNELS, INCLUDE = "kernels", "include"
WORDS_PER_LINE = 12


def write(q: QuantGraph, deployment: Deployment, folder: Path, *, weights_hash: str) -> None:
    """Write the C form of `q`, placed as `deployment` says, into `folder`.

    Args:
        weights_hash: content hash of the weights, carried in the header for whoever flashes the model.

    Raises:
        ExportError: the deployment is another graph's.
        RunError: the folder cannot be written.
    """
    plan = deployment.plan
    if len(plan.offsets) != len(q.graph.nodes) or len(deployment.weights) != len(q.graph.nodes):
        raise ExportError(
            f"{folder}: the deployment has {len(plan.offsets)} tensors, the student {len(q.graph.nodes)}; deploy its own graph"
        )
    packed = {index: packed_node(q, index, deployment.weights[index]) for index in range(1, len(q.graph.nodes))}
    source = data_folder("firmware_bench")
    for file in sorted((source / INCLUDE).iterdir()):
        write_bytes(folder / INCLUDE / file.name, file.read_bytes())
    for name in sorted({"run.c", *(_file(node.kernel) for node in packed.values())}):
        write_bytes(folder / KERNELS / name, (source / KERNELS / name).read_bytes())
    if filters := instances(q.graph):
        write_text(folder / "depthwise.c", depthwise.source(filters))
    write_text(folder / "model.h", header(q, plan, weights_hash))
    write_text(folder / "model.c", body(q, plan, packed))


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


def _file(kernel: str) -> str:
    """The file of a kernel; instances of the depthwise kernel fall back on its portable form."""
    return "depthwise_conv1d.c" if kernel.startswith("hwnas_depthwise") else f"{kernel.removeprefix('hwnas_')}.c"


def header(q: QuantGraph, plan: Plan, weights_hash: str) -> str:
    """Text of model.h: sizes, quantisation of input and output, identity, and the one function."""
    shape = q.graph.input_shape
    macros: dict[str, object] = {
        "INPUT_LENGTH": shape.length,
        "INPUT_CHANNELS": shape.channels,
        "INPUT_BYTES": shape.elements,
        "OUTPUT_BYTES": q.graph.output_shape.elements,
        "ARENA_BYTES": max(plan.arena_bytes, 4),
        "LAYERS": len(q.graph.nodes) - 1,
        "INPUT_SCALE": f"{q.input.scale!r}f",
        "INPUT_ZERO_POINT": f"({q.input.zero_point})",
        "OUTPUT_SCALE": f"{q.output.scale!r}f",
        "OUTPUT_ZERO_POINT": f"({q.output.zero_point})",
        "GRAPH_HASH": _quoted(q.graph.hash),
        "WEIGHTS_HASH": _quoted(weights_hash),
        "LABELS": _quoted(",".join(q.labels)),
    }
    lines = [f"#define HWNAS_MODEL_{name} {value}" for name, value in macros.items()]
    return "\n".join(
        [
            "/* Written by hwnas. int8, channels-last: input [INPUT_LENGTH][INPUT_CHANNELS], real = SCALE * (q - ZERO_POINT). */",
            "#ifndef HWNAS_MODEL_H",
            "#define HWNAS_MODEL_H",
            "",
            "#include <stdint.h>",
            "",
            *lines,
            "",
            "#ifdef __cplusplus",
            'extern "C"',
            "#endif",
            "/* Runs one window. `arena`: ARENA_BYTES, 4-byte aligned; nothing in it outlives the call. */",
            "void hwnas_model_run(const int8_t *input, int8_t *output, void *arena);",
            "",
            "#endif",
            "",
        ]
    )


def body(q: QuantGraph, plan: Plan, packed: dict[int, PackedNode]) -> str:
    """Text of model.c: the constants of every layer and the layer table."""
    parts = ["/* Written by hwnas: constants in the layouts that the heads of the files in kernels describe. */"]
    parts.append('#include "hwnas_kernels.h"\n#include "model.h"\n')
    parts.append(depthwise.declarations(instances(q.graph)))
    rows = []
    for index, node in packed.items():
        parts.append(_layer(index, node, OP_NAMES[type(q.graph.nodes[index].op)]))
        places = ", ".join(f"{place}u" for place in _places(q, plan, index))
        rows.append(f"    {{{node.kernel}, &params_{index}, {places}}},")
    parts.append("static const hwnas_layer layers[HWNAS_MODEL_LAYERS] = {\n" + "\n".join(rows) + "\n};\n")
    parts.append(
        "void hwnas_model_run(const int8_t *input, int8_t *output, void *arena)\n"
        "{\n    hwnas_run(layers, HWNAS_MODEL_LAYERS, input, output, arena);\n}\n"
    )
    return "\n".join(parts)


def _layer(index: int, node: PackedNode, operator: str) -> str:
    fields = ", ".join(f"{_literal(value)} /* {name} */" for name, value in node.params.items())
    if not node.packed.size:
        return f"/* {index}: {operator} */\nstatic const {node.struct} params_{index} = {{{fields}}};\n"
    return (
        f"/* {index}: {operator} */\nstatic const uint32_t packed_{index}[{node.packed.size}] = {{\n{_hex(node.packed)}\n}};\n"
        f"static const {node.struct} params_{index} = {{packed_{index}, {fields}}};\n"
    )


def _literal(value: int) -> str:
    """An int32 constant; C has no literal for the smallest."""
    return "(-2147483647 - 1)" if value == -(2**31) else str(value)


def _places(q: QuantGraph, plan: Plan, index: int) -> Sequence[int]:
    """`in`, `out` and `aux` of the layer table: byte offset plus the buffer's number (0 arena, 1 input, 2 output)."""
    node = q.graph.nodes[index]

    def place(tensor: int) -> int:
        if plan.offsets[tensor] != ABSENT:
            return plan.offsets[tensor]
        return 1 if tensor == 0 else 2

    aux = place(node.inputs[1]) if ARITY.get(type(node.op), 1) == 2 else max(plan.scratch[index], 0)
    return place(node.inputs[0]), place(index), aux


def _hex(words: Words) -> str:
    texts = [f"0x{int(word):08x}" for word in words]
    return "\n".join("    " + ", ".join(texts[i : i + WORDS_PER_LINE]) + "," for i in range(0, len(texts), WORDS_PER_LINE))


def _quoted(text: str) -> str:
    """A C string literal; every byte but plain printable ASCII is escaped, so that no label can end the literal."""
    plain = [chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode()]
    return '"' + "".join(plain) + '"'
