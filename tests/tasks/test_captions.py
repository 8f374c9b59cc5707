"""What is made of generated captions: which rows have one, their text, their numbers."""

import math

import pytest
import torch

from mmexp.tasks.captions import NONE, caption_metrics, chosen_rows, likeness, texts_of, words, written

RIGHT = [["a red cat sits on the moon"], ["two dogs run after a ball"], ["the old house stands by the sea"]]


class Rows:
    """Three rows, the second with two texts."""

    def read(self, row, modality, rng=None):
        return RIGHT[row][0]


class Several(Rows):
    def texts(self, row):
        return [*RIGHT[row], "dogs at play"] if row == 1 else RIGHT[row]


def test_what_is_right_has_the_highest_numbers_and_what_shares_no_word_the_lowest():
    assert likeness([texts[0].upper() + "!" for texts in RIGHT], RIGHT) == pytest.approx({"bleu4": 1.0, "cider": 10.0})
    assert likeness(["x y z u v w", "", "?"], RIGHT) == {"bleu4": 0.0, "cider": 0.0}


def test_bleu_is_that_of_the_example_in_torchmetrics():
    # https://lightning.ai/docs/torchmetrics/stable/text/bleu_score.html
    found = likeness(["the cat is on the mat"], [["there is a cat on the mat", "a cat is on the mat"]])
    assert found["bleu4"] == pytest.approx(0.7598, abs=1e-4)


def test_cider_of_words_is_the_cosine_of_their_weights():
    # Of one-word texts only unigrams count, a quarter of the mean over n = 1..4; each word stands in one of two references.
    said, right = ["cat", "dog"], [["cat"], ["dog"]]
    assert likeness(said, right)["cider"] == pytest.approx(10 / 4)
    # A word beside it halves the squared cosine; a length that is off by one costs exp(-1 / (2 * 6^2)).
    near = likeness(["cat sun", "dog"], [["cat"], ["dog"]])["cider"]
    own = math.log(2)  # idf of cat and of sun, which no reference has
    cosine = own**2 / (math.hypot(own, own) * own)
    assert near == pytest.approx((10 / 4 * cosine * math.exp(-1 / 72) + 10 / 4) / 2, rel=1e-6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Woman’s hat: red, BLUE", "woman s hat red blue"),
        ("हिन्दी भाषा", "हिन्दी भाषा"),
        ("猫と犬", "猫 と 犬"),
        ("flag: 日本", "flag 日 本"),
    ],
)
def test_words_of_many_scripts(text, expected):
    assert words(text) == expected


def test_rows_lie_evenly_over_the_set():
    index = torch.arange(10)
    assert chosen_rows(index, 10, None).tolist() == list(range(10))
    assert chosen_rows(index, 10, 20).tolist() == list(range(10))
    assert chosen_rows(index, 10, 4).tolist() == [0, 3, 6, 9]
    assert chosen_rows(index + 1, 10, 4).tolist() == [2, 5, 8]


def test_numbers_of_the_rows_that_were_put_into_words():
    whole = {
        "index": torch.tensor([0, 1, 2]),
        "caption": torch.tensor([[0], [1], [NONE]]),
        "caption_nll": torch.tensor([1.0, 2.0, 9.0]),
        "caption_tokens": torch.tensor([2, 2, 2]),
    }

    def decode(ids):
        return [RIGHT[row][0] if row == 0 else "dogs at play" for row in ids[:, 0].tolist()]

    assert written(whole, decode) == {0: RIGHT[0][0], 1: "dogs at play"}
    one, several = (caption_metrics(whole, decode, samples()) for samples in (Rows, Several))
    assert one["caption_perplexity"] == pytest.approx(math.exp(2))
    assert several["cider"] > one["cider"]
    assert several["bleu4"] == pytest.approx(1.0)
    assert texts_of(Rows(), 1) == RIGHT[1]
