"""PULSE: heart rate from a pulse wave that attends to motion. Torch; touches no files.

Kasnesis et al. 2025, "Replacing Attention with Modality-wise Convolution for Energy-Efficient PPG-based Heart Rate Estimation using
Knowledge Distillation"; layout and sizes as in the code that they published (KD_PULSE). Every signal walks through the *same* temporal
blocks (dilated convolutions, ReLU, average pooling, dropout); then each filter of the PPG is a query of attention over all filters of
the acceleration axes, whose vectors are `POSITIONS` moments long. What attention answers is normalised and read by two dense layers.

Convolutions begin as He et al. (ICCV 2015) draw them, not as torch does: nine of torch's leave signals so small that all windows look
alike, and training stays at the loss of a constant answer for long.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

POSITIONS = 16  # moments that are left of a window: 8 s at 32 Hz shortened by 4, 2 and 2


@dataclass(frozen=True, slots=True)
class PulseLayout:
    """Filters of the temporal blocks, pooling of all but the last, a block's convolutions, their length and dilation, and the rest."""

    widths: tuple[int, ...]
    pools: tuple[int, ...]
    convolutions: int
    kernel: int
    dilation: int
    heads: int
    embedding: int
    dropout: float


PULSE = PulseLayout(widths=(32, 48, 64), pools=(4, 2), convolutions=3, kernel=5, dilation=2, heads=4, embedding=32, dropout=0.5)


class TemporalBlock(nn.Module):
    """Convolutions along time with ReLU, then pooling and dropout: (B, C, M, L) -> (B, width, M, what `pool` leaves of L)."""

    def __init__(self, layout: PulseLayout, inputs: int, width: int, pool: nn.Module) -> None:
        super().__init__()
        channels = (inputs, *[width] * layout.convolutions)
        padding = layout.dilation * (layout.kernel // 2)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(i, o, (1, layout.kernel), dilation=(1, layout.dilation), padding=(0, padding)) for i, o in pairwise(channels)
        )
        for convolution in self.convolutions:
            nn.init.kaiming_normal_(convolution.get_parameter("weight"), nonlinearity="relu")
            nn.init.zeros_(convolution.get_parameter("bias"))
        self.pool, self.dropout = pool, nn.Dropout(layout.dropout)

    def forward(self, x: Tensor) -> Tensor:
        for convolution in self.convolutions:
            x = torch.relu(convolution(x))
        out: Tensor = self.dropout(self.pool(x))
        return out


class Pulse(nn.Module):
    """Cross-attention of PPG (channel 0) over acceleration (the others); forward takes (B, C, T) and returns logits (B, K) and taps.

    Taps: "stage1" ... "stage3" (B, filters, L) of the PPG after each temporal block, "stage4" (B, filters, POSITIONS) after attention,
    "embedding" (B, 32) before the head, the vector that its authors distil.
    """

    def __init__(self, layout: PulseLayout, classes: int) -> None:
        super().__init__()
        inputs = (1, *layout.widths[:-1])
        # the last block pools to POSITIONS whatever is left: by 2, as published, where the window has 256 samples
        pools = [*(nn.AvgPool2d((1, pool), ceil_mode=True) for pool in layout.pools), nn.AdaptiveAvgPool2d((None, POSITIONS))]
        rows = zip(inputs, layout.widths, pools, strict=True)
        self.blocks = nn.ModuleList(TemporalBlock(layout, i, width, pool) for i, width, pool in rows)
        self.attention = nn.MultiheadAttention(POSITIONS, layout.heads, batch_first=True)
        self.norm = nn.LayerNorm(POSITIONS)
        self.dense = nn.Linear(layout.widths[-1] * POSITIONS, layout.embedding)
        self.head = nn.Linear(layout.embedding, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        hidden = x.unsqueeze(1)
        taps: dict[str, Tensor] = {}
        for number, block in enumerate(self.blocks, start=1):
            hidden = block(hidden)
            taps[f"stage{number}"] = hidden[:, :, 0]
        pulse, motion = hidden[:, :, 0], hidden[:, :, 1:].flatten(1, 2)
        attended = self.norm(self.attention(pulse, motion, motion, need_weights=False)[0])
        taps[f"stage{len(self.blocks) + 1}"] = attended
        embedding = self.dense(attended.flatten(1))
        taps["embedding"] = embedding
        return self.head(embedding), taps


def pulse(in_channels: int, classes: int) -> Pulse:
    """The published teacher: with one output 131,825 parameters for any number of channels, since all share the temporal blocks.

    A window of 4 channels and 8 s at 32 Hz costs 26.3 M MACs.
    """
    return Pulse(PULSE, classes)
