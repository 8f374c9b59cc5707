"""Whether a search finds what the whole grid finds, and at which share of its training steps.

    python scripts/search_against_grid.py                  # the grid (what is missing of it), then searches in its curves
    python scripts/search_against_grid.py --real optuna    # one real search with hydra/sweeper=optuna

The grid is trained once, and searches are then replayed: the sweeper's own trials, sampler and pruner, where a run's
validations are those that its combination had in the grid. A replay takes a second, so that there can be many seeds.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import optuna
from rich.console import Console

from mmexp.runs.table import empty_table
from mmexp.sweeps.search import WHOLE, Search, Settings
from mmexp.sweeps.searching import run_all
from mmexp.sweeps.space import Space
from mmexp.sweeps.study import make_pruner
from mmexp.sweeps.trials import Trials
from mmexp.sweeps.untried import Untried

SPACE = {
    "encoder": ["student", "cnn"],
    "optimizer": ["adamw", "sgd", "rmsprop"],
    "optimizer.lr": ["0.0001", "0.001", "0.01", "0.1"],
}
# Small towers and pictures, so that a run takes seconds.
COMMON = (
    *("fusion=none", "objective=contrastive", "encoder.text.dim=96", "encoder.text.depth=1"),
    *("encoder.image.image_size=32", "budget.epochs=8", "checkpoint.validate_every_epochs=1"),
    *("schedule.warmup_steps=20", "hardware.threads=1", "evaluate=false"),
)
METRIC = "val/mean_reciprocal_rank"
Curve = list[tuple[int, float]]
METHODS = {
    "optuna": Settings(),
    "optuna, pruner=median": Settings(pruner="median"),
    "optuna, pruner=hyperband": Settings(pruner="hyperband"),
    "optuna, pruner=none trials=12": Settings(pruner="none", trials=12),
    "optuna, trials=16": Settings(trials=16),
    "optuna, factor=3": Settings(factor=3),
    "halving": Settings(sampler="grid", trials=None),
}


def sweep(name: str, *overrides: str) -> Path:
    """Run a sweep over the space; return its directory."""
    choices = [f"{key}={','.join(values)}" for key, values in SPACE.items()]
    command = [sys.executable, "-m", "mmexp", "train", "-m", *choices, *COMMON, f"sweep.name={name}", *overrides]
    subprocess.run(command, check=True)
    return Path("outputs/sweeps") / name


def curves(directory: Path) -> dict[tuple[str, ...], Curve]:
    """Return by combination the step and value of each validation."""
    found = {}
    for file in directory.glob("*/run.json"):
        run = json.loads(file.read_text())
        if run["status"] != "completed":
            continue
        chosen = dict(override.split("=", 1) for override in run["overrides"])
        rows = csv.DictReader(file.with_name("metrics.csv").open())
        key = tuple(chosen[name] for name in SPACE)
        if all(choice in values for choice, values in zip(key, SPACE.values(), strict=True)):
            found[key] = [(int(row["step"]) + 1, float(row[METRIC])) for row in rows if row[METRIC]]
    return found


def replay(settings: Settings, recorded: dict[tuple[str, ...], Curve], seed: int) -> tuple[tuple[str, ...], int]:
    """Return the best combination that a search finds, and the training steps that it takes."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = Space({}, {key: optuna.distributions.CategoricalDistribution(values) for key, values in SPACE.items()})
    spread = {name: getattr(settings, name) for name in ("pruner", "startup", "first_check", "factor")}
    asked = Search(f"replay-{seed}", "", METRIC, "maximize", **spread)
    study = optuna.create_study(pruner=make_pruner(asked), study_name=asked.name, direction="maximize")
    steps = 0

    def launch(planned):
        nonlocal steps
        (run,) = planned
        curve = recorded[tuple(override.partition("=")[2] for override in run.overrides)]
        trial = optuna.trial.Trial(study, run.number)
        row = {"number": run.number, "status": "completed"}
        for step, value in curve:
            done = round(WHOLE * step / curve[-1][0])
            trial.report(value, done)
            if done < WHOLE and trial.should_prune():
                row["stopped"] = "pruned"
                break
        steps += step
        return [row]

    with tempfile.TemporaryDirectory() as folder:
        sampler = lambda tried: Untried(settings.sampler, space, tried, seed, settings.startup)  # noqa: E731
        # As in a search: no combination twice.
        most = min(settings.trials or len(recorded), len(recorded))
        run_all(Trials(study, Path(folder), space, sampler, most), 1, launch, lambda _: None)
    return tuple(study.best_params[key] for key in SPACE), steps


def main() -> None:
    """Print the grid's best three, and what searches find of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", type=Path, nargs="+", help="where the grid is; without it, it is trained or goes on")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--grid-seed", type=int, default=0, help="of the grid's runs")
    parser.add_argument("--real", help="also run a real search with this hydra/sweeper")
    arguments = parser.parse_args()
    seed = arguments.grid_seed
    places = arguments.grid or [sweep(f"grid-{seed}", f"seed={seed}")]
    recorded = {key: curve for place in places for key, curve in curves(place).items()}
    best = sorted(recorded, key=lambda key: -max(value for _, value in recorded[key]))
    whole = sum(curve[-1][0] for curve in recorded.values())
    for key in best[:3]:
        print(f"{max(value for _, value in recorded[key]):.4f}  {' '.join(key)}")
    console, table = Console(), empty_table()
    for name in ("search", "found the grid's best", "or its second", "steps of the grid's", "at most"):
        table.add_column(name, justify="left" if name == "search" else "right")
    for name, settings in METHODS.items():
        found = [replay(settings, recorded, seed) for seed in range(arguments.seeds)]
        shares = [steps / whole for _, steps in found]
        first, second = (sum(one in best[:count] for one, _ in found) / len(found) for count in (1, 2))
        table.add_row(name, f"{first:.0%}", f"{second:.0%}", f"{statistics.mean(shares):.0%}", f"{max(shares):.0%}")
    console.print(table)
    if arguments.real:
        sweep(f"real-{arguments.real}", f"hydra/sweeper={arguments.real}")


if __name__ == "__main__":
    main()
