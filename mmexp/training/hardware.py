"""Where a run computes, and how precisely."""

import os
from dataclasses import dataclass
from typing import Literal

import torch

from mmexp.errors import RequestError
from mmexp.processor import has_bf16
from mmexp.training.memory import keep_freed_memory
from mmexp.types import PositiveInt


@dataclass(frozen=True)
class Hardware:
    """The arguments of a Lightning Trainer that say where it runs.

    `threads` None: an equal share of the cores that the process may use, and no more than `OMP_NUM_THREADS`.
    `micro_batch_size` is how many rows of a batch each process encodes at a time, None: all. With `recompute` blocks keep
    no activations and compute them again in the backward; with `compile` torch compiles them.
    """

    accelerator: Literal["cpu", "gpu", "auto"] = "cpu"
    devices: int | str = 1
    num_nodes: PositiveInt = 1
    strategy: str = "auto"
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true"] = "auto"
    threads: PositiveInt | None = None
    micro_batch_size: PositiveInt | None = None
    recompute: bool = False
    compile: bool = False

    def trainer_arguments(self) -> dict[str, object]:
        """Return what `lightning.Trainer` takes. Raises RequestError where they cannot be had together, or at all."""
        if self.devices != "auto" and not (str(self.devices).isdigit() and int(self.devices) > 0):
            raise RequestError(f"hardware.devices={self.devices!r}: it is a number of devices or processes, or auto.")
        if self.accelerator == "gpu" and not torch.cuda.is_available():
            raise RequestError("hardware.accelerator=gpu: torch sees no GPU on this machine. Choose hardware=cpu.")
        if self.precision == "16-mixed" and (self.accelerator == "cpu" or not torch.cuda.is_available()):
            raise RequestError("hardware.precision=16-mixed: fp16 is for GPUs. Choose bf16-mixed or 32-true.")
        if self.compile and self.recompute:
            raise RequestError(
                "hardware.compile=true and hardware.recompute=true do not go together: what is compiled would be computed again "
                "by other code. Set one of them to false."
            )
        torch.set_num_threads(self.threads or self._share())
        keep_freed_memory()
        return {
            "accelerator": self.accelerator,
            "devices": self.devices,
            "num_nodes": self.num_nodes,
            "strategy": self.strategy,
            # Batch norms see the whole batch where torch has that.
            "sync_batchnorm": self.accelerator != "cpu" and torch.cuda.is_available(),
            "precision": self.chosen_precision(),
        }

    def idle_cores(self) -> int:
        """Return how many cores are free to prepare batches beside a step: none where all of them compute it."""
        if self.accelerator == "cpu" or not torch.cuda.is_available():
            return 0
        # Eight keep up with one device; more only wait.
        return min(8, self._cores() - 1)

    def processes(self) -> int:
        """Return how many processes share a step."""
        return self._local_processes() * self.num_nodes

    def chosen_precision(self) -> str:
        """Return `precision`, where `auto` means bf16 on hardware that multiplies it faster than fp32."""
        if self.precision != "auto":
            return self.precision
        if self.accelerator != "cpu" and torch.cuda.is_available():
            return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
        return "bf16-mixed" if has_bf16() else "32-true"

    def _share(self) -> int:
        """Return how many threads are this process's."""
        share = self._cores()
        return min(share, int(os.environ.get("OMP_NUM_THREADS", share)))

    def _cores(self) -> int:
        """Return how many cores are this process's, beside the other runs of a sweep and the other ranks."""
        # What a scheduler gave, which may be less than the machine has.
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        runs = int(os.environ.get("MMEXP_RUNS_AT_ONCE", 1))
        return max(1, cores // (runs * self._local_processes()) if runs > 0 else 1)

    def _local_processes(self) -> int:
        if self.devices == "auto":
            return max(1, torch.cuda.device_count()) if self.accelerator != "cpu" else 1
        return int(self.devices)
