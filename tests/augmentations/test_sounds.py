"""Sounds against the formulas: decibels, delays, and what a spectrogram loses."""

import numpy as np
import pytest
import torch

from mmexp.augmentations.noise import Noise
from mmexp.augmentations.shift import Shift
from mmexp.augmentations.spec_augment import SpecAugment, hidden
from mmexp.draws import RowDraws

DRAWS = RowDraws(0, 0, range(6))
WAVES = torch.sin(torch.arange(6)[:, None] + torch.arange(20_000) / 30) * torch.arange(1, 7)[:, None] / 6


def always(value: float):
    return lambda name, columns: np.full((6, columns), value, dtype=np.float32)


def test_noise_has_the_ratio_that_was_drawn():
    noise = Noise(share=1.0, lowest=5.0, highest=30.0)(WAVES, DRAWS) - WAVES
    decibels = 10 * torch.log10(WAVES.square().mean(1) / noise.square().mean(1))
    assert torch.allclose(decibels, torch.from_numpy(5 + 25 * DRAWS("noise", 2)[:, 1]), atol=0.2)


def test_noise_leaves_the_other_sounds_and_silence():
    changed = Noise(share=0.5)(WAVES, DRAWS)
    chosen = torch.from_numpy(DRAWS("noise", 2)[:, 0] < 0.5)
    assert torch.equal((changed != WAVES).any(1), chosen) and 0 < chosen.sum() < 6
    assert not Noise(share=1.0)(torch.zeros(6, 100), DRAWS).any()


@pytest.mark.parametrize(("draw", "steps"), [(0.75, 1000), (0.25, -1000), (0.5, 0)])
def test_a_shift_is_a_roll_that_lets_silence_in(draw, steps):
    rolled = WAVES.roll(steps, 1)
    rolled[:, :steps] = rolled[:, :steps] if steps <= 0 else 0
    if steps < 0:
        rolled[:, steps:] = 0
    assert torch.equal(Shift(most=0.1)(WAVES, always(draw)), rolled)


def test_a_spectrogram_loses_whole_bands_and_gaps_and_nothing_else():
    spectrograms = torch.rand(6, 20, 30, generator=torch.Generator().manual_seed(0))
    changed = SpecAugment(bands=1, band=0.3, gaps=1, gap=0.2)(spectrograms, DRAWS)
    lost = changed != spectrograms
    bands, gaps = lost.all(2), lost.all(1)
    assert torch.equal(lost, bands[:, :, None] | gaps[:, None])
    assert lost.any() and bands.sum(1).max() <= 6 and gaps.sum(1).max() <= 6
    means = spectrograms.mean((1, 2), keepdim=True).expand_as(changed)
    assert torch.equal(changed[lost], means[lost])


def test_every_width_and_place_of_a_gap_is_there():
    gaps = hidden(RowDraws(0, 0, range(3000)), "gap", 1, 0.5, 10)
    widths = gaps.sum(1)
    assert torch.allclose(widths.bincount() / 3000, torch.full((6,), 1 / 6), atol=0.03)
    first = gaps[widths == 5].float().argmax(1)
    assert torch.allclose(first.bincount() / len(first), torch.full((6,), 1 / 6), atol=0.06)
    assert not hidden(DRAWS, "gap", 0, 0.5, 10).any()
