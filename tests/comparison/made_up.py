"""Runs made up for tests of the comparison: in memory, and as directories."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path

import yaml

from mmexp.comparison.types import Run


def grid(
    value: Callable[..., float], metric: str = "test/accuracy", seeds: int = 5, **choices: tuple[str, ...]
) -> list[Run]:
    """Return a run for every combination of `choices` and seed; `value(seed=..., **chosen)` is its metric."""
    runs = []
    for seed, *chosen in product(range(seeds), *choices.values()):
        told = dict(zip(choices, chosen, strict=True))
        facts = {"seed": seed, "status": "completed", "data_fingerprint": "d"}
        name = "-".join([*told.values(), str(seed)])
        runs.append(Run(name, None, facts, {metric: value(seed=seed, **told)}, {}, told))
    return runs


def write(directory: Path, settings: dict[str, object], accuracy: float | None, **facts: object) -> Path:
    """Write a run directory as training leaves it; the configuration holds the settings, dots and all."""
    directory.mkdir(parents=True)
    config: dict = {"optimizer": {"lr": 0.001}, "name": directory.name, "seed": 0, "cache": {"dtype": "float16"}}
    for key, value in settings.items():
        head, _, tail = key.partition(".")
        config[head] = {**config.get(head, {}), tail: value} if tail else value
    record = {
        "status": "completed",
        "overrides": [f"{key}={value}" for key, value in settings.items()],
        "choices": {"fusion": "concat", "hardware": "cpu", **{k: v for k, v in settings.items() if k == "fusion"}},
        "seed": config["seed"],
        "data_fingerprint": "d",
        "parameters": {"total": 1000, "trainable": 100},
        **facts,
    }
    (directory / "run.json").write_text(json.dumps(record))
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    if accuracy is not None:
        (directory / "metrics.json").write_text(json.dumps({"test/accuracy": accuracy, "test/loss": 1 - accuracy}))
    return directory
