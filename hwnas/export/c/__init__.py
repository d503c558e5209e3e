"""`QuantGraph` -> a folder of C that is a product: the model, the kernels it calls, README.md. Writes that folder; no torch.

The folder compiles with any C99 compiler and nothing else; on Cortex-M4 the kernels use its DSP instructions, elsewhere portable C with the
same results. `hwnas.firmware` builds and runs it and holds it against the int8 reference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import hwnas
from hwnas.errors import ExportError
from hwnas.export import depthwise
from hwnas.export.c.model import body, header, instances, packed_node, quoted, table
from hwnas.export.packing import PackedNode
from hwnas.graph import Graph
from hwnas.hardware.deployment import Deployment
from hwnas.memory import plan
from hwnas.quantize.probabilities import exponentials
from hwnas.quantize.qgraph import Int8, QuantGraph
from hwnas.quantize.values import Expectation, Value, value_of
from hwnas.resources import folder as data_folder
from hwnas.resources import write_text

__all__ = ["INCLUDE", "KERNELS", "SELF_TEST", "Signals", "instances", "kernel_file", "packed_node", "write"]

# Names of the folder's parts, also read by `hwnas.firmware.build`.
KERNELS, INCLUDE = "kernels", "include"
SELF_TEST, DEPTHWISE = "self_test.c", "depthwise.c"
PROBABILITIES, VALUE = "probabilities.c", "value.c"  # how a classifier and a regression are read out
EXPECTATION = "expectation.c"  # what is added to a classifier's read-out where classes stand for a value
PARTS = Path(__file__).parent / "parts"
CLASSES_MAX = 2**15 - 1  # of the integer softmax
BUFFER_MAX_BYTES = 2**31 - 1  # that kernels can compute offsets in


@dataclass(frozen=True, slots=True)
class Signals:
    """What the windows of a model are, for whoever feeds it.

    Attributes:
        rate_hz: sampling rate.
        channels: names of the channels, in order; none where they are not known.
        prepared: what is done to the signals before they are scaled, as a sentence.
    """

    rate_hz: float
    channels: tuple[str, ...] = ()
    prepared: str = ""


def write(
    q: QuantGraph,
    deployment: Deployment,
    folder: Path,
    *,
    weights_hash: str,
    self_test: tuple[Int8, Int8] | None = None,
    signals: Signals | None = None,
) -> None:
    """Write the C form of `q`, placed as `deployment` says, into `folder`; what an earlier export left there and this one lacks goes.

    Args:
        weights_hash: content hash of the weights, carried in the firmware.
        self_test: a window int8 (T, C) and the outputs int8 (K,) that the reference has for it, compiled in on request.
        signals: what the windows are, where that is known.

    Raises:
        ExportError: a deployment of another graph, an operator without a kernel, a self-test of another shape, a buffer or a number of
            outputs beyond what the C computes with. Nothing was written then.
        QuantizationError: an input scale that counts of a sensor cannot be quantised to, or an output scale that a value cannot be read
            out of. Nothing was written then.
        RunError: the folder cannot be written.
    """
    _check(q, deployment, folder)
    files = _files(q, deployment, weights_hash, self_test, signals)
    for name, text in files.items():
        write_text(folder / name, text)
    kernels = [f"{KERNELS}/{path.name}" for path in (data_folder("firmware_bench") / KERNELS).iterdir()]
    for name in {*kernels, SELF_TEST, DEPTHWISE, PROBABILITIES, VALUE} - files.keys():
        (folder / name).unlink(missing_ok=True)


def _check(q: QuantGraph, deployment: Deployment, folder: Path) -> None:
    """Refuse what would compile and then be wrong."""
    nodes, outputs = len(q.graph.nodes), q.graph.output_shape.elements
    tensors = len(deployment.plan.offsets)
    if tensors != nodes or len(deployment.weights) != nodes:
        raise ExportError(f"{folder}: the deployment has {tensors} tensors, the student {nodes}; deploy its own graph")
    if deployment.plan != plan(q.graph):
        raise ExportError(f"{folder}: the deployment places tensors otherwise than the student's graph needs; deploy its own graph")
    largest = max(deployment.plan.arena_bytes, *(node.shape.elements for node in q.graph))
    if largest > BUFFER_MAX_BYTES:
        raise ExportError(f"{folder}: needs a buffer of {largest} bytes; the C addresses {BUFFER_MAX_BYTES}. Use shorter windows")
    if outputs > CLASSES_MAX:
        raise ExportError(f"{folder}: {outputs} outputs; the C has probabilities for up to {CLASSES_MAX}")


def _files(
    q: QuantGraph, deployment: Deployment, weights_hash: str, self_test: tuple[Int8, Int8] | None, signals: Signals | None
) -> dict[str, str]:
    """Path -> text of every file of the folder."""
    source = data_folder("firmware_bench")
    packed = {index: packed_node(q, index, deployment.weights[index]) for index in range(1, len(q.graph.nodes))}
    files = {f"{INCLUDE}/{path.name}": path.read_text() for path in sorted((source / INCLUDE).glob("*.h"))}
    for name in sorted({"run.c", *(kernel_file(node.kernel) for node in packed.values())}):
        files[f"{KERNELS}/{name}"] = _relative((source / KERNELS / name).read_text(), f"../{INCLUDE}")
    if filters := instances(q.graph):
        files[DEPTHWISE] = _relative(depthwise.source(filters), INCLUDE)
    if self_test:
        files[SELF_TEST] = _self_test(q.graph, *self_test)
    for name in ("input.c", "hwnas_memory.c"):
        files[name] = (PARTS / name).read_text()
    value = value_of(q.labels)
    if isinstance(value, Value):
        files[VALUE] = (PARTS / VALUE).read_text()
    else:
        softmax = _filled(PROBABILITIES, EXPONENTIALS=table([f"{e}u" for e in exponentials(q).tolist()]))
        files |= {VALUE: softmax + "\n" + (PARTS / EXPECTATION).read_text()} if value else {PROBABILITIES: softmax}
    files["README.md"] = _readme(q, deployment, packed, weights_hash, self_test is not None, signals)
    files["model.h"] = header(q, deployment.plan, weights_hash, signals.rate_hz if signals else None)
    files["model.c"] = body(q, deployment.plan, packed)
    return files


def kernel_file(kernel: str) -> str:
    """The file of a kernel; instances of the depthwise kernel fall back on its portable form."""
    return "depthwise_conv1d.c" if kernel.startswith(depthwise.GENERIC) else f"{kernel.removeprefix('hwnas_')}.c"


def _relative(text: str, include: str) -> str:
    """C text that finds the kernels' headers from where it stands: the folder then compiles without an include path."""
    return re.sub(r'#include "(hwnas_\w+\.h)"', rf'#include "{include}/\1"', text)


def _filled(name: str, **values: str) -> str:
    """A part of the folder with every @NAME@ in it replaced."""
    return re.sub(r"@(\w+)@", lambda found: values[found[1]], (PARTS / name).read_text())


def _self_test(graph: Graph, window: Int8, expected: Int8) -> str:
    shape, outputs = graph.input_shape, graph.output_shape.elements
    fits = window.shape == (shape.length, shape.channels) and expected.shape == (outputs,)
    if not fits or any(array.dtype != np.int8 for array in (window, expected)):
        raise ExportError(
            f"a self-test of {window.dtype} {window.shape} and {expected.dtype} {expected.shape}; "
            f"this student takes int8 ({shape.length}, {shape.channels}) and gives int8 ({outputs},)"
        )
    texts = {name: table([str(v) for v in array.ravel().tolist()]) for name, array in (("INPUT", window), ("EXPECTED", expected))}
    return _filled(SELF_TEST, **texts)


def _readme(
    q: QuantGraph, deployment: Deployment, packed: dict[int, PackedNode], weights_hash: str, tested: bool, signals: Signals | None
) -> str:
    shape = q.graph.input_shape
    return _filled(
        "README.md",
        VERSION=hwnas.__version__,
        GRAPH=q.graph.hash,
        HASH=weights_hash,
        LENGTH=str(shape.length),
        CHANNELS=str(shape.channels),
        RATE="" if signals is None else f", {signals.rate_hz:g} a second ({shape.length / signals.rate_hz:g} s)",
        SIGNALS="" if signals is None else _rows(signals),
        FILTERED=", prepared as the table says" if signals is not None and signals.prepared else "",
        **_read_out(q),
        ARENA=str(max(deployment.plan.arena_bytes, 4)),
        WEIGHTS=str(sum(node.packed.nbytes for node in packed.values())),
        DEPTHWISE=", `depthwise.c`" if instances(q.graph) else "",
        SELF_TEST=(PARTS / ("tested.md" if tested else "untested.md")).read_text().rstrip(),
    )


def _rows(signals: Signals) -> str:
    """What the windows are, as rows of a table."""
    rows = {"channels, in order": ", ".join(signals.channels), "prepared": signals.prepared}
    return "".join(f"| {name} | {text} |\n" for name, text in rows.items() if text)


def _read_out(q: QuantGraph) -> dict[str, str]:
    """What the outputs are, and how they are read out, for README.md."""
    value = value_of(q.labels)
    if value is None:
        labels = ", ".join(f"`{quoted(label)[1:-1]}`" for label in q.labels)
        return {"KIND": "A classifier", "OUTPUTS": labels, "READ_OUT": PROBABILITIES, "USE": _filled("use_classes.md").rstrip()}
    if isinstance(value, Expectation):
        numbers = {"LOWEST": f"{value.lowest:g}", "WIDTH": str(value.width)}
        use = _filled("use_expectation.md", NAME=value.name, UNIT=value.unit, **numbers).rstrip()
        return {"KIND": "A regression", "OUTPUTS": value.classes, "READ_OUT": VALUE, "USE": use}
    numbers = {"CENTRE": f"{value.centre:g}", "SPAN": f"{value.span:g}", "STEP": f"{value.span * q.output.scale:.2g}"}
    use = _filled("use_value.md", NAME=value.name, UNIT=value.unit, **numbers).rstrip()
    return {"KIND": "A regression", "OUTPUTS": f"{value.name}, {value.unit}", "READ_OUT": VALUE, "USE": use}
