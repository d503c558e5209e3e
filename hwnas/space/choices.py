"""Search spaces by name: what the YAML of each family declares, in the field's terms. Reads YAML; no torch."""

from __future__ import annotations

from pathlib import Path

from hwnas.config import parse, read_yaml
from hwnas.errors import ConfigError, unknown
from hwnas.resources import folder
from hwnas.space.grammar import Candidate, Choice, Group, SearchSpace, Whole

__all__ = ["Candidate", "SearchSpace", "names", "read"]


class Stem(Group):
    """The first convolution."""

    channels: Choice
    kernel: Choice
    stride: Choice


class InvertedResidual(Group):
    """Pointwise expansion, depthwise convolution, pointwise projection."""

    channels: Choice
    kernel: Choice
    stride: Choice
    expansion: Choice
    dilation: Choice


class MobileNet1d(SearchSpace):
    """Stem, inverted-residual blocks, global mean."""

    stem: Stem
    blocks: Choice
    block: InvertedResidual


class PooledStem(Stem):
    """The first convolution and the max pool after it (1: none)."""

    pool: Choice


class Bottleneck(Group):
    """Pointwise reduction to channels / reduction, convolution, pointwise expansion, beside a shortcut."""

    channels: Choice
    reduction: Choice
    kernel: Choice
    stride: Choice
    dilation: Choice


class MicroResNet(SearchSpace):
    """Stem, bottleneck residual blocks, global mean."""

    stem: PooledStem
    blocks: Choice
    block: Bottleneck


class Frames(Group):
    """Frames of `stride * overlap` samples, one every `stride` samples, each embedded in `channels` numbers."""

    channels: Choice
    stride: Choice
    overlap: Choice


class ConvBlock(Group):
    """One convolution."""

    channels: Choice
    kernel: Choice
    stride: Choice


class Recurrence(Group):
    """The LSTM; `mean` 1: its states are averaged over time, 0: the last one is read."""

    units: Choice
    mean: Whole


class LstmSpace(SearchSpace):
    """Frames, convolutions, one LSTM."""

    frame: Frames
    convs: Choice
    conv: ConvBlock
    lstm: Recurrence


class PooledConv(Group):
    """One convolution and the mean pool after it (1: none)."""

    channels: Choice
    kernel: Choice
    dilation: Choice
    pool: Choice


class Mixer(Group):
    """The convolution over modalities."""

    channels: Choice


class ModalityConv(SearchSpace):
    """Stem and temporal convolutions that all modalities share, a convolution over modalities, plain temporal convolutions."""

    stem: Stem
    shared_blocks: Choice
    shared_block: PooledConv
    mixer: Mixer
    blocks: Choice
    block: PooledConv


class Bank(Group):
    """Band-pass filters at 1 / `pool` of the rate, one response every `stride` samples."""

    bands: Choice
    kernel: Choice
    pool: Choice
    stride: Choice


class WideMixer(Mixer):
    """The convolution over modalities and neighbouring bands."""

    kernel: Choice


class BandBlock(Group):
    """Depthwise and pointwise convolution along frequency, around a shortcut."""

    kernel: Choice
    dilation: Choice


class Spectral(SearchSpace):
    """Filter bank that all modalities share, mean responses, convolutions along frequency."""

    bank: Bank
    mixer: WideMixer
    blocks: Choice
    block: BandBlock


FORMS: dict[str, type[SearchSpace]] = {
    "mobilenet1d": MobileNet1d,
    "microresnet": MicroResNet,
    "lstm": LstmSpace,
    "modality_conv": ModalityConv,
    "spectral": Spectral,
}


def names() -> list[str]:
    """Names of the spaces that are installed."""
    return sorted(path.stem for path in folder("search_spaces").glob("*.yaml"))


def read(name_or_path: str) -> SearchSpace:
    """The space of that name, or in that YAML file.

    Raises:
        ConfigError: no such space, or a file that is not one.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
    elif name_or_path in names():
        path = folder("search_spaces") / f"{name_or_path}.yaml"
    else:
        raise ConfigError(unknown("search space", name_or_path, names()))
    content = read_yaml(path)
    family = content.get("family")
    if family not in FORMS:
        raise ConfigError(f"{path}: at 'family': " + unknown("family", str(family), FORMS))
    return parse(content, FORMS[family], str(path))
