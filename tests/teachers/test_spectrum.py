"""The spectra of the spectral teacher: a sine stands at its own rate, its harmonics at theirs, and motion apart from the pulse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hwnas.tasks.bpm import LOWEST_BPM
from hwnas.teachers import build
from hwnas.teachers.spectrum import HARMONICS, RATES, spectra

SECONDS = 8.0


def sine(bpm: float, samples: int) -> torch.Tensor:
    """(1, 1, T): one sine in a window of 8 s."""
    return torch.from_numpy(np.sin(2 * np.pi * bpm / 60 * SECONDS * np.arange(samples) / samples + 0.4)[None, None])


@pytest.mark.parametrize("samples", [256, 200, 400])
@pytest.mark.parametrize("bpm", [48, 75, 120, 171])
def test_a_sine_stands_at_its_rate_and_under_its_harmonics(bpm: int, samples: int) -> None:
    power = spectra(sine(bpm, samples))[0]
    for harmonic, row in zip(HARMONICS, power, strict=True):
        place = bpm / harmonic - LOWEST_BPM
        if 0 <= place < RATES:
            assert abs(int(row.argmax()) - place) <= 1.0 / harmonic
    assert power.max() == pytest.approx(float(spectra(sine(100, samples)).max()), rel=0.05), "as loud at every rate and length"


def test_all_other_channels_are_one_motion() -> None:
    pulse, motion = sine(80, 256), sine(150, 256)
    still = torch.zeros_like(pulse)
    turned = [spectra(torch.cat([pulse, *axes], dim=1)) for axes in ((motion, still, still), (still, motion, still))]
    assert torch.allclose(*turned)
    assert torch.allclose(turned[0][:, :4], spectra(pulse))
    assert abs(int(turned[0][0, 5].argmax()) - (150 - LOWEST_BPM)) <= 1


def test_classes_of_heart_rate_are_answered_at_their_rate() -> None:
    """The same network, given a pulse 40 BPM faster, moves its answer by about as much, untrained as it is."""
    module = build("spectrum", 1, RATES, seed=1).eval()
    with torch.inference_mode():
        slow, fast = (module(sine(bpm, 256).float())[0][0] for bpm in (90, 130))
    middle = slice(40, 130)
    moved = torch.corrcoef(torch.stack([slow[30:110], fast[70:150]]))[0, 1]
    assert moved > 0.6 > torch.corrcoef(torch.stack([slow[middle], fast[middle]]))[0, 1]
