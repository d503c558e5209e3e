"""A network over spectra of a window: harmonics of every rate, convolutions along the rate. Torch; touches no files.

For rates under motion: at each of 180 rates it sees the power of the first signal (the pulse wave) at half the rate, at the rate, at twice
and at three times it, and that of all other signals (acceleration) together. Convolutions along the rate find a pulse wherever it lies,
so that few subjects suffice. The spectrum is a fixed part of the network (a discrete Fourier transform under a Hann window).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

RATES = 180  # 30 to 209 per minute in a window of 8 s
PERIODS = 4.0, 4.0 * 209 / 30  # of the lowest and the highest rate in a window
HARMONICS = (0.5, 1.0, 2.0, 3.0)
FLOOR = 50.0  # power below which a standardised window says little: less than a hundredth of a pure sine's


class RateBlock(nn.Module):
    """Depthwise convolution along the rate and two pointwise ones, around a shortcut: (B, C, R) -> the same shape."""

    def __init__(self, width: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(width, width, kernel, padding=dilation * (kernel // 2), dilation=dilation, groups=width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Conv1d(width, 2 * width, 1, bias=False),
            nn.BatchNorm1d(2 * width),
            nn.ReLU(),
            nn.Conv1d(2 * width, width, 1),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.layers(x)
        return out


class SpectrumNet(nn.Module):
    """Convolutions along the rate; forward takes (B, C, T) and returns logits (B, K) and taps.

    Of 180 classes each is answered at its own rate; other numbers of classes by a dense head on the mean over rates.
    Taps: "stage1" ... "stageN" (B, width, 180) after each block, "embedding" (B, width).
    """

    def __init__(self, in_channels: int, classes: int, width: int = 32, blocks: int = 4, kernel: int = 9, dropout: float = 0.1) -> None:
        super().__init__()
        features = len(HARMONICS) * (1 if in_channels == 1 else 2) + 1
        self.stem = nn.Sequential(nn.Conv1d(features, width, kernel, padding=kernel // 2, bias=False), nn.BatchNorm1d(width), nn.ReLU())
        self.blocks = nn.ModuleList(RateBlock(width, kernel, 2 ** (i % 4), dropout) for i in range(blocks))
        self.by_rate = classes == RATES
        self.head: nn.Module = nn.Conv1d(width, 1, 1) if self.by_rate else nn.Linear(width, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        place = torch.linspace(-1, 1, RATES, dtype=x.dtype, device=x.device).expand(len(x), 1, RATES)
        hidden = self.stem(torch.cat([spectra(x), place], dim=1))
        taps: dict[str, Tensor] = {}
        for number, block in enumerate(self.blocks, start=1):
            hidden = block(hidden)
            taps[f"stage{number}"] = hidden
        taps["embedding"] = hidden.mean(dim=2)
        return (self.head(hidden).flatten(1) if self.by_rate else self.head(taps["embedding"])), taps


def spectra(x: Tensor) -> Tensor:
    """Log power of windows (B, C, T), each channel standardised, at the harmonics of every rate: (B, 4, 180), (B, 8, 180) where C > 1."""
    samples = x.shape[2]
    turns = torch.linspace(*PERIODS, RATES, dtype=x.dtype, device=x.device)[:, None] * torch.arange(samples, dtype=x.dtype, device=x.device)
    angles = 2 * torch.pi / samples * turns * torch.tensor(HARMONICS, dtype=x.dtype, device=x.device)[:, None, None]
    window = torch.hann_window(samples, periodic=False, dtype=x.dtype, device=x.device)
    centred = x - x.mean(dim=2, keepdim=True)
    even = centred / (centred.std(dim=2, keepdim=True) + 1e-3) * window
    power = torch.einsum("bct,hrt->bchr", even, angles.cos()) ** 2 + torch.einsum("bct,hrt->bchr", even, angles.sin()) ** 2
    parts = [power[:, 0]] if x.shape[1] == 1 else [power[:, 0], power[:, 1:].sum(dim=1)]
    return torch.log1p(torch.cat(parts, dim=1) * (256 / samples) ** 2 / FLOOR)


def spectrum(in_channels: int, classes: int) -> SpectrumNet:
    """Four blocks of 32 channels, about 21,000 parameters."""
    return SpectrumNet(in_channels, classes)
