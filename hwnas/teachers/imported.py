"""A teacher that was made elsewhere: a TorchScript archive or an ONNX file. Torch and onnxruntime; reads the file, writes nothing.

It answers logits and has no taps, so distillation on taps is refused. A TorchScript archive holds a *program* that runs when it is
loaded and asked; files of people one does not trust are not to be imported. A pickled module could run anything and is never opened.
"""

from __future__ import annotations

import hashlib
import io
import warnings
import zipfile
from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hwnas.errors import TrainingError

TORCHSCRIPT, ONNX = ".pt", ".onnx"
TRIED = 5  # windows of noise that a network is tried on
SAME = 1e-4  # largest difference, relative to the logits' range, between a window answered alone and in company

Answer = Callable[[Tensor], Tensor]


class Imported(nn.Module):
    """A network of a file; forward takes (B, C, T) and returns logits (B, K) and no taps.

    Attributes:
        content: the file's bytes; content_hash: their hash.
        file_name: how it is called in a teacher's folder.
        trained_values: how many it holds.
    """

    def __init__(self, content: bytes, suffix: str, answer: Answer, trained_values: int) -> None:
        super().__init__()
        self.content, self.trained_values = content, trained_values
        self.content_hash = hashlib.sha256(content).hexdigest()
        self.name = f"imported-{self.content_hash[:16]}"
        self.file_name = self.name + suffix
        self.answer = answer

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.answer(x), {}


def load_imported(path: Path) -> Imported:
    """The network in `path`, in eval mode on the CPU.

    Raises:
        TrainingError: unreadable, or neither a TorchScript archive (.pt) nor an ONNX file (.onnx).
    """
    readers = {TORCHSCRIPT: _torchscript, ONNX: _onnx}
    if path.suffix not in readers:
        raise TrainingError(
            f"{path}: not a TorchScript archive ({TORCHSCRIPT}) and not an ONNX file ({ONNX}) by its name; give one of these"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read ({error.strerror or error})") from error
    answer, trained_values = readers[path.suffix](content, path)
    return Imported(content, path.suffix, answer, trained_values).eval()


def check_imported(module: Imported, channels: int, samples: int, classes: int) -> None:
    """Try the network on noise (B, `channels`, `samples`): logits (B, `classes`), finite, alike twice and in any company.

    Raises:
        TrainingError: it fails, or answers something else.
    """
    x = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (TRIED, channels, samples)).astype(np.float32))
    where = f"{module.file_name}, tried on {TRIED} windows ({channels}, {samples})"
    with torch.inference_mode():
        first = _ask(module, x, where)
        if first.shape != (TRIED, classes):
            raise TrainingError(f"{where}: it answers {tuple(first.shape)}, the task needs logits ({TRIED}, {classes}): one for each label")
        if not bool(torch.isfinite(first).all()):
            raise TrainingError(f"{where}: it answers NaN or infinity")
        if not torch.equal(first, _ask(module, x, where)):
            raise TrainingError(f"{where}: it answers differently the second time; export it in eval mode, without dropout")
        alone = torch.cat([_ask(module, x[i : i + 1], where) for i in range(TRIED)])
    span = float(first.max() - first.min())
    if float((alone - first).abs().max()) > SAME * max(span, 1.0):
        raise TrainingError(f"{where}: a window is answered differently alone and in company; export it in eval mode (batch statistics)")
    if bool((first >= 0).all()) and torch.allclose(first.sum(dim=1), torch.ones(TRIED), atol=1e-3):
        raise TrainingError(f"{where}: it answers probabilities; a temperature divides logits. Export it without the softmax at its end")


def _ask(module: Imported, x: Tensor, where: str) -> Tensor:
    try:
        answer = module(x)[0]
    except Exception as error:  # whatever the network's own program raises
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise TrainingError(f"{where}: it fails ({reason[0]}); does it read windows of this task and answer one tensor?") from error
    if not isinstance(answer, Tensor):
        raise TrainingError(f"{where}: it answers a {type(answer).__name__}, not one tensor of logits")
    return answer.float()


def _torchscript(content: bytes, path: Path) -> tuple[Answer, int]:
    names = zipfile.ZipFile(io.BytesIO(content)).namelist() if zipfile.is_zipfile(io.BytesIO(content)) else []
    if not any("/code/" in name for name in names) or not any(name.endswith("/constants.pkl") for name in names):
        raise TrainingError(
            f"{path}: not a TorchScript archive. A pickled module or a file of weights can run any program when it is opened and is not; "
            "write it with torch.jit.save(torch.jit.trace(network.eval(), example), file), or as ONNX"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the format is old, and what people have
            network = torch.jit.load(io.BytesIO(content), map_location="cpu")  # type: ignore[no-untyped-call]
        network.eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise TrainingError(f"{path}: torch cannot load this TorchScript archive ({str(error).strip().splitlines()[0]})") from error
    return network, sum(parameter.numel() for parameter in network.parameters())


def _onnx(content: bytes, path: Path) -> tuple[Answer, int]:
    import onnx  # a second's worth of libraries that only imported teachers need
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        graph = onnx.load_model_from_string(content).graph
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # protobuf and onnxruntime raise types of their own
        raise TrainingError(f"{path}: not an ONNX file that onnxruntime runs ({str(error).strip().splitlines()[0]})") from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 3:
        found = ", ".join(f"{one.name}: {one.type} {one.shape}" for one in (*inputs, *outputs))
        raise TrainingError(f"{path}: a teacher reads one float32 input (windows, channels, samples) and has one output; this has {found}")
    name, batch = inputs[0].name, inputs[0].shape[0]
    if isinstance(batch, int) and batch != 1:
        raise TrainingError(f"{path}: it reads {batch} windows at a time; export it with a dynamic first axis")

    def answer(x: Tensor) -> Tensor:
        windows = x.cpu().numpy()
        parts = windows[:, None] if batch == 1 else windows[None]
        return torch.from_numpy(np.concatenate([session.run(None, {name: part})[0] for part in parts]))

    return answer, sum(prod(one.dims) for one in graph.initializer if one.data_type == onnx.TensorProto.FLOAT)
