"""A Lightning script that takes one step of a small network, and tells of it, with nothing else switched on."""

import sys

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader


class Network(L.LightningModule):
    """Two layers on pictures of 64 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 192), nn.GELU(), nn.Linear(192, 64))

    def training_step(self, batch: Tensor, _: int) -> Tensor:
        """Return some loss."""
        return self.layers(batch).square().mean()

    def on_train_batch_end(self, *_: object) -> None:
        """Tell."""
        print("step 1", file=sys.stderr, flush=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW."""
        return torch.optim.AdamW(self.parameters())


trainer = L.Trainer(
    max_steps=1,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(Network(), DataLoader(torch.randn(16, 3, 64, 64), batch_size=16))
