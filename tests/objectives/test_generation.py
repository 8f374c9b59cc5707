"""Writing text: against brute force, against the transformers library, and by counting what is drawn."""

from itertools import product

import pytest
import torch

from mmexp.draws import RowGenerator
from mmexp.errors import RequestError
from mmexp.objectives.generation import Decoding, beam_search, draw, likeliest, write
from mmexp.shapes import Marks

VOCAB, LONGEST = 5, 4
MARKS = Marks(begin=0, end=1, pad=2)


class Table:
    """A model that knows the logits after every text: its state is what was read, row by row."""

    def __init__(self, seed: int):
        self.seed = seed

    def after(self, text: tuple[int, ...]) -> torch.Tensor:
        generator = torch.Generator().manual_seed(hash((self.seed, *text)) % 2**31)
        return 2 * torch.randn(VOCAB, generator=generator)

    def step(self, last, read):
        read = torch.cat([read, last[:, None]], 1)
        return torch.stack([self.after(tuple(row)) for row in read.tolist()]), read


def start(*kinds: int) -> torch.Tensor:
    """Return states that differ between rows."""
    return torch.tensor(kinds)[:, None]


def finished_texts():
    """Return every text that ends, or is as long as one may be."""
    words = [w for w in range(VOCAB) if w != MARKS.end]
    for length in range(1, LONGEST + 1):
        for text in product(words, repeat=length - 1):
            yield (*text, MARKS.end)
    yield from product(words, repeat=LONGEST)


def score(table: Table, kind: int, text: tuple[int, ...], penalty: float) -> float:
    read, total = (kind, MARKS.begin), 0.0
    for word in text:
        total += float(table.after(read).log_softmax(-1)[word])
        read = (*read, word)
    return total / len(text) ** penalty


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_beam_that_holds_all_texts_finds_the_best_of_them(seed, penalty):
    table, kinds = Table(seed), (7, 8)
    found = beam_search(table.step, start(*kinds), torch.zeros(2, dtype=torch.long), MARKS, LONGEST, 400, penalty)
    for kind, ids in zip(kinds, found.tolist(), strict=True):
        best = max(finished_texts(), key=lambda text, kind=kind: score(table, kind, text, penalty))
        assert tuple(ids) == (*best, *[MARKS.pad] * (LONGEST - len(best)))


@pytest.mark.parametrize("seed", range(5))
def test_a_beam_of_one_is_the_greedy_choice(seed):
    table, begin = Table(seed), torch.zeros(4, dtype=torch.long)
    greedy = write(table.step, start(1, 2, 3, 4), begin, MARKS, LONGEST, likeliest)
    assert torch.equal(beam_search(table.step, start(1, 2, 3, 4), begin, MARKS, LONGEST, 1, 1.0), greedy)
    assert (greedy == MARKS.end).sum(1).max() <= 1


class Gpt:
    """A tiny random GPT-2 of the transformers library; the state is all that was read, without a cache."""

    def __init__(self, seed: int = 0):
        from transformers import GPT2Config, GPT2LMHeadModel

        torch.manual_seed(seed)
        config = GPT2Config(
            vocab_size=20, n_positions=32, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=1
        )
        self.model = GPT2LMHeadModel(config).eval()
        # Wide, so that words differ in likelihood and some texts end early.
        torch.nn.init.normal_(self.model.transformer.wte.weight, std=0.6)

    @torch.no_grad()
    def step(self, last, read):
        read = torch.cat([read, last[:, None]], 1)
        return self.model(read).logits[:, -1], read

    def theirs(self, begin, **how):
        ids = self.model.generate(
            begin[:, None], attention_mask=torch.ones_like(begin[:, None]), pad_token_id=2, eos_token_id=1, **how
        )[:, 1:]
        return torch.nn.functional.pad(ids, (0, how["max_new_tokens"] - ids.shape[1]), value=2)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("beams", "penalty"), [(1, 1.0), (2, 1.0), (4, 0.0), (4, 1.0), (3, 2.0)])
def test_it_writes_as_transformers_does(seed, beams, penalty):
    gpt, begin = Gpt(seed), torch.tensor([0, 5, 9, 13, 17])
    none = torch.empty(5, 0, dtype=torch.long)
    ours = Decoding(12, beams, penalty)(gpt.step, none, begin, MARKS, numbers(5))
    more = {"num_beams": beams, "length_penalty": penalty, "early_stopping": True} if beams > 1 else {}
    assert torch.equal(ours, gpt.theirs(begin, max_new_tokens=12, do_sample=False, **more))


def test_some_of_these_texts_end_early_and_some_do_not():
    gpt, begin = Gpt(0), torch.arange(20)
    lengths = (
        write(gpt.step, torch.empty(20, 0, dtype=torch.long), begin, MARKS, 12, likeliest).eq(MARKS.end).any(1).sum()
    )
    assert 0 < lengths < 20


def numbers(rows: int, seed: int = 0) -> RowGenerator:
    return RowGenerator(seed, 0, torch.arange(rows), "writing")


def drawn(logits, times=20_000, **how):
    chance = torch.rand(times, generator=torch.Generator().manual_seed(0))
    words = draw(logits.expand(times, -1), chance, **{"temperature": 1.0, "top_k": None, "top_p": None, **how})
    return words.bincount(minlength=logits.shape[-1]) / times


LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()[None]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, [0.5, 0.3, 0.15, 0.05]),
        ({"temperature": 0.5}, [x**2 / 0.365 for x in (0.5, 0.3, 0.15, 0.05)]),
        ({"top_k": 2}, [0.625, 0.375, 0, 0]),
        ({"top_p": 0.9}, [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0]),
        ({"top_p": 0.4}, [1.0, 0, 0, 0]),
        ({"top_p": 0.0}, [1.0, 0, 0, 0]),
        ({"top_k": 3, "top_p": 0.6}, [0.625, 0.375, 0, 0]),
    ],
)
def test_words_are_drawn_as_often_as_they_are_likely(how, expected):
    found = drawn(LOGITS[:, [2, 0, 3, 1]], **how)[[1, 3, 0, 2]]
    assert torch.allclose(found, torch.tensor(expected), atol=0.012)
    assert ((found > 0) == (torch.tensor(expected) > 0)).all()


def test_what_is_drawn_for_a_row_is_a_function_of_the_seed_and_the_row():
    gpt, begin, none = Gpt(0), torch.arange(20), torch.empty(20, 0, dtype=torch.long)
    decoding = Decoding(12, temperature=1.5, top_p=0.9)
    first, again, other = (decoding(gpt.step, none, begin, MARKS, numbers(20, seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    some = torch.tensor([7, 3])
    alone = decoding(gpt.step, none[some], begin[some], MARKS, RowGenerator(0, 0, some, "writing"))
    assert torch.equal(alone, first[some])


@pytest.mark.parametrize("beams", [1, 3])
def test_of_no_rows_nothing_is_written(beams):
    none = torch.empty(0, 0, dtype=torch.long)
    assert Decoding(4, beams)(Gpt().step, none, none[:, 0:0].flatten(), MARKS, numbers(0)).shape == (0, 4)


@pytest.mark.parametrize("wrong", [{"top_k": 3}, {"top_p": 0.9}, {"temperature": 1.0, "beams": 2}])
def test_keys_that_exclude_each_other_are_refused(wrong):
    with pytest.raises(RequestError, match="decoding"):
        Decoding(**wrong)
