"""What a run leaves behind in its process."""

import signal

import lightning as L
import torch
from lightning.pytorch.demos.boring_classes import BoringModel

from mmexp.training.interrupt import SIGNALS, SignalCheckpoint


def test_a_run_that_ended_is_held_by_no_signal_handler(tmp_path):
    before = [signal.getsignal(number) for number in SIGNALS]
    trainer = L.Trainer(
        max_steps=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        limit_val_batches=0,
        callbacks=[SignalCheckpoint(tmp_path)],
    )
    trainer.fit(BoringModel(), torch.utils.data.DataLoader(torch.randn(2, 32)))
    assert [signal.getsignal(number) for number in SIGNALS] == before
