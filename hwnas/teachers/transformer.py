"""A transformer encoder for signals (B, C, T). Torch; touches no files.

Patches made by two strided convolutions (Xiao et al., NeurIPS 2021: a convolutional stem trains more stably than one large
patch), sinusoidal positions (Vaswani et al., NeurIPS 2017, section 3.5: defined for any length), pre-norm encoder blocks
(Xiong et al., ICML 2020), the mean over time as embedding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LONGEST_PERIOD = 10_000.0  # of the positions, in patches and divided by 2 pi


@dataclass(frozen=True, slots=True)
class EncoderLayout:
    """Width, blocks, heads, width of the hidden layer of a block, strides of the two convolutions of the stem, dropout."""

    width: int
    blocks: int
    heads: int
    hidden: int
    strides: tuple[int, int]
    dropout: float


PPG_TRANSFORMER = EncoderLayout(width=96, blocks=4, heads=4, hidden=192, strides=(5, 4), dropout=0.1)


class Patches(nn.Module):
    """Overlapping patches: (B, C, T) -> (B, ceil(ceil(T / s1) / s2), width)."""

    def __init__(self, in_channels: int, width: int, strides: tuple[int, int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, stride in zip((in_channels, width // 2), (width // 2, width), strides, strict=True):
            kernel = 2 * stride + 1
            layers += [nn.Conv1d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm1d(outputs), nn.GELU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x).transpose(1, 2)
        return out


class EncoderBlock(nn.Module):
    """Self-attention, then two dense layers, each behind a layer norm and around a shortcut: (B, L, width) -> the same shape."""

    def __init__(self, layout: EncoderLayout) -> None:
        super().__init__()
        self.heads = layout.heads
        self.attention_norm, self.dense_norm = nn.LayerNorm(layout.width), nn.LayerNorm(layout.width)
        self.query_key_value = nn.Linear(layout.width, 3 * layout.width, bias=False)  # a bias of keys changes nothing
        self.mix = nn.Linear(layout.width, layout.width)
        self.dense = nn.Sequential(nn.Linear(layout.width, layout.hidden), nn.GELU(), nn.Linear(layout.hidden, layout.width))
        self.dropout = nn.Dropout(layout.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.mix(self._attend(self.attention_norm(x))))
        out: Tensor = x + self.dropout(self.dense(self.dense_norm(x)))
        return out

    def _attend(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.query_key_value(x).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(batch, length, width)


class Transformer1d(nn.Module):
    """A transformer encoder; forward takes (B, C, T) and returns logits (B, K) and taps.

    Taps: "stage1" ... "stageN" (B, width, L) after each block, "embedding" (B, width) before the head.
    """

    def __init__(self, layout: EncoderLayout, in_channels: int, classes: int) -> None:
        super().__init__()
        self.patches = Patches(in_channels, layout.width, layout.strides)
        self.blocks = nn.ModuleList(EncoderBlock(layout) for _ in range(layout.blocks))
        self.norm = nn.LayerNorm(layout.width)
        self.head = nn.Linear(layout.width, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        hidden = self.patches(x)
        hidden = hidden + positions(hidden.shape[1], hidden.shape[2], hidden.dtype, hidden.device)
        taps: dict[str, Tensor] = {}
        for number, block in enumerate(self.blocks, start=1):
            hidden = block(hidden)
            taps[f"stage{number}"] = hidden.transpose(1, 2)
        embedding = self.norm(hidden).mean(dim=1)
        taps["embedding"] = embedding
        return self.head(embedding), taps


def positions(length: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Sines (first half of the columns) and cosines of geometrically spaced frequencies: (length, width), width even."""
    half = width // 2
    frequency = torch.exp(torch.arange(half, dtype=torch.float64) * (-math.log(LONGEST_PERIOD) / half))
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1).to(device, dtype)


def ppg_transformer(in_channels: int, classes: int) -> Transformer1d:
    """The slim one for a CPU: 4 blocks of width 96, one patch for 20 samples (0.2 s at 100 Hz), about 0.34 M parameters."""
    return Transformer1d(PPG_TRANSFORMER, in_channels, classes)
