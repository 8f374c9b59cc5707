"""What text models of the transformers library state of themselves: how many tokens they read, and how they are pooled."""

import json
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from mmexp.attention import masked_mean
from mmexp.errors import RequestError

Pooling = Literal["cls", "mean", "last"]
# Where neither the model nor its tokenizer states a limit, as with T5's relative positions.
_UNSTATED = 512
# Of sentence-transformers' 1_Pooling/config.json.
_STATED: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}


def longest_text(model: nn.Module, tokenizer: Any) -> int:
    """Return the most tokens, marks included, that a text model can read.

    That is the least of what the tokenizer states, what the configuration states, and what the table of positions holds:
    RoBERTa and its kin number positions from their padding id + 1 on, so that of 514 positions 512 can be used.
    """
    config: Any = model.config
    stated = [tokenizer.model_max_length, getattr(config, "max_position_embeddings", None)]
    tables = [
        table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
        for name, table in model.named_modules()
        if isinstance(table, nn.Embedding) and name.rpartition(".")[2] == "position_embeddings"
    ]
    # A tokenizer without a limit states a number beyond all counting.
    known = [int(limit) for limit in (*stated, *tables) if limit and limit < 10**9]
    return min(known) if known else _UNSTATED


def pool(tokens: Tensor, mask: Tensor, how: Pooling) -> Tensor:
    """Return (B, D): the first, the last or the mean of the real tokens.

    Args:
        tokens: (B, N, D).
        mask: (B, N), true where a token is real; padding follows the tokens.
        how: cls, last or mean.
    """
    if how == "mean":
        return masked_mean(tokens, mask)
    if how == "cls":
        return tokens[:, 0]
    last = (mask.sum(1) - 1).clamp_min(0)
    return tokens.gather(1, last[:, None, None].expand(-1, 1, tokens.shape[-1])).squeeze(1)


def stated_pooling(name: str, unstated: Pooling = "mean") -> Pooling:
    """Return how a model of sentence-transformers states that it is pooled.

    Args:
        name: a folder, or a name on the hub.
        unstated: the pooling of any other model.

    Raises:
        RequestError: it states another pooling than these three.
    """
    from transformers.utils import cached_file

    inner = "1_Pooling/config.json"
    file = Path(name) / inner
    if not Path(name).is_dir():
        found = cached_file(
            name, inner, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
        )
        file = Path(str(found or ""))
    if not file.is_file():
        return unstated
    stated = json.loads(file.read_text())
    modes = [mode for mode, on in stated.items() if mode.startswith("pooling_mode_") and on is True]
    if len(modes) == 1 and modes[0] in _STATED:
        return _STATED[modes[0]]
    raise RequestError(
        f"'{name}' is pooled by {', '.join(modes) or 'nothing'}. Set encoder.text.pooling=cls, mean or last."
    )
