"""Batches: what the data knows of its rows, and a second, strongly augmented view of the same pictures."""

import numpy as np
import pytest
import torch
from stand_ins import TinyImage, TinyText

from mmexp.augmentations.colour import Colour
from mmexp.augmentations.geometry import Geometry
from mmexp.data.chosen import ChosenSamples
from mmexp.data.emoji import emoji
from mmexp.data.loaders import train_loader
from mmexp.data.loading import Loading, PreparedSamples, Variation

PLACES = [(0, 0), (5, 0), (9, 0)]
CHANGES = [Geometry(crop=0.5), Colour(brightness=0.5)]


@pytest.fixture(scope="module")
def samples():
    return emoji(styles=["noto"], label="tags", tag_concepts=50).splits["val"]


def batch(samples, strong: Variation | None):
    encoders = {"image": TinyImage(), "text": TinyText()}
    return PreparedSamples(samples, encoders, Loading(), Variation(0, CHANGES), strong=strong).__getitems__(PLACES)


def test_targets_come_with_their_rows(samples):
    np.testing.assert_array_equal(batch(samples, None)["targets"].numpy(), samples.targets[[0, 5, 9]])


def test_the_strong_view_is_another_one_of_the_same_pictures(samples):
    plain, both = batch(samples, None), batch(samples, Variation(0, CHANGES, view="strong "))
    assert "strong" not in plain
    assert torch.equal(plain["image"]["pixels"], both["image"]["pixels"])
    assert list(both["strong"]) == ["image"]
    strong = both["strong"]["image"]["pixels"]
    # The same augmentations, and yet not the same draws.
    assert (strong != both["image"]["pixels"]).flatten(1).any(1).all()
    again = batch(samples, Variation(0, CHANGES, view="strong "))
    assert torch.equal(strong, again["strong"]["image"]["pixels"])


def test_a_strong_view_without_changes_is_the_picture_itself(samples):
    strong = batch(samples, Variation(0, [Geometry()], view="strong "))["strong"]["image"]["pixels"]
    assert torch.equal(strong, TinyImage().prepare([samples.read(row, "image") for row, _ in PLACES])["pixels"])


def test_runs_of_other_seeds_see_the_same_views_in_an_order_of_their_own(samples):
    encoders = {"image": TinyImage(), "text": TinyText()}
    variation = Variation(5, CHANGES, views=2)
    first, second = (
        next(iter(train_loader(samples, encoders, Loading(batch_size=len(samples)), variation, seed=seed)))
        for seed in (1, 2)
    )
    assert first["index"].tolist() != second["index"].tolist()
    there, here = first["index"].argsort(), second["index"].argsort()
    assert torch.equal(first["image"]["pixels"][there], second["image"]["pixels"][here])
    assert torch.equal(first["text"]["ids"][there], second["text"]["ids"][here])


def test_views_come_back_after_their_number(samples):
    encoders = {"image": TinyImage(), "text": TinyText()}
    prepared = PreparedSamples(samples, encoders, Loading(), Variation(5, CHANGES, views=2))
    views = [prepared.__getitems__([(0, epoch), (5, epoch)])["image"]["pixels"] for epoch in range(3)]
    assert torch.equal(views[0], views[2])
    assert not torch.equal(views[0], views[1])


def test_chosen_rows_know_the_files_below(samples):
    samples.stamp = lambda: "as they are now"
    assert ChosenSamples(samples, [3, 1]).stamp() == "as they are now"
    del samples.stamp
    assert ChosenSamples(samples, [3, 1]).stamp() == ""
