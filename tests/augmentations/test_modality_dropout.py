"""Modality dropout: how often, never the last, the same whenever the same is read; and partners that have what is mixed."""

import pytest
import torch
from stand_ins import batch_of

from mmexp.augmentations.mixup import Mixup
from mmexp.augmentations.modality_dropout import ModalityDropout
from mmexp.augmentations.swap import Swap
from mmexp.draws import RowDraws


def dropped(batch, probability, rows=None):
    rows = range(len(batch["index"])) if rows is None else rows
    return ModalityDropout(probability)(batch, RowDraws(0, 0, rows))["present"]


def test_each_modality_goes_as_often_as_asked_and_never_the_last():
    present = dropped(batch_of(4000), 0.4)
    image, text = present["image"], present["text"]
    assert (image | text).all()
    # One goes alone by 0.4 * 0.6, and by half of the times at which both would.
    for gone in (~image, ~text):
        assert gone.float().mean().item() == pytest.approx(0.24 + 0.16 / 2, abs=0.02)


def test_with_certainty_one_is_left_to_each_row():
    present = dropped(batch_of(1000), 1.0)
    assert (present["image"] ^ present["text"]).all()
    assert present["image"].float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert all(there.all() for there in dropped(batch_of(), 0.0).values())


def test_what_a_row_lacks_does_not_come_back():
    batch = batch_of(500)
    batch["present"] = {"image": torch.arange(500) % 2 == 0}
    present = dropped(batch, 0.5)
    assert not present["image"][1::2].any() and present["text"][1::2].all()
    assert 100 < present["image"].sum() < 220


def test_it_is_a_function_of_the_row_and_acts_on_what_was_kept():
    batch = batch_of()
    there = dropped(batch, 0.5)
    order = torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
    again = dropped({**batch, "index": order}, 0.5, order.tolist())
    assert torch.equal(again["image"], there["image"][order])
    kept = {"index": batch["index"], "image": batch["image"], "encoded": {"text": {"pooled": torch.ones(8, 2)}}}
    assert torch.equal(dropped(kept, 0.5)["text"], there["text"])


def test_pictures_are_mixed_with_pictures_and_texts_swapped_with_texts():
    batch, draws = batch_of(), RowDraws(0, 0, range(8))
    there = torch.tensor([True, False, True, True, False, False, True, True])
    batch["present"] = {"image": there, "text": there}
    image = Mixup(alpha=1.0)(batch, draws)["shown"]["image"]["concept"]
    assert image[there, 1].tolist() == [2, 3, 6, 7, 0]
    text = Swap(share=1.0)(batch, draws)["shown"]["text"]["concept"][:, 0]
    assert text[there].tolist() == [2, 3, 6, 7, 0]
    assert text[~there].tolist() == [1, 4, 5]
