"""A `QuantGraph` on disk: `graph.json` and `int8.safetensors` of a student's folder, no pickle. numpy; no torch.

The tensors of node 3 are "3.weights", "3.bias", "3.weight_scale" and "3.multiplier" ("3.hidden_multiplier" instead of the scale for an
LSTM); the header's one metadata entry, "hwnas", is JSON with the graph's hash, what is not a tensor, and a checksum of all of it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from hwnas.errors import GraphError, QuantizationError
from hwnas.graph import GATES, Conv1d, Dense, DepthwiseConv1d, Graph, Lstm, Node
from hwnas.quantize.qgraph import Quant, QuantGraph, QuantLstm, QuantWeights
from hwnas.resources import write_bytes, write_text

FORMAT = "hwnas-int8-2"
GRAPH_FILE, TENSOR_FILE = "graph.json", "int8.safetensors"
FIELDS: dict[str, Any] = {"weights": np.int8, "bias": np.int32, "weight_scale": np.float64, "multiplier": np.int32}
LSTM_FIELDS: dict[str, Any] = {"weights": np.int8, "bias": np.int32, "multiplier": np.int32, "hidden_multiplier": np.int32}
Tensors = dict[str, NDArray[Any]]
Shapes = dict[str, tuple[int, ...]]


def save(q: QuantGraph, folder: Path) -> None:
    """Write `graph.json` and `int8.safetensors` into `folder`; raises RunError where they cannot be written."""
    tensors = _tensors(q)
    header = _header(q)
    header["checksum"] = _checksum(header, tensors)
    write_text(folder / GRAPH_FILE, q.graph.to_json())
    write_bytes(folder / TENSOR_FILE, to_safetensors(tensors, {"hwnas": json.dumps(header)}))


def load(folder: Path) -> QuantGraph:
    """The `QuantGraph` that `save` wrote, exactly.

    Raises:
        QuantizationError: a file is missing, unreadable or edited, or the two do not belong together.
    """
    graph_path, tensor_path = folder / GRAPH_FILE, folder / TENSOR_FILE
    try:
        graph = Graph.from_json(graph_path.read_text())
        with safe_open(tensor_path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})["hwnas"])
            tensors: Tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError as error:
        raise QuantizationError(f"{folder} is not the folder of a student: it lacks {GRAPH_FILE} or {TENSOR_FILE}") from error
    except (OSError, UnicodeDecodeError, GraphError) as error:
        raise QuantizationError(f"cannot read {graph_path}: {error}; export the student again") from error
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise QuantizationError(f"cannot read {tensor_path}: {error}; export the student again") from error
    if header.get("format") != FORMAT:
        raise QuantizationError(f"{tensor_path}: format {header.get('format')!r}, this version of hwnas reads {FORMAT!r}")
    if header.get("graph") != graph.hash:
        raise QuantizationError(
            f"{graph_path} (graph {graph.hash}) and {tensor_path} (graph {header.get('graph')}) belong to different students"
        )
    if header.pop("checksum", None) != _checksum(header, tensors):
        raise QuantizationError(f"{tensor_path} is damaged or was edited: its checksum differs; export the student again")
    try:
        return _assemble(graph, header, tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise QuantizationError(f"{tensor_path} does not fit its graph: {error}; export the student again") from error


def content_hash(q: QuantGraph) -> str:
    """Hash of everything that decides the student's outputs: graph, scales and integers. 16 hexadecimal digits."""
    return _checksum(_header(q), _tensors(q))[:16]


def constant_shape(node: Node, source_channels: int) -> tuple[int, ...]:
    """Shape of the weights of a Conv1d, DepthwiseConv1d or Dense node in a `QuantGraph`."""
    op = node.op
    if isinstance(op, Conv1d):
        return op.out_channels, op.kernel, source_channels
    if isinstance(op, DepthwiseConv1d):
        return op.kernel, source_channels
    return node.shape.channels, source_channels


def _tensors(q: QuantGraph) -> Tensors:
    arrays = {f"{i}.{name}": getattr(c, name) for i, c in q.constants.items() for name in FIELDS}
    arrays |= {f"{i}.{name}": getattr(c, name) for i, c in q.lstms.items() for name in LSTM_FIELDS}
    return {name: np.ascontiguousarray(a, np.int32 if np.ndim(a) == 0 else None) for name, a in arrays.items()}


def _header(q: QuantGraph) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "graph": q.graph.hash,
        "quants": [[u.scale, u.zero_point] for u in q.quants],
        "multipliers": {str(i): list(m) for i, m in sorted(q.multipliers.items())},
        "labels": list(q.labels),
    }


def _checksum(header: dict[str, Any], tensors: Tensors) -> str:
    digest = hashlib.sha256(json.dumps(header).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape} ".encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()


def _assemble(graph: Graph, header: dict[str, Any], tensors: Tensors) -> QuantGraph:
    constants, lstms = {}, {}
    for index, node in enumerate(graph.nodes):
        op = node.op
        if isinstance(op, Conv1d | DepthwiseConv1d | Dense):
            shapes: Shapes = dict.fromkeys(FIELDS, (node.shape.channels,))
            shapes["weights"] = constant_shape(node, graph.in_shape(node).channels)
            constants[index] = QuantWeights(**_fields(tensors, index, FIELDS, shapes))
        elif isinstance(op, Lstm):
            weights = op.units, GATES, graph.in_shape(node).channels + op.units
            shapes = {"weights": weights, "bias": weights[:2], "multiplier": weights[:2], "hidden_multiplier": (1,)}
            fields = _fields(tensors, index, LSTM_FIELDS, shapes)
            lstms[index] = QuantLstm(**fields | {"hidden_multiplier": int(fields["hidden_multiplier"][0])})
    quants = tuple(Quant(float(scale), int(zero)) for scale, zero in header["quants"])
    if len(quants) != len(graph.nodes):
        raise ValueError(f"{len(quants)} scales for {len(graph.nodes)} nodes")
    multipliers = {int(i): tuple(int(m) for m in ms) for i, ms in header["multipliers"].items()}
    return QuantGraph(graph, quants, constants, multipliers, tuple(header["labels"]), lstms)


def _fields(tensors: Tensors, index: int, dtypes: dict[str, Any], shapes: Shapes) -> dict[str, Any]:
    """The tensors of node `index` by field; raises ValueError where one has another type or shape."""
    fields = {name: tensors[f"{index}.{name}"] for name in dtypes}
    for name, found in fields.items():
        if found.shape != shapes[name] or found.dtype != dtypes[name]:
            raise ValueError(f"{index}.{name} is {found.dtype} {found.shape}, not {np.dtype(dtypes[name])} {shapes[name]}")
    return fields
