"""Bag of words: which words does the caption have? Predicted from the picture alone, after SuperClass (arXiv:2411.03313).

Words count by how often they are in a caption; SuperClass weighs those that it has by their inverse document frequency.
"""

import torch
from torch import Tensor, nn

from mmexp.objectives.presence import Both, Presence
from mmexp.objectives.words import word_tokens
from mmexp.shapes import Marks, ModelShape
from mmexp.step import Terms, Views
from mmexp.types import Prepared


def word_shares(text: Prepared, vocab_size: int, marks: Marks | None = None) -> Tensor:
    """Return (B, vocab_size): how often each token is in a caption, summing to 1. The tokenizer's marks at both ends stay out."""
    ids, counted = text["ids"], word_tokens(text, marks)
    shares = torch.zeros(len(ids), vocab_size, device=ids.device).scatter_add_(1, ids, counted.float())
    return shares / shares.sum(1, keepdim=True).clamp_min(1)


class BagOfWords(nn.Module):
    """Cross-entropy between the words of the text and those that the other modalities' pooled encodings suggest.

    Each word teaches on all captions that have it, so that features are shared between concepts.
    """

    needs = ("pooled", "text", "pairs", "inputs")

    def __init__(self, shape: ModelShape):
        super().__init__()
        self.vocab_size, self.marks = shape.vocab_size or 0, shape.marks
        others = [name for name in shape.dims if name != "text"]
        self.heads = nn.ModuleDict({name: nn.Linear(shape.dims[name], self.vocab_size) for name in others})

    def forward(self, views: Views) -> Terms:
        """Return the loss, a mean over the modalities; rows count that have text and the modality."""
        encoded = views.encoded()
        pooled = {name: encoded[name].pooled for name in self.heads if name in encoded}
        shares = word_shares(views.batch["text"], self.vocab_size, self.marks)

        def loss(_: str, name: str, rows: Both) -> Tensor:
            predicted = self.heads[name](pooled[name][rows.own]).float().log_softmax(-1)
            return -(shares[rows.own] * predicted).sum(-1).mean()

        pairs = [("text", name) for name in pooled]
        return Terms({"bag_of_words": Presence(views, encoded).mean(self, views, pairs, loss, pooled)})
