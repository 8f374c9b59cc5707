"""The heads of a common space as matrices and biases, as folders of other libraries hold them."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.errors import RequestError
from mmexp.exporting.subject import Subject


def linear_heads(subject: Subject, form: str) -> dict[str, Tensor]:
    """Return the heads of a run's towers, from pooled encodings into the common space.

    Args:
        subject: the run.
        form: the name of the format, for errors.

    Returns:
        `TOWER.weight` (width of the space, D), the identity where pooled encodings are in the space, `TOWER.bias` (width,) where
        the head has one, and `log_scale` where the objective has a learned one.

    Raises:
        RequestError: a head has several layers.
    """
    found = {}
    for name, head in subject.space.heads.items():
        if isinstance(head, nn.Identity):
            found[f"{name}.weight"] = torch.eye(subject.towers[name].encoder.dim)
        elif isinstance(head, nn.Linear):
            found |= {f"{name}.{key}": tensor.detach().contiguous() for key, tensor in head.named_parameters()}
        else:
            raise RequestError(
                f"--format {form}: the head of {name} has several layers. Choose --format onnx or torch, which hold any head."
            )
    if hasattr(subject.space, "log_scale"):
        found["log_scale"] = subject.space.log_scale.detach().clone()
    return found


def projected(pooled: Tensor, heads: Mapping[str, Tensor], name: str) -> Tensor:
    """Return unit vectors (B, width) of pooled encodings (B, D) by what `linear_heads` returned."""
    return F.normalize(F.linear(pooled, heads[f"{name}.weight"], heads.get(f"{name}.bias")), dim=-1)
