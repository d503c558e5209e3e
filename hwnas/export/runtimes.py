"""Exported files in the runtimes that users have: int8 windows in, int8 logits out, one thread. Reads files, never writes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from ai_edge_litert import interpreter as litert
from tflite_runtime.interpreter import Interpreter, OpResolverType

from hwnas.errors import ExportError
from hwnas.export.seal import check_seal, check_student
from hwnas.quantize.qgraph import Int8, QuantGraph

BATCH_WINDOWS = 64
ANY = -1  # the length of an axis that may have any


class TfliteKernels(Enum):
    """The kernels that a TFLite file may meet. They round differently.

    tflite-runtime's default delegate leaves int8 graphs to the built-in kernels.
    """

    BUILTIN = "built-in kernels of tflite-runtime, its default"
    REFERENCE = "reference kernels of tflite-runtime, which define the format"
    XNNPACK = "XNNPACK delegate, the default of ai-edge-litert"


def run_tflite(path: Path, x: Int8, kernels: TfliteKernels = TfliteKernels.BUILTIN, *, q: QuantGraph | None = None) -> Int8:
    """Outputs int8 (N, K) of the TFLite file `path` for windows int8 (N, T, C).

    Raises:
        ExportError: the file is missing, was not written by hwnas or was changed since, is not that of `q`, or reads other windows.
    """
    session = TfliteSession(_sealed(path, q), str(path), kernels)
    return _in_batches(x, lambda part: session.run(part[:, None]))


def run_onnx(path: Path, x: Int8, *, q: QuantGraph | None = None) -> Int8:
    """Outputs int8 (N, K) of the ONNX file `path` for windows int8 (N, T, C); raises as `run_tflite`."""
    session = OnnxSession(_sealed(path, q), str(path))
    return _in_batches(x, lambda part: session.run(part.transpose(0, 2, 1)))


class TfliteSession:
    """A TFLite model in memory. Its inputs and output are in the order of the file.

    Raises:
        ExportError: the runtime refuses the model or the shape of its inputs.
    """

    def __init__(self, content: bytes, name: str, kernels: TfliteKernels) -> None:
        self.name = name
        try:
            self._interpreter = _interpreter(content, kernels)
            self._shapes: list[tuple[int, ...]] = []
        except (ValueError, RuntimeError) as error:
            raise ExportError(f"the TFLite runtime cannot load {name}: {error}") from error

    def run(self, *inputs: Int8) -> Int8:
        """The first output, its batch first, given int8 inputs of the file's shapes but for the batch.

        A file that reads one window at a time (it has an LSTM) is run window by window.
        """
        shapes = [x.shape for x in inputs]
        details = self._interpreter.get_input_details()
        expected = [tuple(d["shape"][1:]) for d in details]
        if [s[1:] for s in shapes] != expected or any(x.dtype != np.int8 for x in inputs):
            got = [f"{x.dtype} {x.shape}" for x in inputs]
            raise ExportError(f"{self.name} reads int8 inputs of {expected} after the number of windows, got {got}")
        try:
            if all(d["shape_signature"][0] == ANY for d in details):
                return self._invoke(details, inputs)
            windows = [self._invoke(details, [x[i : i + 1] for x in inputs]) for i in range(len(inputs[0]))]
            return np.concatenate(windows)
        except (ValueError, RuntimeError) as error:
            raise ExportError(f"the TFLite runtime cannot run {self.name}: {error}") from error

    def _invoke(self, details: Sequence[Any], inputs: Sequence[Int8]) -> Int8:
        """One call of the runtime, with no state left from the call before."""
        interpreter, shapes = self._interpreter, [x.shape for x in inputs]
        if shapes != self._shapes:
            for detail, shape in zip(details, shapes, strict=True):
                interpreter.resize_tensor_input(detail["index"], shape)
            interpreter.allocate_tensors()
            self._shapes = shapes
        interpreter.reset_all_variables()
        for detail, x in zip(details, inputs, strict=True):
            interpreter.set_tensor(detail["index"], np.ascontiguousarray(x))
        interpreter.invoke()
        output: Int8 = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        return output


def _interpreter(content: bytes, kernels: TfliteKernels) -> Any:
    if kernels is TfliteKernels.XNNPACK:
        with _silent_stderr():
            interpreter = litert.Interpreter(model_content=content, num_threads=1)
            interpreter.allocate_tensors()
        return interpreter
    reference = kernels is TfliteKernels.REFERENCE
    resolver = OpResolverType.BUILTIN_REF if reference else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return Interpreter(model_content=content, num_threads=1, experimental_op_resolver_type=resolver)


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """XNNPACK announces itself on the process's standard error, once, and has no switch for it."""
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


class OnnxSession:
    """An ONNX model in memory, on onnxruntime's CPU provider with one thread.

    Raises:
        ExportError: the runtime refuses the model or the shape of its inputs.
    """

    def __init__(self, content: bytes, name: str) -> None:
        self.name = name
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # Processors without VNNI add pairs of 8-bit products in 16 bits and saturate; this keeps them exact.
        options.add_session_config_entry("session.x64quantprecision", "1")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise ExportError(f"onnxruntime cannot load {name}: {error}") from error

    def run(self, *inputs: Int8) -> Int8:
        """The first output, given the inputs in the order of the file."""
        names = [i.name for i in self._session.get_inputs()]
        if len(names) != len(inputs):
            raise ExportError(f"{self.name} reads {len(names)} inputs, got {len(inputs)}")
        try:
            feeds = {name: np.ascontiguousarray(x) for name, x in zip(names, inputs, strict=True)}
            output: Int8 = self._session.run(None, feeds)[0]
        except Exception as error:  # as above
            raise ExportError(f"onnxruntime cannot run {self.name} on {[x.shape for x in inputs]}: {error}") from error
        return output


def _sealed(path: Path, q: QuantGraph | None) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ExportError(f"cannot read {path}: {error.strerror or error}; export the student again") from error
    check_seal(content, str(path))
    if q is not None:
        check_student(content, str(path), q)
    return content


def _in_batches(x: Int8, run: Callable[[Int8], Int8]) -> Int8:
    if x.ndim != 3 or len(x) == 0:
        raise ExportError(f"expected windows (N, samples, channels) with N at least 1, got shape {x.shape}")
    parts = [x[i : i + BATCH_WINDOWS] for i in range(0, len(x), BATCH_WINDOWS)]
    return np.concatenate([run(part).reshape(len(part), -1) for part in parts])
