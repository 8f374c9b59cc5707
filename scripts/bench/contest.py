"""Contestants that run in turn on one machine (A B A B), so that a noisy minute meets all of them, and their ratios."""

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from mmexp.processor import has_bf16

LIBRARIES = ("torch", "lightning", "transformers", "peft", "open_clip_torch", "timm")
# A short form takes few steps on a machine that does other things too: it tells what is broken, not what is slow.
GROSS = 1 / 3

Numbers = Mapping[str, float]


@dataclass(frozen=True)
class Goal:
    """That `ours` is at least `ratio` times as good as `peer`."""

    ours: str
    peer: str
    ratio: float


@dataclass(frozen=True)
class Contest:
    """Ways to do one piece of work. Each returns its numbers by name; `measure` is the one that they are compared by.

    Other numbers are shown beside it. `less_is_better` is true of seconds, for example. `bf16` names the ways that compute in
    bfloat16.
    """

    title: str
    measure: str
    ways: Mapping[str, Callable[[], Numbers]]
    goals: Sequence[Goal] = ()
    less_is_better: bool = False
    bf16: Sequence[str] = ()

    def without_emulation(self) -> "Contest":
        """Return the contest that this processor can hold: without native bfloat16 nobody computes in it.

        Emulated it takes many times as long (open_clip's trainer did not end 23 steps in 12 minutes), and tells nothing.
        """
        if has_bf16() or not self.bf16:
            return self
        ways = {name: way for name, way in self.ways.items() if name not in self.bf16}
        goals = [goal for goal in self.goals if {goal.ours, goal.peer} <= ways.keys()]
        return replace(self, ways=ways, goals=goals, bf16=())


@dataclass(frozen=True)
class Outcome:
    """What every round of a contest measured, by way."""

    contest: Contest
    rounds: Mapping[str, Sequence[Numbers]]

    def ratio(self, goal: Goal) -> float:
        """Return the median over rounds of how many times better `ours` was than `peer` in the same round."""
        pairs = zip(self.rounds[goal.ours], self.rounds[goal.peer], strict=True)
        ratios = [ours[self.contest.measure] / peer[self.contest.measure] for ours, peer in pairs]
        return median(1 / ratio if self.contest.less_is_better else ratio for ratio in ratios)

    def missed(self, share: float = 1.0) -> list[str]:
        """Return in words the goals of which not even `share` was reached."""
        found = [(goal, self.ratio(goal)) for goal in self.contest.goals]
        return [
            f"{goal.ours} against {goal.peer}: {ratio:.2f}, the goal is {goal.ratio:g}"
            for goal, ratio in found
            if ratio < share * goal.ratio
        ]

    def told(self) -> dict[str, Any]:
        """Return all that was measured, with the machine and the versions, as JSON has it."""
        return {
            "title": self.contest.title,
            "measure": self.contest.measure,
            "rounds": {way: list(map(dict, numbers)) for way, numbers in self.rounds.items()},
            "ratios": {f"{goal.ours} / {goal.peer}": self.ratio(goal) for goal in self.contest.goals},
            "goals": {f"{goal.ours} / {goal.peer}": goal.ratio for goal in self.contest.goals},
            "machine": machine(),
            "versions": {name: version(name) for name in LIBRARIES},
            "date": time.strftime("%Y-%m-%d"),
        }

    def write(self, file: Path) -> None:
        """Write the numbers as JSON, and beside them the picture."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(self.told(), indent=1) + "\n")
        self._draw(file.with_suffix(".png"))

    def _draw(self, file: Path) -> None:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(figsize=(7, 0.6 + 0.45 * len(self.rounds)), layout="constrained")
        for place, numbers in enumerate(self.rounds.values()):
            values = [one[self.contest.measure] for one in numbers]
            axes.barh(place, median(values), color="#4477aa")
            axes.plot(values, [place] * len(values), "k.", markersize=4)
        axes.set_yticks(range(len(self.rounds)), list(self.rounds))
        axes.invert_yaxis()
        axes.set_xlabel(self.contest.measure)
        axes.set_title(self.contest.title)
        figure.savefig(file, dpi=100)
        pyplot.close(figure)


def table(told: Mapping[str, Any]) -> str:
    """Return the Markdown table of medians over rounds of what `Outcome.told` returned, and a line for each goal."""
    rounds = told["rounds"]
    names = list(next(iter(rounds.values()))[0])
    lines = [["", *names], ["---"] * (len(names) + 1)]
    lines += [[way, *(f"{median(one[name] for one in found):.4g}" for name in names)] for way, found in rounds.items()]
    goals = [f"- {name}: **{told['ratios'][name]:.2f}** (goal {goal:g})" for name, goal in told["goals"].items()]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", *goals])


def run(contest: Contest, rounds: int) -> Outcome:
    """Let every way do the work once a round."""
    found: dict[str, list[Numbers]] = {way: [] for way in contest.ways}
    for number in range(rounds):
        for way, work in contest.ways.items():
            found[way].append(work())
            print(f"round {number + 1}  {way}: {found[way][-1][contest.measure]:.4g} {contest.measure}", flush=True)
    return Outcome(contest, found)


def machine() -> str:
    """Return processor, whether it multiplies in bf16, cores and memory in words."""
    import psutil

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = next((line for line in lines if line.startswith("model name")), platform.processor())
    memory = psutil.virtual_memory().total / 2**30
    bf16 = "with" if has_bf16() else "without"
    return f"{named.rpartition(': ')[2]} {bf16} bf16, {psutil.cpu_count()} cores, {memory:.0f} GB"
