"""What a checkpoint says of the run that wrote it, so that one which resumes can compare."""

import json
from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch.optim.lr_scheduler import LambdaLR

# The key of a checkpoint.
MADE_BY = "made_by"


def plain(config: Any) -> Any:
    """Return a configuration as JSON has it, so that two of them can be compared."""
    return json.loads(json.dumps(config, default=str))


class MadeBy(Callback):
    """Writes configuration, length and data of the run into each checkpoint, as JSON: `weights_only` reads no other objects."""

    def __init__(self, config: Mapping[str, Any], data_fingerprint: str):
        self.config, self.data_fingerprint = plain(dict(config)), data_fingerprint

    def on_save_checkpoint(self, trainer: L.Trainer, task: Any, checkpoint: dict[str, Any]) -> None:
        """Add the entry."""
        about = {"total_steps": task.total_steps, "data_fingerprint": self.data_fingerprint, "config": self.config}
        checkpoint[MADE_BY] = json.dumps(about)


class Reapplied(Callback):
    """Sets the options of optimizer and schedule to those of this run, where a checkpoint has brought back others.

    Moments and step counts of the optimizer stay those of the checkpoint.
    """

    def on_train_start(self, trainer: L.Trainer, task: Any) -> None:
        """Take the options of a new optimizer, and the rate that the schedule has for the step at hand."""
        optimizer, fresh = trainer.optimizers[0], task.optimizer_factory(task)
        for group, new in zip(optimizer.param_groups, fresh.param_groups, strict=True):
            group.update({name: value for name, value in new.items() if name != "params"})
            group["initial_lr"] = new["lr"]
        for config in trainer.lr_scheduler_configs:
            schedule = config.scheduler
            if isinstance(schedule, LambdaLR):
                schedule.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
                rates = zip(optimizer.param_groups, schedule.lr_lambdas, schedule.base_lrs, strict=True)
                for group, factor, base in rates:
                    group["lr"] = base * factor(schedule.last_epoch)
                schedule._last_lr = [group["lr"] for group in optimizer.param_groups]
