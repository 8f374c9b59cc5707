"""Words of texts that a model reads with their padding, and of tokenizers that set no marks."""

import pytest
import torch

from mmexp.draws import RowGenerator
from mmexp.objectives.bag_of_words import word_shares
from mmexp.objectives.captioner import sentences
from mmexp.objectives.hiding import HideWords
from mmexp.objectives.words import word_tokens
from mmexp.shapes import Marks, ModelShape

# As of SigLIP: no begin mark, the end mark is also the padding, and the mask is true everywhere.
MARKS = Marks(1, 1, 1)
IDS = torch.tensor([[5, 6, 7, 1, 1, 1], [8, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1], [5, 6, 7, 8, 9, 5]])
LENGTHS = torch.tensor([4, 2, 1, 6])
TEXT = {"ids": IDS, "mask": torch.ones_like(IDS).bool(), "real": torch.arange(6) < LENGTHS[:, None]}
WORDS = IDS != 1


def test_padding_is_no_word_and_the_first_word_without_a_begin_mark_is_one():
    assert torch.equal(word_tokens(TEXT, MARKS), WORDS)
    shares = word_shares(TEXT, 10, MARKS)
    assert shares[0].tolist() == pytest.approx([0, 0, 0, 0, 0, 1 / 3, 1 / 3, 1 / 3, 0, 0])
    assert shares[1, 8] == 1 and shares[2].sum() == 0 and shares[3, 5].item() == pytest.approx(1 / 3)
    shape = ModelShape({"text": 4}, None, vocab_size=10, mask_token_id=3, marks=MARKS)
    _, hidden = HideWords(shape, "random")(TEXT, 1.0, RowGenerator(0, 0, torch.arange(4), "words"))
    assert torch.equal(hidden, WORDS)
    ids, real = sentences(TEXT, MARKS)
    assert real.sum(1).tolist() == [5, 3, 2, 8] and ids[0].tolist() == [1, 5, 6, 7, 1, 1, 1, 1]


def test_marks_at_both_ends_are_no_words():
    ids = torch.tensor([[2, 5, 6, 3, 0], [2, 3, 0, 0, 0]])
    expected = torch.tensor([[0, 1, 1, 0, 0], [0, 0, 0, 0, 0]]).bool()
    for marks in (Marks(2, 3, 0), None):
        assert torch.equal(word_tokens({"ids": ids, "mask": ids > 0}, marks), expected)
