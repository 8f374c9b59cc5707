"""Which rows each step is trained on, for whoever wants to compare runs."""

import os
from typing import Any
from zlib import crc32

import lightning as L
from lightning.pytorch.callbacks import Callback

FILE = "MMEXP_ORDER"


class OrderLog(Callback):
    """Appends step and digest of its rows, in their order, to a file as each step begins; further ranks have their own files."""

    def __init__(self, file: str):
        self.file = file

    def on_train_batch_start(self, trainer: L.Trainer, task: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """Write a line."""
        file = self.file if trainer.is_global_zero else f"{self.file}.{trainer.global_rank}"
        with open(file, "a") as stream:
            stream.write(f"{trainer.global_step} {crc32(batch['index'].cpu().numpy().tobytes()):08x}\n")


def order_log() -> list[Callback]:
    """Return the callback where the environment names a file."""
    return [OrderLog(os.environ[FILE])] if os.environ.get(FILE) else []
