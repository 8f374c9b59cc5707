"""Augmentations of pictures: against torchvision, and that chance is a function of seed, epoch and row."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from mmexp.augmentations.colour import Colour
from mmexp.augmentations.geometry import Geometry
from mmexp.draws import RowDraws


def pixels(rows: int = 6, size: int = 32) -> torch.Tensor:
    small = torch.rand(rows, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return (torch.nn.functional.interpolate(small, size, mode="bilinear") * 255).to(torch.uint8)


def always(value: float):
    return lambda name, columns: np.full((6, columns), value, dtype=np.float32)


def test_draws_are_uniform_and_depend_on_all_they_are_for():
    draws = RowDraws(0, 1, range(1000))
    numbers = draws("crop", 50)
    assert numbers.mean() == pytest.approx(0.5, abs=0.01)
    assert numbers.var() == pytest.approx(1 / 12, abs=0.002)
    assert np.abs(np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]) < 0.1
    others = [RowDraws(1, 1, range(1000))("crop", 50), RowDraws(0, 2, range(1000))("crop", 50), draws("flip", 50)]
    assert all(np.abs(np.corrcoef(numbers.ravel(), other.ravel())[0, 1]) < 0.02 for other in others)


def test_a_row_draws_the_same_in_any_batch():
    assert np.array_equal(RowDraws(3, 4, [9, 5, 7])("x", 4)[1], RowDraws(3, 4, [5])("x", 4)[0])


@pytest.mark.parametrize("augmentation", [Geometry(), Colour()], ids=["geometry", "colour"])
def test_nothing_asked_is_nothing_changed(augmentation):
    assert torch.equal(augmentation(pixels(), RowDraws(0, 0, range(6))), pixels())


def test_mirror_images_agree_with_torchvision():
    assert torch.equal(Geometry(flip=1.0)(pixels(), always(0.5)), tv.horizontal_flip(pixels()))


def test_turns_agree_with_torchvision():
    ours = Geometry(rotation=20.0)(pixels(), always(1.0))[..., 8:-8, 8:-8].float()
    theirs = tv.rotate(pixels(), 20.0, interpolation=tv.InterpolationMode.BILINEAR)[..., 8:-8, 8:-8].float()
    assert (ours - theirs).abs().mean() < 1


def test_a_window_is_the_middle_where_its_place_is_in_the_middle():
    ours = Geometry(crop=0.0)(pixels(), always(0.5)).float()
    theirs = tv.resize(pixels()[..., 8:24, 8:24], [32, 32], antialias=False).float()
    assert (ours - theirs)[..., 2:-2, 2:-2].abs().mean() < 1


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Colour(brightness=0.4), lambda p: tv.adjust_brightness(p, 1.4)),
        (Colour(contrast=0.4), lambda p: tv.adjust_contrast(p, 1.4)),
        (Colour(saturation=0.4), lambda p: tv.adjust_saturation(p, 1.4)),
    ],
    ids=["brightness", "contrast", "saturation"],
)
def test_colours_agree_with_torchvision(ours, theirs):
    assert (ours(pixels(), always(1.0)).float() - theirs(pixels()).float()).abs().max() <= 2


def test_grey_has_no_colour():
    grey = Colour(grey=1.0)(pixels(), always(0.5)).float()
    assert (grey.amax(1) - grey.amin(1)).max() <= 1


def test_samples_are_changed_differently():
    changed = Geometry(crop=0.5, flip=0.5, rotation=10.0)(pixels()[:1].expand(6, -1, -1, -1), RowDraws(0, 0, range(6)))
    assert len({tuple(picture.flatten().tolist()) for picture in changed}) == 6
