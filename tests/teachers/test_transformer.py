"""The transformer: positions for any length, patches, and that the order of patches matters."""

from __future__ import annotations

import torch
from tiny_teachers import ENCODER

from hwnas.teachers import build
from hwnas.teachers.transformer import EncoderBlock, positions


def table(length: int, width: int = 12) -> torch.Tensor:
    return positions(length, width, torch.float64, torch.device("cpu"))


def test_positions_are_sines_that_tell_distances_and_hold_for_any_length() -> None:
    got = table(40)
    assert torch.allclose(got[:, 0], torch.arange(40.0, dtype=torch.float64).sin()) and torch.equal(
        got[0], torch.tensor([0.0, 1.0]).repeat_interleave(6)
    )
    assert torch.equal(table(17), got[:17])
    products = got @ got.T
    for distance in (0, 1, 7):
        along = products.diagonal(distance)
        assert torch.allclose(along, along[:1].expand_as(along))
    assert torch.pdist(table(500)).min() > 0.1, "no two patches of a long window share a position"


def test_patches_and_taps_of_the_shipped_size() -> None:
    _, taps = build("ppg_transformer", 3, 6).eval()(torch.zeros(1, 3, 1000))
    assert [tuple(tap.shape) for tap in taps.values()] == [(1, 96, 50)] * 4 + [(1, 96)]


def test_a_block_alone_knows_no_order_so_the_positions_must() -> None:
    torch.manual_seed(0)
    block, x, order = EncoderBlock(ENCODER).eval(), torch.randn(2, 9, ENCODER.width), torch.randperm(9)
    assert torch.allclose(block(x)[:, order], block(x[:, order]), atol=1e-6)
    x = x + table(9, ENCODER.width).float()
    moved = (x - table(9, ENCODER.width).float())[:, order] + table(9, ENCODER.width).float()
    assert not torch.allclose(block(x).mean(1), block(moved).mean(1), atol=1e-3)
