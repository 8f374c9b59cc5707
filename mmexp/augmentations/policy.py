"""Published policies of picture operations, as torchvision has them: RandAugment and its kin."""

import inspect
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torchvision.transforms import v2

from mmexp.draws import generators
from mmexp.errors import RequestError, nearest
from mmexp.types import Draws


class Policy:
    """RandAugment (arXiv:1909.13719), AutoAugment (1805.09501), TrivialAugmentWide (2103.10158) or AugMix (1912.02781).

    `options` are torchvision's own, such as `num_ops` and `magnitude`; `policy` of AutoAugment is imagenet, cifar10 or svhn.
    Raises RequestError for options that the policy does not have.
    """

    modality = "image"

    def __init__(
        self,
        name: Literal["RandAugment", "AutoAugment", "TrivialAugmentWide", "AugMix"] = "RandAugment",
        options: Mapping[str, Any] | None = None,
    ):
        chosen = dict(options or {})
        kind = getattr(v2, name)
        known = inspect.signature(kind).parameters
        for key in chosen:
            if key not in known:
                raise RequestError(f"augmentation.policy.options: {name} has no '{key}'.{nearest(key, known)}")
        try:
            if "policy" in chosen:
                chosen["policy"] = v2.AutoAugmentPolicy(chosen["policy"])
            self.transform = kind(**chosen)
        except (TypeError, ValueError) as error:
            raise RequestError(f"augmentation.policy.options: {name} refuses them: {error}.") from error

    def __call__(self, pixels: Tensor, draws: Draws) -> Tensor:
        """Return uint8 (B, 3, H, W) of uint8 (B, 3, H, W)."""
        # torchvision draws from torch's own generator: each picture sets it, and afterwards it is as it was.
        with torch.random.fork_rng(devices=[]):
            changed = []
            for picture, rng in zip(pixels, generators(draws, "policy"), strict=True):
                torch.default_generator.manual_seed(int(rng.integers(2**63)))
                changed.append(self.transform(picture))
        return torch.stack(changed)
