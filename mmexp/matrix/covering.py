"""Few combinations in which every choice of every group meets every choice of every other group."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from random import Random

Choice = tuple[str, str]  # a group and one of its choices


def all_pairs(groups: Mapping[str, Sequence[str]], seed: int) -> list[dict[str, str]]:
    """Return combinations, from group to choice, that hold each pair of choices of two groups at least once.

    Greedy as AETG (Cohen et al. 1997): each combination starts from a pair that is not yet covered and takes of every further
    group the choice that covers most. The same seed gives the same combinations.
    """
    random = Random(seed)
    # A list beside the set keeps the order, and with it what the seed draws.
    order = [
        ((one, a), (other, b)) for one, other in combinations(groups, 2) for a in groups[one] for b in groups[other]
    ]
    random.shuffle(order)
    open_pairs, found = set(order), []
    for pair in order:
        if pair in open_pairs:
            chosen = _completed(dict(pair), groups, open_pairs, random)
            open_pairs -= set(_pairs(chosen, groups))
            found.append({group: chosen[group] for group in groups})
    return found


def _completed(
    chosen: dict[str, str],
    groups: Mapping[str, Sequence[str]],
    open_pairs: set[tuple[Choice, Choice]],
    random: Random,
) -> dict[str, str]:
    """Return a combination with a choice of every group."""
    rest = [group for group in groups if group not in chosen]
    random.shuffle(rest)
    for group in rest:
        choices = list(groups[group])
        random.shuffle(choices)
        gains = [len(open_pairs.intersection(_pairs(chosen | {group: choice}, groups))) for choice in choices]
        chosen[group] = choices[gains.index(max(gains))]
    return chosen


def _pairs(chosen: Mapping[str, str], groups: Mapping[str, Sequence[str]]) -> list[tuple[Choice, Choice]]:
    """Return the pairs of a combination, which may be incomplete, in the order of the groups."""
    return [
        ((one, chosen[one]), (other, chosen[other]))
        for one, other in combinations(groups, 2)
        if one in chosen and other in chosen
    ]
