"""From where a run goes on, and with what changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmexp.errors import RequestError


def under(key: str, sections: Sequence[str]) -> bool:
    """Return whether a dotted key is one of `sections` or stands below one."""
    return any(key == section or key.startswith(f"{section}.") for section in sections)


@dataclass(frozen=True)
class Continuation:
    """A run that goes on.

    Attributes:
        checkpoint: the file it goes on from.
        step: optimizer steps taken before.
        made_by: `config`, `total_steps` and `data_fingerprint` of the run that wrote it, as far as they are known.
        changed: keys that differ from `made_by` and now apply, each with the value before and now.
    """

    checkpoint: Path
    step: int
    made_by: Mapping[str, Any]
    changed: Mapping[str, tuple[Any, Any]]

    def check_data(self, fingerprint: str, allowed: Sequence[str]) -> None:
        """Raise RequestError where the rows of the data are not those that the checkpoint was trained on."""
        before = self.made_by.get("data_fingerprint")
        if before and before != fingerprint and "data" not in allowed:
            raise RequestError(
                f"resume: the data has changed since {self.checkpoint} was written (fingerprint {before}, now {fingerprint}). "
                "Start anew in another hydra.run.dir, or go on with the data as it is now: 'resume.allow=[data]'."
            )

    def check_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Raise RequestError where the checkpoint's weights do not fit a model's `weights`."""
        stored = torch.load(self.checkpoint, weights_only=True, mmap=True)["state_dict"]
        for name, weight in weights.items():
            there = stored.get(name)
            if there is None or there.shape != weight.shape:
                what = "is not in it" if there is None else f"is {tuple(there.shape)} in it"
                raise RequestError(
                    f"resume: {self.checkpoint} does not fit the model: {name} {tuple(weight.shape)} {what}. "
                    f"Start anew in another hydra.run.dir; init_from={self.checkpoint.parent.parent} takes what fits."
                )

    def check_length(self, total_steps: int | None) -> None:
        """Raise RequestError where the budget ends before the step of the checkpoint."""
        if total_steps is not None and total_steps < self.step:
            raise RequestError(
                f"resume: the budget ends at step {total_steps:,}, and {self.checkpoint} is at step {self.step:,}. "
                "Set a larger budget, or start anew in another hydra.run.dir."
            )

    def told(self, total_steps: int | None) -> list[str]:
        """Return in lines from where the run goes on, and with what changes.

        Args:
            total_steps: optimizer steps of the run as it is asked for now; None where time ends it.
        """
        settings = [f"{key} {before} -> {now}" for key, (before, now) in self.changed.items()]
        lines = [f"resumed from {self.checkpoint}, step {self.step:,}", *(f"  changed: {one}" for one in settings)]
        if any(under(key, ("budget", "schedule")) for key in self.changed):
            before = self.made_by.get("total_steps")
            length = f"{before:,} -> {total_steps:,} steps" if before and total_steps else "changed"
            lines.append(
                f"  length of the training: {length}; from step {self.step:,} on the learning rate is "
                "that of a schedule planned for the new length from the start"
            )
        return lines
