"""Attention as it was: what the tokens of a part looked at, and what of the first layer's tokens reached the last one's."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mmexp.attention import attending_by
from mmexp.model import Model
from mmexp.plain_attention import plain_attention


class Recorder:
    """The attentions of each part of a model in order: `calls[part]` holds `(B, N, M)`, means over the heads.

    Of what a part is asked more than once the first time counts.
    """

    def __init__(self) -> None:
        self.calls: dict[str, list[Tensor]] = defaultdict(list)
        self.part: str | None = None

    def attend(self, query: Tensor, key: Tensor, value: Tensor, *how: Any, **options: Any) -> Tensor:
        """Do what `F.scaled_dot_product_attention` does, and keep what each query saw."""
        if query.ndim == 4 and self.part:
            # Each key's own column as its value: what comes out are the shares.
            each = torch.eye(key.shape[-2], dtype=key.dtype, device=key.device).expand(*key.shape[:-1], -1)
            with torch.no_grad():
                self.calls[self.part].append(plain_attention(query, key, each, *how, **options).float().mean(1))
        return plain_attention(query, key, value, *how, **options)

    def enter(self, part: str, *_: Any) -> None:
        """Count what follows as the attention of `part`, unless that was asked before."""
        self.part = None if part in self.calls else part
        self.calls[part] = self.calls[part]


@contextmanager
def recording(model: Model) -> Iterator[Recorder]:
    """Keep meanwhile what the encoders, by their names, and the `fusion` of a model look at."""
    recorder = Recorder()
    parts = {**dict(model.encoders.items()), "fusion": model.fusion}
    with ExitStack() as stack:
        for name, part in parts.items():
            stack.callback(part.register_forward_pre_hook(partial(recorder.enter, name)).remove)
        # Compiled blocks would run the attention that they were compiled with.
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(attending_by(recorder.attend))
        yield recorder


def rollout(layers: Sequence[Tensor], mask: Tensor) -> Tensor | None:
    """Return the share (B, N) of each input token in what a tower says (Abnar and Zuidema, arXiv:2005.00928, section 3).

    `layers` are its attentions `(B, N, N)`, half of each way going by the residual; the last one may have a single query, that
    of the pooled token. Without one, the mean over the real tokens by `mask (B, N)` is told. None where the tokens are not the
    same in all layers, as in windows.
    """
    size = mask.shape
    if not layers or any(layer.shape[0] != size[0] or layer.shape[2] != size[1] for layer in layers):
        return None
    if any(layer.shape[1] not in (1, size[1]) for layer in layers):
        return None
    own = torch.eye(size[1], device=mask.device)
    reached = own.expand(size[0], -1, -1)
    for layer in layers:
        if layer.shape[1] == 1:
            return (layer @ reached)[:, 0]
        reached = (layer + own) / 2 @ reached
    real = mask.to(reached.dtype)[:, None]
    return (real @ reached)[:, 0] / real.sum(-1)


def between(
    layers: Sequence[Tensor], sizes: dict[str, int], parts: dict[str, slice], one: str, other: str
) -> Tensor | None:
    """Return what the tokens of `one` modality saw of the `other`'s in a fusion (B, N, M), a mean over its layers.

    `sizes` are the numbers of tokens of each, `parts` where they stand among all, where all look at all. None where the fusion
    does not attend so, and where it cannot be told which of the two looked.
    """
    if sizes[one] == sizes[other]:
        return None
    found = [layer for layer in layers if layer.shape[1:] == (sizes[one], sizes[other])]
    if not found and parts:
        whole = sum(sizes.values())
        found = [layer[:, parts[one], parts[other]] for layer in layers if layer.shape[1:] == (whole, whole)]
    return torch.stack(found).mean(0) if found else None
