"""Chance is a function of seed, epoch and row: in any batch, with any number of workers; evaluation has none."""

import pytest
import torch
from outside.parts import Squares
from stand_ins import TinyImage, TinyText

from mmexp.augmentations.blur import Blur
from mmexp.augmentations.colour import Colour
from mmexp.augmentations.eda import Eda
from mmexp.augmentations.erase import Erase
from mmexp.augmentations.geometry import Geometry
from mmexp.augmentations.mixup import Mixup
from mmexp.augmentations.noise import Noise
from mmexp.augmentations.policy import Policy
from mmexp.augmentations.rewrite import Rewrite
from mmexp.augmentations.shift import Shift
from mmexp.augmentations.spec_augment import SpecAugment
from mmexp.augmentations.swap import Swap
from mmexp.augmentations.synonyms import Synonyms
from mmexp.augmentations.tags import Tags
from mmexp.data.loaders import evaluation_loader, train_loader
from mmexp.data.loading import Loading, PreparedSamples, Variation
from mmexp.data.orders import AS_IT_IS
from mmexp.draws import RowDraws

ROWS = [7, 3, 11, 5, 2, 9]
PIXELS = torch.randint(256, (1, 3, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
VALUES = {
    "image": PIXELS.expand(6, -1, -1, -1),
    "text": ["a big child: picture, car, red, quick, begin, little"] * 6,
    "audio": torch.rand(1, 400, generator=torch.Generator().manual_seed(0)).expand(6, -1),
}


def shout(texts: list[str]) -> list[str]:
    return [text.upper() for text in texts]


EACH = [
    *(Geometry(0.5, 0.5, 10.0), Colour(0.4, 0.4, 0.4), Policy("TrivialAugmentWide"), Erase(1.0), Blur(1.0)),
    *(Synonyms(0.5), Eda(1.0), Tags(), Rewrite(f"{__name__}.shout", share=0.5), Noise(1.0), Shift()),
]
NAMES = [type(augmentation).__name__ for augmentation in EACH]


def same(a, b) -> bool:
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("augmentation", EACH, ids=NAMES)
def test_a_row_is_changed_alike_in_any_batch_and_otherwise_in_another_epoch(augmentation):
    values = VALUES[augmentation.modality]
    whole = augmentation(values, RowDraws(1, 2, ROWS))
    assert same(augmentation(values[:2], RowDraws(1, 2, ROWS[3:5])), whole[3:5])
    assert not same(augmentation(values, RowDraws(1, 3, ROWS)), whole)
    assert not same(augmentation(values, RowDraws(2, 2, ROWS)), whole)
    assert len({str(row.tolist() if isinstance(row, torch.Tensor) else row) for row in whole}) > 1


def test_a_spectrogram_is_changed_alike_in_any_batch():
    values = torch.rand(6, 12, 15, generator=torch.Generator().manual_seed(0))
    whole = SpecAugment()(values, RowDraws(1, 2, ROWS))
    assert torch.equal(SpecAugment()(values[3:5], RowDraws(1, 2, ROWS[3:5])), whole[3:5])
    assert not torch.equal(SpecAugment()(values, RowDraws(1, 3, ROWS)), whole)


def pieces(batch) -> list[torch.Tensor]:
    """Return every tensor of a batch, however deep."""
    return [p for value in batch.values() for p in (pieces(value) if isinstance(value, dict) else [value])]


ALL = Variation(0, [*EACH[:-2], Mixup(1.0), Swap(0.5)])


def test_the_number_of_workers_changes_nothing():
    encoders = {"image": TinyImage(), "text": TinyText()}

    def epoch(workers: int) -> list[torch.Tensor]:
        loader = train_loader(Squares(4, 0), encoders, Loading(batch_size=8, num_workers=workers), ALL, encoders)
        return [piece for batch in loader for piece in pieces(batch)]

    alone, two = epoch(0), epoch(2)
    assert len(alone) == len(two) == 4 * 22
    assert all(torch.equal(a, b) for a, b in zip(alone, two, strict=True))


def test_evaluation_reads_everything_as_it_is():
    encoders, samples = {"image": TinyImage(), "text": TinyText()}, Squares(4, 0)
    (batch,) = evaluation_loader(samples, encoders, Loading(batch_size=32))
    assert "shown" not in batch
    for name, encoder in encoders.items():
        raw = encoder.prepare([samples.read(row, name) for row in range(32)])
        assert all(torch.equal(tensor, batch[name][key]) for key, tensor in raw.items())
    varied = PreparedSamples(samples, encoders, Loading(batch_size=32), ALL)
    as_it_is = varied.__getitems__([(row, AS_IT_IS) for row in range(32)])
    assert all(torch.equal(a, b) for a, b in zip(pieces(as_it_is), pieces(batch), strict=True))
    assert not torch.equal(
        varied.__getitems__([(row, 0) for row in range(32)])["image"]["pixels"], batch["image"]["pixels"]
    )
