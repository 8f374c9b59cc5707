"""The FLOPs of a run are those of its first step, times its steps."""

import lightning as L
import pytest
import torch

from mmexp.training.flops import FirstStepFlops


class Square(L.LightningModule):
    def __init__(self, fails: bool = False):
        super().__init__()
        self.layer, self.fails = torch.nn.Linear(8, 8, bias=False), fails

    def training_step(self, batch, batch_idx):
        loss = self.layer(batch).square().mean()
        if self.fails:
            raise RuntimeError("broken off")
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(task: Square, *callbacks: L.Callback) -> None:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = L.Trainer(max_steps=3, accelerator="cpu", callbacks=list(callbacks), **quiet)
    trainer.fit(task, torch.utils.data.DataLoader(torch.ones(16, 8), batch_size=4))


def test_forward_and_the_gradient_of_the_weights_are_counted():
    flops = FirstStepFlops()
    fit(Square(), flops)
    assert flops.per_step == 2 * (2 * 4 * 8 * 8)  # the input needs no gradient


def test_counting_changes_no_weight():
    torch.manual_seed(0)
    plain, counted = Square(), Square()
    counted.load_state_dict(plain.state_dict())
    fit(plain)
    fit(counted, FirstStepFlops())
    assert torch.equal(plain.layer.weight, counted.layer.weight)


def test_a_step_that_breaks_off_leaves_nothing_behind():
    flops = FirstStepFlops()
    with pytest.raises(RuntimeError, match="broken off"):
        fit(Square(fails=True), flops)
    assert flops.per_step is None
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None
