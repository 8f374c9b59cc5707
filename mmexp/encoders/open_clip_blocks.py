"""The blocks of open_clip's transformers, the last one for the pooled token alone where nobody looks at the others."""

from typing import Any

import torch
from torch import Tensor

from mmexp.rows import take


def can_spare(transformer: Any) -> bool:
    """Say whether `pooled_alone` does for this transformer what its own forward does: nothing hangs on its last block."""
    from open_clip.transformer import ResidualAttentionBlock

    last = transformer.resblocks[-1]
    plain = type(last) is ResidualAttentionBlock and transformer.batch_first and not transformer.grad_checkpointing
    return plain and not (last._forward_hooks or last._forward_pre_hooks)


def pooled_alone(transformer: Any, tokens: Tensor, places: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return (B, 1, D) the tokens at `places (B,)` of what the transformer makes of `tokens (B, N, D)`.

    `mask (N, N)` is added to the scores. Of the last block only keys and values are computed for the other tokens, which
    spares three quarters of it.
    """
    *below, last = transformer.resblocks
    for block in below:
        tokens = block(tokens, attn_mask=mask)
    keys, chosen = last.ln_1(tokens), torch.arange(len(tokens), device=tokens.device) * tokens.shape[1] + places
    own = None
    if mask is not None:
        own = mask[places].to(keys.dtype).repeat_interleave(last.attn.num_heads, 0)[:, None]
    seen = last.attn(take(keys.flatten(0, 1), chosen)[:, None], keys, keys, need_weights=False, attn_mask=own)[0]
    pooled = take(tokens.flatten(0, 1), chosen)[:, None] + last.ls_1(seen)
    return pooled + last.ls_2(last.mlp(last.ln_2(pooled)))
