"""A float `Student` on disk: `graph.json` and `weights.safetensors`, no pickle. torch; writes and reads these two files.

What another framework needs to read them:

- `graph.json`: `nodes` in execution order; `inputs` are indices of earlier nodes. Node 0 is the window, (channels, length) in [-1, 1].
- The tensors of node 3 begin with "nodes.3."; all are float32 but the counters of batches, which nothing reads after the training.

      conv1d            nodes.3.conv.weight  (out, in, 1, kernel)     no bias: a batch norm follows, then a ReLU where `relu` is true
      depthwise_conv1d  nodes.3.conv.weight  (channels, 1, 1, kernel)
      both              nodes.3.bn.{weight, bias, running_mean, running_var}  (out,)     epsilon 1e-5; applied to the convolution's output
      lstm              nodes.3.weight_ih_l0 (4 * units, in), nodes.3.weight_hh_l0 (4 * units, units), nodes.3.bias_ih_l0 and
                        nodes.3.bias_hh_l0 (4 * units,), which add up; rows in the order input, forget, cell, output gate
      dense             nodes.3.weight (units, in), nodes.3.bias (units,)

- Padding is SAME as TensorFlow defines it: `total = max((ceil(length / stride) - 1) * stride + (kernel - 1) * dilation + 1 - length, 0)`,
  the smaller half to the left. Pools are not padded.
- The header's one metadata entry, "hwnas", is JSON: `format`, `graph` (the hash of `graph.json`), and `checksum`, the SHA-256 over
  "name dtype shape " and the bytes of every tensor, in the order of their names.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from hwnas.errors import ExportError, GraphError
from hwnas.graph import OP_NAMES, Graph
from hwnas.resources import write_bytes, write_text
from hwnas.student import Student

FORMAT = "hwnas-float-1"
GRAPH_FILE, WEIGHTS_FILE = "graph.json", "weights.safetensors"
NAMES_SHOWN = 6
Tensors = dict[str, NDArray[Any]]


def save(student: Student, folder: Path) -> None:
    """Write `graph.json` and `weights.safetensors` into `folder`.

    Raises:
        ExportError: a tensor holds NaN or infinity.
        RunError: the files cannot be written.
    """
    tensors = _tensors(student)
    _check_finite(student.graph, tensors, "the student", "its training diverged; train it again with a lower rate")
    header = {"format": FORMAT, "graph": student.graph.hash, "checksum": _checksum(tensors)}
    write_text(folder / GRAPH_FILE, student.graph.to_json())
    write_bytes(folder / WEIGHTS_FILE, to_safetensors(tensors, {"hwnas": json.dumps(header)}))


def load(folder: Path) -> Student:
    """The student that `save` wrote, in eval mode.

    Raises:
        ExportError: a file is missing, unreadable or edited, the two do not belong together, or a tensor is missing, unknown, of
            another shape or type, or not finite.
    """
    graph_path, path = folder / GRAPH_FILE, folder / WEIGHTS_FILE
    graph = _read_graph(graph_path)
    header, tensors = _read_tensors(path)
    if header.get("format") != FORMAT:
        raise ExportError(f"{path}: format {header.get('format')!r}, this version of hwnas reads {FORMAT!r}; export the student again")
    if header.get("graph") != graph.hash:
        raise ExportError(
            f"{graph_path} (graph {graph.hash}) and {path} (graph {header.get('graph')}) belong to different students; "
            "copy both from one student's folder"
        )
    try:
        student = Student(graph)
    except GraphError as error:
        raise ExportError(f"{graph_path}: {error}") from error
    _check_form(graph, tensors, _tensors(student), path)
    _check_finite(graph, tensors, str(path), "the training diverged or the file was edited; export the student again")
    if header.get("checksum") != _checksum(tensors):
        raise ExportError(f"{path} is damaged or was edited: its checksum differs; export the student again")
    student.load_state_dict({name: torch.from_numpy(values) for name, values in tensors.items()})
    return student.eval()


def _read_graph(path: Path) -> Graph:
    try:
        return Graph.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExportError(f"cannot read {path}: {error.strerror or error}; give the folder of a finished student") from error
    except (GraphError, UnicodeDecodeError) as error:
        raise ExportError(f"{path}: {error}; export the student again") from error


def _read_tensors(path: Path) -> tuple[dict[str, Any], Tensors]:
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            header = json.loads((file.metadata() or {})["hwnas"])
    except OSError as error:
        raise ExportError(f"cannot read {path}: {error.strerror or error}; give the folder of a finished student") from error
    except KeyError as error:
        raise ExportError(f"{path} was not written by this version of hwnas: it has no entry 'hwnas'; export the student again") from error
    except (SafetensorError, TypeError, ValueError) as error:
        raise ExportError(f"{path} is no safetensors file, or is damaged: {error}; export the student again") from error
    if not isinstance(header, dict):
        raise ExportError(f"{path}: its entry 'hwnas' is no JSON object; export the student again")
    return header, tensors


def _tensors(student: Student) -> Tensors:
    return {name: np.ascontiguousarray(t.detach().cpu().numpy()).reshape(t.shape) for name, t in student.state_dict().items()}


def _check_form(graph: Graph, found: Tensors, expected: Tensors, path: Path) -> None:
    """Raise ExportError unless `found` has the names, shapes and types of `expected`."""
    for what, names in (("lacks", expected.keys() - found.keys()), ("has the unknown", found.keys() - expected.keys())):
        if names:
            raise ExportError(f"{path} {what} tensors {_listed(graph, names)}; it is not of graph {graph.hash}; export the student again")
    for name, values in found.items():
        like = expected[name]
        if (values.shape, values.dtype) != (like.shape, like.dtype):
            raise ExportError(
                f"{path}: {_described(graph, name)} is {values.dtype} {values.shape}, expected {like.dtype} {like.shape}; "
                "export the student again"
            )


def _check_finite(graph: Graph, tensors: Tensors, where: str, cause: str) -> None:
    broken = {name for name, values in tensors.items() if not np.isfinite(values).all()}
    if broken:
        raise ExportError(f"{where} holds NaN or infinity in {_listed(graph, broken)}: {cause}")


def _listed(graph: Graph, names: set[str]) -> str:
    shown = sorted(names)
    more = f" and {len(shown) - NAMES_SHOWN} more" if len(shown) > NAMES_SHOWN else ""
    return ", ".join(_described(graph, name) for name in shown[:NAMES_SHOWN]) + more


def _described(graph: Graph, name: str) -> str:
    """'nodes.3.conv.weight' (conv1d): the tensor and the operator it belongs to, where there is one."""
    number = name.split(".")[1] if name.count(".") else ""
    node = int(number) if number.isdigit() else len(graph.nodes)
    return f"'{name}' ({OP_NAMES[type(graph.nodes[node].op)]})" if node < len(graph.nodes) else f"'{name}'"


def _checksum(tensors: Tensors) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape} ".encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()
