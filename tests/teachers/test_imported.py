"""Teachers that were made elsewhere: what is taken, what is refused and why, and the way to disk and back."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from hwnas.errors import TrainingError
from hwnas.teachers.cache import answer, predict
from hwnas.teachers.calibration import calibrate
from hwnas.teachers.card import IMPORTED, TeacherCard, content_id, count_parameters, load_teacher, save_teacher
from hwnas.teachers.imported import Imported, check_imported, load_imported

CHANNELS, SAMPLES, CLASSES = 2, 40, 3


class Linear(nn.Module):
    """One dense layer over a window; what comes behind it may spoil it."""

    def __init__(self, behind: nn.Module | None = None, classes: int = CLASSES) -> None:
        super().__init__()
        self.dense = nn.Linear(CHANNELS * SAMPLES, classes)
        self.behind = nn.Identity() if behind is None else behind

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.behind(self.dense(x.flatten(1)))
        return out


class InCompany(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(dim=0, keepdim=True)


class Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 0.0


def x(count: int = 6) -> np.ndarray:
    return np.random.default_rng(3).uniform(-1, 1, (count, CHANNELS, SAMPLES)).astype(np.float32)


def torchscript(path: Path, module: nn.Module) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates writing TorchScript; people have such files
        torch.jit.save(torch.jit.script(module), str(path))
    return path


def onnx_file(path: Path, module: Linear, *, batch: str | int = "windows", outputs: int = 1) -> Path:
    weight, bias = (numpy_helper.from_array(p.detach().numpy(), n) for p, n in ((module.dense.weight, "w"), (module.dense.bias, "b")))
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("Gemm", ["flat", "w", "b"], ["y"], transB=1)]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, CHANNELS, SAMPLES])]
    shapes = {"y": CLASSES, "flat": CHANNELS * SAMPLES}
    answers = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, size]) for name, size in shapes.items()]
    graph = helper.make_graph(nodes, "made", inputs, answers[:outputs], [weight, bias])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("suffix", [".pt", ".onnx"])
def test_both_kinds_answer_what_the_network_answers(suffix: str, tmp_path: Path) -> None:
    original = Linear().eval()
    path = (torchscript if suffix == ".pt" else onnx_file)(tmp_path / f"net{suffix}", original)
    module = load_imported(path)
    check_imported(module, CHANNELS, SAMPLES, CLASSES)
    with torch.inference_mode():
        expected = original(torch.from_numpy(x())).numpy()
    assert np.allclose(predict(module, x()), expected, atol=1e-5)
    assert count_parameters(module) == sum(p.numel() for p in original.parameters())
    assert module.file_name.endswith(suffix) and module.content == path.read_bytes()
    with pytest.raises(TrainingError, match=r"has no taps, 'embedding' was asked for.*choose a distillation"):
        answer(module, x(), taps=("embedding",))


def test_an_onnx_file_for_one_window_at_a_time_is_asked_window_by_window(tmp_path: Path) -> None:
    original = Linear().eval()
    many = load_imported(onnx_file(tmp_path / "many.onnx", original))
    one = load_imported(onnx_file(tmp_path / "one.onnx", original, batch=1))
    check_imported(one, CHANNELS, SAMPLES, CLASSES)
    assert np.allclose(predict(one, x()), predict(many, x()), atol=1e-5)
    with pytest.raises(TrainingError, match="reads 4 windows at a time; export it with a dynamic first axis"):
        load_imported(onnx_file(tmp_path / "four.onnx", original, batch=4))


SPOILT = {
    "answers .*, the task needs logits .*: one for each label": Linear(classes=CLASSES + 1),
    "answers NaN or infinity": Linear(Broken()),
    "differently alone and in company": Linear(InCompany()),
    "answers probabilities.*without the softmax": Linear(nn.Softmax(dim=1)),
    r"it fails .*does it read windows of this task": nn.Conv1d(CHANNELS + 1, 1, 3),
}


@pytest.mark.parametrize("reason", SPOILT)
def test_a_network_that_cannot_teach_is_refused(reason: str, tmp_path: Path) -> None:
    module = load_imported(torchscript(tmp_path / "net.pt", SPOILT[reason].eval()))
    with pytest.raises(TrainingError, match=reason):
        check_imported(module, CHANNELS, SAMPLES, CLASSES)


def test_one_that_answers_by_chance_or_no_tensor_is_refused() -> None:
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(TrainingError, match="differently the second time"):
        check_imported(Imported(b"", ".pt", lambda x: torch.rand((len(x), CLASSES), generator=generator), 0), CHANNELS, SAMPLES, CLASSES)
    with pytest.raises(TrainingError, match="answers a tuple, not one tensor"):
        check_imported(Imported(b"", ".pt", lambda x: (x, x), 0), CHANNELS, SAMPLES, CLASSES)  # type: ignore[arg-type, return-value]


class Spy:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_pickled_modules_are_never_opened(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    torch.save(Spy(touched), tmp_path / "zip.pt")
    torch.save(Spy(touched), tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(Linear().state_dict(), tmp_path / "weights.pt")
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as archive:
        archive.writestr("a/readme", "no network")
    for name in ("zip.pt", "legacy.pt", "weights.pt", "other.pt"):
        with pytest.raises(TrainingError, match=r"not a TorchScript archive\. A pickled module"):
            load_imported(tmp_path / name)
    assert not touched.exists()


@pytest.mark.parametrize(("name", "content", "reason"), [
    ("net.onnx", b"rubbish", "not an ONNX file that onnxruntime runs"),
    ("net.onnx", b"", "not an ONNX file"),
    ("net.pkl", b"", "not a TorchScript archive .* and not an ONNX file"),
    ("net.pt", b"", "not a TorchScript archive"),
])  # fmt: skip
def test_other_files_are_refused(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TrainingError, match=reason):
        load_imported(tmp_path / name)


def test_a_missing_or_cut_file_and_an_onnx_of_another_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="cannot be read"):
        load_imported(tmp_path / "absent.onnx")
    whole = torchscript(tmp_path / "net.pt", Linear()).read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(buffer, "w") as new:
        for item in old.namelist():
            new.writestr(item, b"" if item.endswith(".py") else old.read(item))
    (tmp_path / "cut.pt").write_bytes(buffer.getvalue())
    with pytest.raises(TrainingError, match="torch cannot load this TorchScript archive"):
        load_imported(tmp_path / "cut.pt")
    with pytest.raises(TrainingError, match=r"one float32 input .* and has one output; this has"):
        load_imported(onnx_file(tmp_path / "two.onnx", Linear(), outputs=2))


@pytest.mark.parametrize("suffix", [".pt", ".onnx"])
def test_its_file_is_kept_by_content_and_one_that_was_changed_is_refused(suffix: str, tmp_path: Path) -> None:
    write = torchscript if suffix == ".pt" else onnx_file
    module = load_imported(write(tmp_path / f"mine{suffix}", Linear()))
    logits, y = predict(module, x(30)), np.arange(30) % CLASSES
    card = TeacherCard(
        id=content_id(module, module.name, "d0"),
        name=module.name,
        parameters=count_parameters(module),
        in_channels=CHANNELS,
        labels=("a", "b", "c"),
        data="d0",
        source="real",
        recipe={},
        seed=0,
        calibration=calibrate(logits, y, logits),
        metrics={},
        origin=f"{IMPORTED}mine{suffix}",
    )
    folder = tmp_path / "teacher"
    save_teacher(folder, module, card)
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", module.file_name]
    loaded, again = load_teacher(folder)
    assert again == card and again.imported and np.allclose(predict(loaded, x(30)), logits)
    write(folder / module.file_name, Linear())
    with pytest.raises(TrainingError, match="the teacher was changed"):
        load_teacher(folder)
