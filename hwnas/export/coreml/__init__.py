"""`QuantGraph` -> CoreML package (an ML program) for watchOS 9, iOS 16 and macOS 13 or later, inspected before it is written.

The package holds our int8 weights as they are, with their scales: CoreML expands them when it loads the model and computes in float32.
So it is not bit-exact with the int8 reference: weights are the same, activations are not rounded. Input "input" float32 (1, C, T) in
[-1, 1]; outputs "logits" and "probabilities" float32 (1, K), of a regression "output" and "value" (in its unit) float32 (1, 1), of one by
classes of its value "logits", "probabilities" and "value".

CoreML runs on Apple's systems only. Here the package is read back, its weights are compared byte by byte, and its operators are replayed
in torch against the reference (`interpreter`). That is no run of CoreML, and the package's metadata says so; it also holds a window and
what it must give, for whoever has a Mac.

coremltools (`pip install 'hwnas[apple]'`) is optional and carries no types, so it is imported by name when it is needed.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import io
import json
import os
import tempfile
import uuid
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import ExportError, RunError, UsageError
from hwnas.export.coreml.interpreter import Replay, replay
from hwnas.export.coreml.program import CORE_ML_GATES, DEQUANTIZE, INPUT, PROBABILITIES, VALUE, build, read_out_name, tensor_name
from hwnas.graph import Lstm
from hwnas.quantize.qgraph import Int8, QuantGraph, as_stored
from hwnas.quantize.values import describe_outputs
from hwnas.resources import write_bytes, write_text

NOT_RUN = "Converted and inspected, not run: CoreML predicts on Apple's systems only. Not bit-exact with the int8 reference."
SPECIFICATION = "Data/com.apple.CoreML/model.mlmodel"
IDENTITIES = uuid.UUID("6f1f3c52-0b62-4f0e-9d5c-3d6f8f2f5a10")  # any; the namespace of the manifest's identifiers


def require() -> None:
    """Raise UsageError where coremltools is not installed."""
    with _quiet():
        _coremltools()


def write(q: QuantGraph, path: Path, check: Int8, facts: Mapping[str, str]) -> Replay:
    """Write `q` as the package `path`, a folder that does not exist yet, after inspecting it on windows `check` int8 (M, T, C).

    Args:
        facts: what the package's metadata says beside labels and hashes.

    Raises:
        UsageError: coremltools is not installed.
        ExportError: no windows, it cannot be converted, or what is read back is not the student.
        RunError: the package cannot be written.
    """
    if len(check) == 0:
        raise ExportError(f"{path}: no windows to verify it with; give at least one")
    with _quiet():
        tools = _coremltools()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as work:
                made = Path(work) / path.name
                _convert(tools, q, made)
                found, read_out = _inspect(tools, made, q, check, str(path))
                _describe(tools, made, q, {**facts, **_own_check(q, check[0], read_out[0])})
                _name_parts(made, q.graph.hash)
                _inspect(tools, made, q, check[:1], str(path))  # what is moved into place is what was inspected
                os.replace(made, path)
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror or error}; free space or choose another --out") from error
    return found


def _convert(tools: Any, q: QuantGraph, package: Path) -> None:
    program = build(q, tools.converters.mil.Builder, tools.target.watchOS9)
    try:
        tools.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=tools.target.watchOS9,
            compute_precision=tools.precision.FLOAT32,
            # Passes rearrange operators; without them the program is the graph, node by node.
            pass_pipeline=tools.PassPipeline.EMPTY,
            package_dir=str(package),
            skip_model_load=True,
        )
    except Exception as error:  # coremltools raises whatever its passes do
        raise ExportError(f"coremltools cannot convert the student {q.graph.hash}: {error}; report this") from error


def _own_check(q: QuantGraph, window: Int8, read_out: NDArray[np.float32]) -> dict[str, str]:
    """A window int8 (T, C) and what the replay made of it, so that whoever has a Mac can tell whether CoreML agrees."""
    return {
        "check_window": base64.b64encode(np.ascontiguousarray(window.T).tobytes()).decode(),
        "check_scale": repr(q.input.scale),
        "check_zero_point": str(q.input.zero_point),
        f"check_{read_out_name(q)}": ",".join(f"{p:.6f}" for p in read_out),
    }


def _describe(tools: Any, package: Path, q: QuantGraph, facts: Mapping[str, str]) -> None:
    """Put labels, hashes and what else a reader must know into the specification; its maps get an order, so that bytes repeat."""
    path, shape = package / SPECIFICATION, q.graph.input_shape
    specification = tools.proto.Model_pb2.Model()
    specification.ParseFromString(path.read_bytes())
    description = specification.description
    description.metadata.shortDescription = f"hwnas student {q.graph.hash}. {NOT_RUN}"
    description.metadata.userDefined.update({**facts, "labels": ",".join(q.labels), "graph": q.graph.hash, "status": NOT_RUN})
    meanings = {
        INPUT: f"one window, (1, {shape.channels}, {shape.length}), every channel min-max scaled to [-1, 1]",
        "logits": "scores before softmax, in the order of the metadata's labels",
        PROBABILITIES: "probabilities, in the order of the metadata's labels",
        "output": "the student's output",
        VALUE: describe_outputs(q.labels),
    }
    for feature in (*description.input, *description.output):
        feature.shortDescription = meanings[feature.name]
    write_bytes(path, specification.SerializeToString(deterministic=True))


def _name_parts(package: Path, identity: str) -> None:
    """Name the parts in the manifest by the student; coremltools names them at random."""
    path = package / "Manifest.json"
    manifest = json.loads(path.read_text())
    entries = manifest["itemInfoEntries"]
    names = {old: str(uuid.uuid5(IDENTITIES, f"{identity} {entry['path']}")) for old, entry in entries.items()}
    manifest["itemInfoEntries"] = {names[old]: entry for old, entry in sorted(entries.items(), key=lambda e: names[e[0]])}
    manifest["rootModelIdentifier"] = names[manifest["rootModelIdentifier"]]
    write_text(path, json.dumps(manifest, indent=4) + "\n")


def read(tools: Any, package: Path) -> list[Any]:
    """The operations of the package's program, in order, as coremltools reads them back."""
    specification = tools.models.MLModel(str(package), skip_model_load=True).get_spec()
    load = importlib.import_module("coremltools.converters.mil.frontend.milproto.load").load
    weights = package / Path(SPECIFICATION).parent / "weights"
    return list(load(specification, specification.specificationVersion, str(weights)).functions["main"].operations)


def _inspect(tools: Any, package: Path, q: QuantGraph, check: Int8, where: str) -> tuple[Replay, NDArray[np.float32]]:
    """Read the package back; raises ExportError unless its weights are those of `q`, byte by byte, and its operators compute the same."""
    try:
        operations = read(tools, package)
    except Exception as error:  # coremltools raises whatever its reader does
        raise ExportError(f"{where}: coremltools cannot read back what it wrote: {error}; report this") from error
    held = {o.name: np.asarray(o.quantized_data.val) for o in operations if o.op_type == DEQUANTIZE}
    for index in (*q.constants, *q.lstms):
        found, expected = held_weights(q, index, held), (q.lstms if index in q.lstms else q.constants)[index].weights
        if found.dtype != expected.dtype or not np.array_equal(found, expected):
            raise ExportError(f"{where}: the package holds other weights of node {index} than the student; report this")
    return replay(operations, q, check, where)


def held_weights(q: QuantGraph, index: int, held: Mapping[str, Int8]) -> Int8:
    """Weights of node `index` among the tensors `held` by a package, in the layout of `QuantGraph`."""
    op, name = q.graph.nodes[index].op, tensor_name(q, index)
    weights = held[f"{name}_weights"]
    if isinstance(op, Lstm):
        both = np.concatenate([weights, held[f"{name}_recurrent"]], axis=1)
        return as_stored(op, both)[:, CORE_ML_GATES]
    return as_stored(op, weights[:, :, 0] if weights.ndim == 4 else weights)


def _coremltools() -> Any:
    try:
        return importlib.import_module("coremltools")
    except ImportError as error:
        raise UsageError(
            f"the format 'coreml' needs coremltools, which cannot be imported ({error}); install it with: pip install 'hwnas[apple]'"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """coremltools tells on standard error that it cannot predict here, and draws progress bars there; it has no switch for either."""
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves temporary folders to the collector
        yield
