"""Which runs of a sweep are finished, which go on, and which are to do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmexp.runs.code import code_of
from mmexp.runs.holding import held
from mmexp.runs.parents import digest
from mmexp.runs.state import goes_on, run_of
from mmexp.runs.whole import written
from mmexp.sweeps.book import Entry, next_number
from mmexp.sweeps.launching import Planned


@dataclass(frozen=True)
class Combination:
    """One point of the search space: its overrides, its configuration and the digest of that."""

    overrides: tuple[str, ...]
    fingerprint: str
    config: Mapping[str, Any]


@dataclass
class Plan:
    """What is to be done. `renumbered` maps what changed since to the new numbers of the runs that it concerns."""

    entries: list[Entry]
    asked: list[int] = field(default_factory=list)
    todo: list[Planned] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    new: list[int] = field(default_factory=list)
    renumbered: dict[str, list[int]] = field(default_factory=dict)


def plan(
    directory: Path,
    combinations: Sequence[Combination],
    known: Sequence[Entry],
    same_code: bool,
    data_now: Callable[[Mapping[str, Any]], str],
) -> Plan:
    """Return what is to be done for `combinations`, of which a sweep `known` some already.

    `data_now` returns the fingerprint of a configuration's data as they are; it is asked only where a run would be kept.
    """
    made = Plan(list(known))
    for combination, candidates in zip(combinations, claimed(combinations, known), strict=True):
        states = [(entry, *_state(directory, entry, combination, same_code, data_now)) for entry in candidates]
        # Of several numbers, since code or data changed in between, one that still holds, else the last.
        last = states[-1] if states else (None, "", "")
        entry, state, changes = next((s for s in states if s[1:] == ("finished", "")), last)
        if entry is None or changes:
            entry = Entry(next_number(directory, made.entries), combination.overrides, combination.fingerprint)
            made.entries.append(entry)
            (made.renumbered.setdefault(changes, []) if changes else made.new).append(entry.number)
            state = "to do"
        made.asked.append(entry.number)
        made.counts[state] = made.counts.get(state, 0) + 1
        if state != "finished":
            made.todo.append(Planned(entry.number, combination.overrides))
    return made


def claimed(combinations: Sequence[Combination], known: Sequence[Entry]) -> list[list[Entry]]:
    """Return for each combination its earlier runs: the same request, first those put in the same words.

    Two combinations may be one training, as in a sweep over names or threads, and yet are two runs.
    """
    left = list(known)
    found: list[list[Entry]] = [[] for _ in combinations]
    for in_same_words in (True, False):
        for own, combination in zip(found, combinations, strict=True):
            if own:
                continue
            own += [
                e for e in left if e.fingerprint == combination.fingerprint and _worded(e, combination, in_same_words)
            ]
            if not in_same_words:
                own[:] = own[-1:]
            left = [entry for entry in left if entry not in own]
    return found


def _worded(entry: Entry, combination: Combination, in_same_words: bool) -> bool:
    return not in_same_words or set(entry.overrides) == set(combination.overrides)


def _state(
    directory: Path,
    entry: Entry,
    combination: Combination,
    same_code: bool,
    data_now: Callable[[Mapping[str, Any]], str],
) -> tuple[str, str]:
    """Return what is to become of a run, and in words what changed since, "" for nothing."""
    place = directory / str(entry.number)
    run = run_of(place)
    if held(place):
        return "under way in another process", ""
    if run["status"] == "completed":
        return "finished", _changes(run, combination.config, same_code, data_now)
    if goes_on(run) and written(place):
        return "from its checkpoint", _changes(run, combination.config, same_code, data_now)
    return "to do", ""


def _changes(
    run: Mapping[str, Any], config: Mapping[str, Any], same_code: bool, data_now: Callable[[Mapping[str, Any]], str]
) -> str:
    parents = {parent["path"]: parent["weights"] for parent in run.get("parents") or [] if parent["weights"]}
    changed = {
        "the code": same_code and run.get("code") != code_of(config),
        "the data": run.get("data_fingerprint") != data_now(config),
        "the weights they start from": any(digest(Path(path)) != weights for path, weights in parents.items()),
    }
    return " and ".join(what for what, holds in changed.items() if holds)
