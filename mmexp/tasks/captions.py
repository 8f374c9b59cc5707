"""Generated captions of an evaluation set, compared with those that the data has."""

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any

import regex
import torch
from torch import Tensor

from mmexp.types import Samples

NONE = -1  # in place of token ids, where a row was not put into words
# Marks of punctuation stand for nothing; scripts without spaces count by character, as sacrebleu has it for Chinese.
_ALONE = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}"
_WORD = regex.compile(rf"(?V1)[{_ALONE}]\p{{M}}*|[[\p{{L}}\p{{M}}\p{{N}}]--[{_ALONE}]]+")


def chosen_rows(index: Tensor, rows: int, most: int | None) -> Tensor:
    """Return the places (R,) in a batch of `index (B,)` of rows that lie evenly over a set of `rows`, at most `most` of them."""
    every = ceil(rows / most) if most else 1
    return (index % every == 0).nonzero().squeeze(1)


def write_captions(writer: Any, views: Any, rows: Tensor) -> dict[str, Tensor]:
    """Return `caption (B, N)`, ids of what is written for the chosen `rows (R,)` and NONE elsewhere.

    With it come of all rows `caption_nll (B,)`, the negative log-likelihood of their own texts, and `caption_tokens (B,)`.
    Nothing is written or measured of rows without a text, or without what is to be put into words.
    """
    ids = write(writer, views, rows, NONE, "text")
    nll, tokens = writer.likelihood(views)
    return {"caption": ids, "caption_nll": nll, "caption_tokens": tokens}


def write(writer: Any, views: Any, rows: Tensor, nothing: int, *more: str) -> Tensor:
    """Return ids (B, N) of what is written for `rows (R,)` that have the source and `more` modalities, else `nothing`."""
    count = len(next(iter(views.encoded().values())).pooled)
    ids = torch.full((count, writer.decoding.longest), nothing, device=rows.device)
    known = writer.source.there(views, *more) if "present" in views.batch else None
    rows = rows if known is None else rows[known[rows]]
    if len(rows):
        ids[rows] = writer.generate(views, rows)
    return ids


def written(whole: Mapping[str, Tensor], decode: Callable[[Tensor], list[str]]) -> dict[int, str]:
    """Return by row what was written, of an evaluation set's gathered tensors."""
    rows = (whole["caption"][:, 0] != NONE).nonzero().squeeze(1)
    return dict(zip(whole["index"][rows].tolist(), decode(whole["caption"][rows]), strict=True))


def texts_of(samples: Samples, row: int) -> list[str]:
    """Return every text of a row, each alone where the data can tell them apart."""
    return samples.texts(row) if hasattr(samples, "texts") else [str(samples.read(row, "text"))]


def caption_metrics(
    whole: Mapping[str, Tensor], decode: Callable[[Tensor], list[str]], samples: Samples
) -> dict[str, float]:
    """Return the perplexity per token over all rows, and how near what was written is to the rows' own texts.

    Nothing where no row has a text and what is to be put into words.
    """
    if not whole["caption_tokens"].any():
        return {}
    perplexity = (whole["caption_nll"].double().sum() / whole["caption_tokens"].sum()).exp().item()
    said = written(whole, decode)
    if not said:
        return {"caption_perplexity": perplexity}
    near = likeness(list(said.values()), [texts_of(samples, row) for row in said])
    return {"caption_perplexity": perplexity, **near}


def words(text: str) -> str:
    """Return the words of a text in lower case, a space between them."""
    return " ".join(_WORD.findall(text.lower()))


def likeness(said: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return BLEU-4 of N texts as a whole, and their mean CIDEr (CIDEr-D of arXiv:1411.5726, from 0 to 10).

    `references` holds one or more right texts of each; their document frequencies are those that CIDEr counts by.
    """
    from pycocoevalcap.cider.cider import Cider
    from torchmetrics.functional.text import bleu_score

    ours = [words(text) for text in said]
    right = [[words(text) for text in texts] for texts in references]
    cider, _ = Cider().compute_score(dict(enumerate(right)), {row: [text] for row, text in enumerate(ours)})
    return {"bleu4": bleu_score(ours, right, n_gram=4).item(), "cider": float(cider)}
