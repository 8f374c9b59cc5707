"""Position encodings of timm's vision transformers other than a model's own."""

from collections.abc import Callable
from typing import Any

import torch
from timm.layers import Attention, AttentionRope
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.encoders.timm_features import is_plain_vit
from mmexp.errors import RequestError
from mmexp.positions import Relation, added, mark, related
from mmexp.rows import look_up


class RotaryBlock(Block):
    """timm's block, told to turn queries and keys."""

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False, rope: Tensor | None = None
    ) -> Tensor:
        """Return `x (B, N, D)` after attention, turned by `rope (..., N, 2 d)`, and the MLP."""
        x = x + self.drop_path1(self.ls1(self.attn(self.norm1(x), rope=rope, attn_mask=attn_mask, is_causal=is_causal)))
        return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))


class Places(nn.Module):
    """What attention is told of the patches behind the `prefix` class tokens, which have no place."""

    def __init__(self, relation: nn.Module, count: int, prefix: int):
        super().__init__()
        self.relation, self.count, self.prefix = relation, count, prefix

    def forward(self, keep: Tensor | None) -> Relation:
        """Return the relation of all patches, or row by row of those that stay, `keep (B, K)`."""
        told: Relation = self.relation(self.count)
        if told.bias is not None:
            bias = told.bias
            if keep is not None:
                pairs = keep[:, :, None] * self.count + keep[:, None]
                bias = look_up(bias.flatten(1).T, pairs).permute(0, 3, 1, 2)
            return Relation(bias=F.pad(bias, (self.prefix, 0, self.prefix, 0)))
        assert told.rotation is not None
        return told if keep is None else Relation(rotation=told.rotation[keep][:, None])


def repositioned(model: Any, kind: str, trained: bool, build: Callable[[dict[str, Any]], Any]) -> Any:
    """Return the model with positions of that kind; `build(options)` makes it anew with these of its constructor.

    Raises RequestError for a model that is no plain vision transformer, and for weights trained with other positions.
    """
    if not is_plain_vit(model):
        raise RequestError(
            f"positions={kind}: timm's {type(model).__name__} has positions of its own. Set positions=null, or choose a "
            "plain vision transformer."
        )
    own = _own(model)
    if kind == own:
        return model
    if trained:
        raise RequestError(
            f"positions={kind}: these weights were trained with {own or 'no'} positions. Set positions=null to keep them, "
            "or leave the weights out."
        )
    if kind == "rotary" and isinstance(model, VisionTransformer):
        model = build(_rotary_options(model))
    _set(model, kind)
    return model


def _own(model: Any) -> str:
    found = {"learned": isinstance(model.pos_embed, nn.Parameter), "rotary": getattr(model, "rope", None) is not None}
    return " and ".join(kind for kind, has in found.items() if has)


def _rotary_options(model: Any) -> dict[str, Any]:
    for block in model.blocks:
        if type(block) is not Block or type(block.attn) is not Attention:
            kinds = f"{type(block).__name__} with {type(block.attn).__name__}"
            raise RequestError(
                f"positions=rotary: the blocks of this model are {kinds}. Choose another model or positions."
            )
    return {"block_fn": RotaryBlock, "attn_layer": AttentionRope}


def _set(model: Any, kind: str) -> None:
    grid, prefix, attention = model.patch_embed.grid_size, model.num_prefix_tokens, model.blocks[0].attn
    table = added(kind, grid, model.embed_dim)
    if table is not None:
        table = _with_prefix(table, 0 if model.no_embed_class else prefix)
    # timm adds whatever is there under this name.
    del model.pos_embed
    model.pos_embed = table
    mark(model, kind)
    if hasattr(model, "rope"):
        model.rope, model.rope_mixed = None, False
    relation = related(kind, grid, attention.num_heads * attention.head_dim, attention.num_heads)
    if relation is None:
        return
    model.places = Places(relation, grid[0] * grid[1], prefix)
    for block in model.blocks:
        if hasattr(block.attn, "rotate_half"):
            block.attn.num_prefix_tokens, block.attn.rotate_half = prefix, False


def _with_prefix(table: Tensor, prefix: int) -> Tensor:
    """Return (1, P + N, D) as timm has it, with the class tokens nowhere; a learned one drawn as timm draws."""
    if isinstance(table, nn.Parameter):
        return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, prefix + len(table), table.shape[1]), std=0.02))
    return nn.Buffer(F.pad(table, (0, 0, prefix, 0))[None], persistent=False)
