"""In what the runs compared differ: the fewest keys that tell their configurations apart."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmexp.comparison.types import Run
from mmexp.runs.choices import chosen, overridden, written
from mmexp.runs.parents import PASSING

# What is no choice even where it was swept.
_ASIDE = ("seed", "name", "sweep", "resume", "logger", "hydra")


def flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return nested values under keys such as `optimizer.lr`."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{path}{key}.") if isinstance(value, Mapping) and value else {f"{path}{key}": value}
    return found


def choices_of(runs: Sequence[Run]) -> list[dict[str, str]]:
    """Return for each run the keys that differ and its values.

    What the command lines differ in comes first. A group or key of the configuration is told only where that does not settle
    it already, as `encoder` settles all keys below it; so runs that differ by no override, such as those of a changed
    default, are told apart too. `hardware` and `cache` are told where they alone were varied.
    """
    configs = [_told(run, any(run.directory is None for run in runs)) for run in runs]
    whole = [bool(run.config) for run in runs]
    values: dict[str, list[str]] = {}
    for key, rank in _candidates(runs, configs):
        cells = [_value(run, config, key) for run, config in zip(runs, configs, strict=True)]
        # A run that was refused has no configuration: what it does not say is no difference.
        known = [i for i, run in enumerate(runs) if whole[i] or key in overridden(run.facts) or not any(whole)]
        if len({cells[i] for i in known}) < 2 or all(cells[i] == str(runs[i].seed) for i in known):
            continue
        settling = [*values.values(), *([[str(run.seed) for run in runs]] if rank == 2 else [])]
        if rank == 0 or not _settled(cells, settling, known):
            values[key] = cells
    return [{key: cells[i] for key, cells in values.items()} for i in range(len(runs))]


def _told(run: Run, as_wandb: bool) -> dict[str, Any]:
    """Return what the configuration says, without sections that say nothing; `as_wandb` without `_target_` and its like."""
    keys = flat(run.config).items()
    return {k: v for k, v in keys if v != {} and not (as_wandb and k.rpartition(".")[2].startswith("_"))}


def _candidates(runs: Sequence[Run], configs: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, int]]:
    """Yield keys with their rank: 0 what overrides set, 1 groups and the configuration, 2 what changes no training."""
    set_by_hand = dict.fromkeys(key for run in runs for key in overridden(run.facts) if _top(key) not in _ASIDE)
    yield from ((key, 0) for key in set_by_hand if _top(key) not in PASSING)
    others = dict.fromkeys([k for run in runs for k in chosen(run.facts)] + [k for config in configs for k in config])
    yield from ((k, 1) for k in others if k not in set_by_hand and _top(k) not in (*_ASIDE, *PASSING))
    yield from ((key, 2) for key in set_by_hand if _top(key) in PASSING)


def _top(key: str) -> str:
    return key.replace("/", ".").partition(".")[0]


def _value(run: Run, config: Mapping[str, Any], key: str) -> str:
    """Return what a run has at a key: as resolved where it stands in the configuration, so that 1e-3 is 0.001."""
    value = written(config[key] if key in config else chosen(run.facts).get(key))
    return "–" if value in ("None", "null") else value


def _settled(cells: Sequence[str], settling: Sequence[Sequence[str]], known: Sequence[int]) -> bool:
    """Say whether runs that are alike in all that was told already are alike in `cells`."""
    seen: dict[tuple[str, ...], str] = {}
    return all(seen.setdefault(tuple(told[i] for told in settling), cells[i]) == cells[i] for i in known)


def config_differences(first: Run, second: Run) -> list[tuple[str, str, str]]:
    """Return key, value of `first` and value of `second` for all that differs in their `config.yaml`."""
    one, other = flat(first.config), flat(second.config)
    keys = dict.fromkeys([*one, *other])
    cells = ((key, written(one.get(key)), written(other.get(key))) for key in keys)
    return [cell for cell in cells if cell[1] != cell[2]]
