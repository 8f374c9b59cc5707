"""Every pair of choices, in few combinations."""

from itertools import combinations, product

from mmexp.matrix.covering import all_pairs

GROUPS = {"fruit": ["apple", "pear", "fig"], "colour": ["red", "green"], "size": ["small", "large"], "one": ["only"]}


def test_every_pair_of_choices_is_in_some_combination():
    found = all_pairs(GROUPS, seed=0)
    for one, other in combinations(GROUPS, 2):
        met = {(row[one], row[other]) for row in found}
        assert met == set(product(GROUPS[one], GROUPS[other]))
    assert all(list(row) == list(GROUPS) for row in found)


def test_there_are_hardly_more_combinations_than_the_two_largest_groups_need():
    groups = {"a": [str(i) for i in range(9)], "b": [str(i) for i in range(7)], "c": list("xyz"), "d": list("xyz")}
    assert 63 <= len(all_pairs(groups, seed=0)) <= 70


def test_the_seed_draws_the_combinations():
    assert all_pairs(GROUPS, seed=1) == all_pairs(GROUPS, seed=1)
    assert all_pairs(GROUPS, seed=1) != all_pairs(GROUPS, seed=2)
