"""The product of all that was asked for, of which only what is missing is run: `mmexp train -m a=1,2 b=3,4`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.sweeper import Sweeper

from mmexp.compose import composed
from mmexp.runs.holding import hold
from mmexp.runs.parents import fingerprint
from mmexp.sweeps.book import entries_of, refuse_other_kind, write
from mmexp.sweeps.launching import launch, launcher_of
from mmexp.sweeps.planning import Combination, Plan, plan
from mmexp.sweeps.summary import Summary


class Grid(Sweeper):
    """Hydra's basic sweeper, with a memory of what was run. `params` are swept like what stands on the command line."""

    def __init__(self, params: Mapping[str, str] | None = None):
        self.params = dict(params or {})

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Keep what Hydra hands over, and make the launcher."""
        self.context: Any = hydra_context
        self.whole: Any = config
        self.launcher = launcher_of(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> list[dict[str, Any]]:
        """Run what is missing; return the rows of all runs that were asked for. Raises RequestError, Ended."""
        combinations = self._combinations([*(f"{key}={value}" for key, value in self.params.items()), *arguments])
        directory = Path(self.whole.hydra.sweep.dir)
        # Of two sweeps of one name the second plans with what the first has written.
        with hold(directory, patience=600):
            refuse_other_kind(directory, search=False)
            known = entries_of(directory)
            made = plan(directory, combinations, known, self.whole.sweep.same_code, data_now)
            write(directory, _command(arguments), "grid", len(combinations), made.entries)
        print(*told(directory.name, made, len(known)), sep="\n", flush=True)
        Summary.asked = set(map(str, made.asked))
        return launch(self.launcher, directory, made.todo)

    def _combinations(self, arguments: Sequence[str]) -> list[Combination]:
        loader = self.context.config_loader
        overrides = OverridesParser.create(config_loader=loader).parse_overrides(list(arguments))
        return [self._composed(tuple(one)) for one in BasicSweeper.split_arguments(overrides, None)[0]]

    def _composed(self, overrides: tuple[str, ...]) -> Combination:
        config, _ = composed(self.context.config_loader, self.whole, overrides)
        return Combination(overrides, fingerprint(config), config)


def told(name: str, made: Plan, before: int) -> list[str]:
    """Return what is about to happen, the most telling line first."""
    counts = ", ".join(_counted(state, made.counts[state]) for state in _ORDER if made.counts.get(state))
    lines = [f"sweep {name}: {len(made.asked)} runs; {counts}"]
    for changes, numbers in made.renumbered.items():
        kept = " (sweep.same_code=false keeps them)" if changes == "the code" else ""
        since = f"{changes} changed since {_many(len(numbers), 'run')}"
        lines.append(f"sweep {name}: {since}; asked again as {_span(numbers)}{kept}")
    if before and made.new:
        lines.append(f"sweep {name}: the search space changed; new: {_span(made.new)}")
    return lines


_ORDER = ("finished", "under way in another process", "from its checkpoint", "to do")


def _counted(state: str, count: int) -> str:
    if state == "from its checkpoint":
        return f"1 goes on {state}" if count == 1 else f"{count} go on from their checkpoints"
    return f"{count} {state}"


def _many(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}s"


def _span(numbers: Sequence[int]) -> str:
    return f"number {numbers[0]}" if len(numbers) == 1 else f"numbers {numbers[0]} to {numbers[-1]}"


def data_now(config: Mapping[str, Any]) -> str:
    """Return the fingerprint of the data as they now are. Raises RequestError where they are gone."""
    from mmexp import build

    # All that a data source is made of; the seed draws its shots and fractions, further encoders tell of what kind their
    # columns are, objectives whether labels are looked for. What is measured without a modality is of the same rows.
    drawn = any(config["data"].get(key) is not None for key in ("shots", "fraction"))
    data = {key: value for key, value in config["data"].items() if key != "without"}
    asked = {"data": data, "seed": config["seed"] if drawn else 0, "encoder": build.further(config)}
    asked |= {name: config.get(name) for name in ("prompts", "init_from")}
    asked |= {"objective": config.get("objective") or {}, "train": config.get("train", True)}
    # Of objectives it is only what they need: runs that differ in a weight share what was read.
    key = repr({**asked, "objective": build.answers_wanted(asked)})
    if key not in _data:
        _data[key] = build.data_source(asked).fingerprint
    return _data[key]


_data: dict[str, str] = {}


def _command(arguments: Sequence[str]) -> str:
    return " ".join(["mmexp train -m", *arguments])
