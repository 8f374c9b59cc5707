"""`mmexp matrix`: whether every part goes with every other."""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Any

from mmexp.errors import RequestError, nearest


def main(arguments: Sequence[str]) -> int:
    """Try combinations that hold all pairs of choices; return 1 where one neither trained nor was refused."""
    asked = _parser().parse_args(list(arguments))
    from mmexp.matrix.asking import groups

    every = groups()
    chosen = every | dict(_only(one, every) for one in asked.only)
    from mmexp.matrix.covering import all_pairs

    combinations = all_pairs(chosen, asked.seed)[: asked.first]
    print(f"{len(combinations)} combinations: {', '.join(f'{len(c)} {group}' for group, c in chosen.items())}")
    from mmexp.matrix.running import run_all
    from mmexp.matrix.table import print_outcomes

    with TemporaryDirectory() as folder:
        outcomes = run_all(combinations, folder, asked.jobs, _tell if asked.verbose else _count)
    return print_outcomes(outcomes)


def _tell(outcome: Any) -> None:
    print(outcome.kind, *outcome.chosen.values(), "" if outcome.kind == "trained" else outcome.told.splitlines()[-1])


def _count(outcome: Any) -> None:
    print(outcome.kind[0], end="", file=sys.stderr, flush=True)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "mmexp matrix", description="Try every part with every other: two steps, or a plain refusal."
    )
    parser.add_argument("only", nargs="*", metavar="GROUP=CHOICE[,CHOICE]", help="of a group, try only these choices")
    parser.add_argument("--seed", type=int, default=0, help="draws which combinations hold the pairs")
    parser.add_argument("--first", type=int, metavar="N", help="only the first N combinations")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes (one for each core)")
    parser.add_argument("--verbose", action="store_true", help="a line for each combination, as it ends")
    return parser


def _only(told: str, groups: dict[str, list[str]]) -> tuple[str, list[str]]:
    group, found, choices = told.partition("=")
    if not found or group not in groups:
        raise RequestError(f"'{group}' is not a group of the matrix.{nearest(group, groups)}")
    wanted = choices.split(",")
    for choice in wanted:
        if choice not in groups[group]:
            raise RequestError(f"'{choice}' is not a choice of {group}.{nearest(choice, groups[group])}")
    return group, wanted
