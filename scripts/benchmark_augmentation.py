"""Measure what augmentation costs: the default run's steps with and without it, in turns in one process.

    python scripts/benchmark_augmentation.py [--steps 20] [--rounds 6] [OVERRIDES of both runs]

A step is reading a batch (in this process), the losses, the gradients and the optimizer, in the run's own precision.
Prints the median step of each and their ratio; the goal is 1.10 at most. Run it on a quiet machine.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from mmexp.compose import compose
from mmexp.experiment import prepare
from mmexp.request import Experiment, Request
from mmexp.tasks.balancing import BalancedStep
from mmexp.training.cost import in_precision


def experiment(overrides: list[str]) -> Experiment:
    """Build a run without starting it."""
    whole = compose(overrides)
    HydraConfig.instance().set_config(whole)
    with open_dict(whole):
        config = whole.copy()
        config.pop("hydra")
    plain: Any = OmegaConf.to_container(config, resolve=True)
    built = prepare(Request(plain, Path("outputs/benchmark"), {}, overrides))
    # A picture is decoded in its first epoch only: all of them before the clock runs.
    samples: Any = built.train.dataset
    samples.readers["image"](list(range(len(samples))))
    return built


def batches(built: Experiment) -> Iterator[Any]:
    """Yield training batches, epoch after epoch."""
    order: Any = built.train.batch_sampler
    order.steps = 1_000_000
    yield from built.train


def stepper(built: Experiment) -> Callable[[], float]:
    """Return a function that takes one training step and returns its seconds."""
    task, source = built.task.train(), batches(built)
    context = in_precision(task, built.trainer.precision)
    optimizer = task.optimizer_factory(task)

    def step() -> float:
        began = time.perf_counter()
        with context:
            losses, _ = task.terms(task.views(next(source), 0))
        optimizer.zero_grad()
        BalancedStep(task.balance, losses).loss.backward()
        optimizer.step()
        return time.perf_counter() - began

    return step


def main() -> None:
    """Take turns: some steps of the one, as many of the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, help="of each turn")
    parser.add_argument("--rounds", type=int, default=6)
    options, overrides = parser.parse_known_args()
    runs = {
        "without": stepper(experiment([*overrides, "augmentation=none"])),
        "with": stepper(experiment(overrides)),
    }
    for step in runs.values():
        step()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, step in runs.items():
            seconds[name] += [step() for _ in range(options.steps)]
    middle = {name: median(found) for name, found in seconds.items()}
    for name, found in middle.items():
        print(f"{name:>8} augmentation: {1000 * found:.1f} ms a step")
    print(f"   ratio: {middle['with'] / middle['without']:.3f} ({torch.get_num_threads()} threads)")


if __name__ == "__main__":
    main()
