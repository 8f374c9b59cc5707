"""Which places are hidden: exact numbers, shapes of spans and rectangles, whole words, weights, one way for all processes."""

import pytest
import torch
from stand_ins import TinyImage, TinyText
from torch.nn import functional as F

from mmexp.errors import RequestError
from mmexp.fusion.none import NoFusion
from mmexp.model import Model
from mmexp.objectives.hiding import GREY, HideWords, MaskPatch, beginnings, draw_cells, numbered_words, to_patches
from mmexp.objectives.masks import blocks, budget, random_order, scattered, span_lengths, spans
from mmexp.shapes import ModelShape


class Uniform:
    """Random numbers for any number of rows."""

    def __init__(self):
        self.generator = torch.Generator().manual_seed(0)

    def rand(self, *shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=self.generator)


def generator() -> Uniform:
    return Uniform()


def text_shape(word_edges=None) -> ModelShape:
    return ModelShape({"text": 12}, None, vocab_size=32, mask_token_id=1, word_edges=word_edges)


def runs(hidden: torch.Tensor) -> list[int]:
    """Return the lengths of all runs of true values."""
    numbers = beginnings(hidden).flatten().cumsum(0)[hidden.flatten()]
    return numbers.unique(return_counts=True)[1].tolist()


def test_hidden_words_leave_marks_and_padding_alone():
    text = TinyText().prepare(["abcdef", "ab"])
    for how in ("random", "spans"):
        changed, hidden = HideWords(text_shape(), how)(text, 1.0, generator())
        assert hidden.tolist() == [[False, *[True] * 6, False], [False, True, True, *[False] * 5]]
        assert torch.equal(changed["ids"][~hidden], text["ids"][~hidden])


def test_of_the_hidden_words_a_tenth_stays_and_a_tenth_is_random():
    ids = torch.full((200, 102), 9)
    changed, hidden = HideWords(text_shape(), "random")({"ids": ids, "mask": ids > 0}, 0.5, generator())
    assert hidden.float().mean() == pytest.approx(0.5 * 100 / 102, abs=0.01)
    became = changed["ids"][hidden]
    assert (became == 1).float().mean() == pytest.approx(0.8 + 0.1 / 32, abs=0.015)
    assert (became == 9).float().mean() == pytest.approx(0.1 + 0.1 / 32, abs=0.015)


def test_spans_have_the_lengths_of_spanbert():
    # 3.8 on average and 10 at most (arXiv:1907.10529, section 3.1); each length has four fifths of the one before.
    lengths = span_lengths(torch.arange(10000) / 10000)
    counts = torch.bincount(lengths.long())
    assert lengths.mean() == pytest.approx(3.8, abs=0.01)
    assert len(counts) == 11 and counts[0] == 0
    torch.testing.assert_close(counts[2:] / counts[1:-1], torch.full((9,), 0.8), atol=0.01, rtol=0)


def test_spans_spend_their_budget_on_neighbours():
    among = torch.ones(2000, 100, dtype=torch.bool)
    hidden = spans(among, 0.15, generator())
    assert hidden.sum(1).unique().tolist() == [15]
    # Runs are longer than the spans, for some of these meet, and one in each row is cut.
    assert 3.0 < sum(runs(F.pad(hidden, (0, 1)))) / len(runs(F.pad(hidden, (0, 1)))) < 5.0


def test_a_span_becomes_one_thing():
    ids = torch.arange(4, 24).repeat(64, 1)
    changed, hidden = HideWords(text_shape(), "spans")({"ids": ids, "mask": ids > 0}, 0.4, generator())
    masked = (changed["ids"] == 1) & hidden
    neighbours = hidden[:, :-1] & hidden[:, 1:]
    # 1 is also drawn at random, one time in 32 of a tenth.
    assert (masked[:, :-1] == masked[:, 1:])[neighbours].float().mean() > 0.99


@pytest.mark.parametrize(
    ("begins", "ends"),
    [("110101", "000000"), ("000000", "101011")],
    ids=["a mark where a word begins", "a mark where it ends"],
)
def test_words_are_numbered(begins, ends):
    edges = torch.tensor([[c == "1" for c in row] for row in (begins, ends)])
    ids = torch.arange(6)[None]
    among = torch.tensor([[False, True, True, True, True, False]])
    # 1 2 | 3 4, whichever way it is told.
    word, words = numbered_words(ids, among, edges)
    assert word[0, 1:5].tolist() == [0, 0, 1, 1] and words.sum() == 2


@pytest.mark.parametrize("how", ["whole_words", "spans"])
def test_words_are_hidden_whole(how):
    edges = torch.stack([torch.arange(32) % 3 == 0, torch.zeros(32, dtype=torch.bool)])
    ids = torch.arange(4, 26).repeat(50, 1)
    weight = generator().rand(*ids.shape)
    for weights in (None, weight):
        _, hidden = HideWords(text_shape(edges), how)({"ids": ids, "mask": ids > 0}, 0.5, generator(), weights)
        assert 0.3 < hidden[:, 1:-1].float().mean() < 0.7
        # From 6 on each word has three tokens.
        words = hidden[:, 2:20].unflatten(1, (6, 3))
        assert torch.equal(words.any(-1), words.all(-1))


def test_whole_words_need_an_encoder_that_knows_them():
    with pytest.raises(RequestError, match="Choose random or spans"):
        HideWords(text_shape(), "whole_words")


def test_short_captions_lose_their_share_of_words():
    among = torch.ones(4000, 3, dtype=torch.bool)
    assert budget(among, 0.15, generator()).float().mean() == pytest.approx(0.45, abs=0.03)


def test_hidden_patches_are_whole_cells():
    pixels = torch.rand(4, 3, 8, 8)
    hidden = draw_cells(pixels, (2, 2), 0.5, generator())
    assert hidden.sum(1).tolist() == [2] * 4
    mask_patch = MaskPatch(3, (8, 8), (2, 2))
    patches = to_patches(mask_patch(pixels, hidden, GREY), (2, 2))
    assert torch.equal((patches != to_patches(pixels, (2, 2))).any(-1), hidden)
    torch.testing.assert_close(patches[hidden], (mask_patch.mask_token + 0.5).flatten().expand(8, -1))


def test_patches_agree_with_unfold():
    pixels = torch.rand(2, 3, 8, 8)
    theirs = F.unfold(pixels, 4, stride=4).transpose(1, 2)
    assert torch.equal(to_patches(pixels, (2, 2)), theirs)


@pytest.mark.parametrize("grid", [(4, 4), (14, 14), (7, 12)])
@pytest.mark.parametrize("ratio", [0.0, 0.4, 0.75, 1.0])
def test_blocks_hide_as_many_as_they_should(grid, ratio):
    cells = grid[0] * grid[1]
    every = torch.ones(8, cells, dtype=torch.bool)
    for weight in (None, generator().rand(cells) + 0.1):
        hidden = blocks(every, grid, ratio, generator(), weight)
        assert hidden.sum(1).tolist() == [round(ratio * cells)] * 8


def test_blocks_are_rectangles():
    # The least rectangle is all that may be hidden: it fills its own bounds, but for a last row that is cut.
    hidden = blocks(torch.ones(64, 196, dtype=torch.bool), (14, 14), 16 / 196, generator()).view(64, 14, 14)
    assert sum(_is_rectangle(picture) for picture in hidden) > 32
    scattered_ones = draw_cells(hidden, (14, 14), 16 / 196, generator()).view(64, 14, 14)
    assert not any(_is_rectangle(picture) for picture in scattered_ones)


def _is_rectangle(picture: torch.Tensor) -> bool:
    rows, columns = picture.any(1).nonzero()[:, 0], picture.any(0).nonzero()[:, 0]
    inside = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return bool(inside[:-1].all()) and len(inside) > 1


def test_a_ratio_for_each_row():
    every = torch.ones(3, 16, dtype=torch.bool)
    ratio = torch.tensor([0.0, 0.5, 1.0])
    for how in ("random", "blocks"):
        assert draw_cells(every, (4, 4), ratio, generator(), how).sum(1).tolist() == [0, 8, 16]
    assert scattered(every, ratio, generator()).sum(1).tolist()[::2] == [0, 16]


def test_heavier_places_are_drawn_in_proportion():
    # The first place of a weighted order is drawn in proportion to its weight (arXiv:1903.06059).
    weight = torch.tensor([1.0, 2.0, 5.0])
    order = random_order(torch.ones(20000, 3, dtype=torch.bool), generator(), weight)
    first = torch.bincount(order[:, 0], minlength=3) / 20000
    torch.testing.assert_close(first, weight / 8, atol=0.015, rtol=0)
    # And the second one among those left: after 2 the odds of 0 and 1 are 1 to 2.
    second = order[order[:, 0] == 2, 1]
    assert (second == 1).float().mean() == pytest.approx(2 / 3, abs=0.015)


def test_the_model_tells_of_words():
    text = TinyText()
    text.word_edges = torch.ones(2, 32, dtype=torch.bool)
    assert Model({"text": text}, NoFusion({"text": 12})).shape().word_edges is text.word_edges
    assert Model({"image": TinyImage()}, NoFusion({"image": 16})).shape().word_edges is None
