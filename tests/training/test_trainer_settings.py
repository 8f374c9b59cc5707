"""PyTorch's deterministic algorithms are on by default, without what makes them slow."""

import lightning as L
import pytest
import torch

from mmexp import build
from mmexp.compose import compose


@pytest.fixture(autouse=True)
def _as_before():
    """The other tests of this process have the switches that they had."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fills = torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
    torch.utils.deterministic.fill_uninitialized_memory = fills


@pytest.mark.parametrize(
    ("overrides", "on", "warns"),
    [([], True, True), (["trainer.deterministic=true"], True, False), (["trainer.deterministic=false"], False, False)],
)
def test_the_trainer_switches_them(overrides, on, warns):
    torch.utils.deterministic.fill_uninitialized_memory = True
    settings = build.make(compose(overrides)["trainer"])
    L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **settings.trainer_arguments())
    assert torch.are_deterministic_algorithms_enabled() == on
    assert torch.is_deterministic_algorithms_warn_only_enabled() == warns
    assert not torch.utils.deterministic.fill_uninitialized_memory


def test_another_word_is_refused(mmexp):
    status, _, complained = mmexp("train", "trainer.deterministic=mostly")
    assert status == 2 and "trainer.deterministic" in complained and "warn" in complained
