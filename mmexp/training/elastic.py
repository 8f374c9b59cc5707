"""Ranks that torchrun restarts meet under a name of their own."""

import atexit
import os

import lightning as L
import torch.distributed as dist
from lightning.pytorch.strategies import ParallelStrategy


def meet(trainer: L.Trainer) -> None:
    """Join the process group of this attempt.

    The store of torchrun outlives an attempt (torch 2.14, `torch.distributed.rendezvous._create_c10d_store`): without a prefix
    the ranks of the next one read the addresses of those that died, and wait for them.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    shared = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if attempt == "0" or not shared or not isinstance(trainer.strategy, ParallelStrategy):
        return
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    dist.init_process_group(
        "nccl" if trainer.strategy.root_device.type == "cuda" else "gloo",
        store=dist.PrefixStore(f"mmexp/attempt_{attempt}", store),
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
    )
    atexit.register(_leave)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
