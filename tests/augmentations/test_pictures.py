"""Policies, erasing and blur against torchvision."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from mmexp.augmentations.blur import Blur
from mmexp.augmentations.erase import Erase
from mmexp.augmentations.policy import Policy
from mmexp.draws import RowDraws, generators
from mmexp.errors import RequestError

PIXELS = torch.randint(256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
DRAWS = RowDraws(0, 0, range(6))


@pytest.mark.parametrize("name", ["RandAugment", "AutoAugment", "TrivialAugmentWide", "AugMix"])
def test_a_policy_is_torchvisions_for_each_row(name):
    state = torch.get_rng_state()
    ours = Policy(name)(PIXELS, DRAWS)
    assert torch.equal(state, torch.get_rng_state())
    for picture, rng, changed in zip(PIXELS, generators(DRAWS, "policy"), ours, strict=True):
        torch.manual_seed(int(rng.integers(2**63)))
        assert torch.equal(getattr(v2, name)()(picture), changed)
    assert not torch.equal(ours, PIXELS)


def test_a_policy_takes_its_own_options_and_no_others():
    assert torch.equal(Policy("RandAugment", {"num_ops": 0})(PIXELS, DRAWS), PIXELS)
    assert Policy("AutoAugment", {"policy": "svhn"}).transform.policy is v2.AutoAugmentPolicy.SVHN
    with pytest.raises(RequestError, match=r"RandAugment has no 'magnitud'. Did you mean 'magnitude'"):
        Policy("RandAugment", {"magnitud": 3})
    with pytest.raises(RequestError, match="AutoAugment refuses them: 'mnist'"):
        Policy("AutoAugment", {"policy": "mnist"})


def test_what_is_erased_is_a_rectangle_of_the_area_asked_for():
    erase = Erase(share=1.0, smallest=0.2, largest=0.2, stretch=2.0)
    changed = erase(PIXELS, DRAWS)
    for row, (top, left, height, width) in erase.rectangles(DRAWS, 32, 32).items():
        assert height * width / 32**2 == pytest.approx(0.2, abs=0.02)
        assert 0.45 < height / width < 2.2
        noise = changed[row, :, top : top + height, left : left + width]
        assert torch.equal(tv.erase(PIXELS[row], top, left, height, width, noise), changed[row])
        assert (noise != PIXELS[row, :, top : top + height, left : left + width]).float().mean() > 0.9


def test_a_share_of_many_pictures_is_erased_everywhere():
    many = RowDraws(0, 0, range(2000))
    found = Erase(share=0.3).rectangles(many, 32, 32).values()
    assert len(found) == pytest.approx(600, abs=60)
    middles = np.array([(top + height / 2, left + width / 2) for top, left, height, width in found])
    assert np.allclose(middles.mean(0), 16, atol=1)


def test_blur_is_torchvisions():
    draw = DRAWS("blur", 2)[:, 1]
    ours = Blur(share=1.0, least=0.5, most=2.0)(PIXELS, DRAWS)
    for picture, number, blurred in zip(PIXELS, draw, ours, strict=True):
        theirs = tv.gaussian_blur(picture, [13, 13], [float(0.5 + 1.5 * number)] * 2)
        assert (theirs.float() - blurred.float()).abs().max() <= 1


def test_blur_leaves_the_other_pictures():
    changed = Blur(share=0.5)(PIXELS, DRAWS)
    chosen = DRAWS("blur", 2)[:, 0] < 0.5
    assert 0 < chosen.sum() < 6
    assert torch.equal(changed[~chosen], PIXELS[~chosen])
    assert not torch.equal(Blur(share=1.0)(PIXELS, DRAWS)[~chosen], PIXELS[~chosen])
