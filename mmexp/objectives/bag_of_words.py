"""Bag of words: which words does the caption have? Predicted from the picture alone (SuperClass, arXiv:2411.03313)."""

import torch
from torch import Tensor, nn

from mmexp.objectives.presence import mean_of
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views
from mmexp.types import Prepared


def word_shares(text: Prepared, vocab_size: int) -> Tensor:
    """Return (B, vocab_size): how often each token is in a caption, summing to 1. The tokenizer's marks at both ends stay out."""
    ids, counted = text["ids"], text["mask"].clone()
    counted[:, 0] = False
    counted[torch.arange(len(ids)), text["mask"].sum(1) - 1] = False
    shares = torch.zeros(len(ids), vocab_size, device=ids.device).scatter_add_(1, ids, counted.float())
    return shares / shares.sum(1, keepdim=True).clamp_min(1)


class BagOfWords(nn.Module):
    """Cross-entropy between the words of the text and those that the other modalities' pooled encodings suggest.

    Each word teaches on all captions that have it, so that features are shared between concepts.
    """

    needs = ("pooled", "text", "pairs", "inputs")

    def __init__(self, shape: ModelShape):
        super().__init__()
        self.vocab_size = shape.vocab_size or 0
        others = [name for name in shape.dims if name != "text"]
        self.heads = nn.ModuleDict({name: nn.Linear(shape.dims[name], self.vocab_size) for name in others})

    def forward(self, views: Views) -> Terms:
        """Return the loss, a mean over the modalities; rows count that have text and the modality."""
        told = [(name, views.having("text", name)) for name in self.heads]
        losses = [self._loss(name, rows) for name, rows in told if rows is not None]
        return Terms({"bag_of_words": mean_of(self, views, losses)})

    def _loss(self, name: str, views: Views) -> Tensor:
        shares = word_shares(views.batch["text"], self.vocab_size)
        said = self.heads[name](views.encoded()[name].pooled).float().log_softmax(-1)
        return -(shares * said).sum(-1).mean()
