"""The statistics against values computed by hand, and against luck."""

import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from comparison.made_up import grid
from rich.console import Console
from scipy.stats import ttest_rel

from mmexp.comparison.choices import choices_of
from mmexp.comparison.importance import design, importance
from mmexp.comparison.paired import holm, resolution
from mmexp.comparison.statistics import compare
from mmexp.comparison.tables import as_table, sheets
from mmexp.comparison.types import Run
from mmexp.errors import RequestError

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import check_comparison as simulation

LUCK = (0.30, 0.34, 0.27, 0.36, 0.31)


def test_two_configurations_that_are_the_same_are_too_close_to_call():
    noise = np.random.default_rng(0).normal(0, 0.01, (2, 5))
    runs = grid(lambda seed, fusion: LUCK[seed] + noise[int(fusion == "b"), seed], fusion=("a", "b"))
    [one] = compare(runs).differences
    assert (one.verdict, one.pairs, one.unit) == ("too close to call", 5, "seed")
    assert one.low < 0 < one.high
    [equal] = compare(grid(lambda seed, fusion: LUCK[seed], fusion=("a", "b"))).differences
    assert (equal.mean, equal.p, equal.verdict) == (0, 1, "too close to call")


def test_a_difference_below_the_spread_of_seeds_is_told_by_pairing():
    gaps = (0.011, 0.009, 0.0103, 0.008, 0.0112)
    runs = grid(lambda seed, fusion: LUCK[seed] + (fusion == "b") * gaps[seed], fusion=("a", "b"))
    comparison = compare(runs)
    [one] = comparison.differences
    first, second = comparison.configurations
    assert first.low < second.mean < first.high  # the seeds scatter by more
    assert (one.first, one.second, one.verdict) == ("a", "b", "worse")
    # By hand: the squares of the gaps from their mean add up to 7.48e-6; t(0.975, 4) of any table.
    assert one.mean == pytest.approx(-0.0099)
    assert one.low == pytest.approx(-0.0099 - 2.776445 * (7.48e-6 / 4 / 5) ** 0.5, rel=1e-5)
    assert one.p == pytest.approx(ttest_rel(LUCK, [one + gap for one, gap in zip(LUCK, gaps, strict=True)]).pvalue)


def test_less_of_a_loss_is_better():
    runs = grid(
        lambda seed, fusion: LUCK[seed] + (fusion == "b") * (1 + 0.1 * LUCK[seed]), "test/loss", fusion=("a", "b")
    )
    comparison = compare(runs)
    assert not comparison.rises
    assert comparison.differences[0].verdict == "better"
    assert comparison.configurations[0].choices == {"fusion": "a"}


def test_runs_of_one_seed_in_several_blocks_are_one_pair():
    """Each seed favours a value of its own, in all blocks alike: 60 runs are five throws of a coin and not thirty."""
    sides = (1, -1, 1, 1, -1)
    runs = grid(
        lambda seed, fusion, size: LUCK[seed] + int(size) + (fusion == "a") * sides[seed],
        fusion=("a", "b"),
        size=tuple("123456"),
    )
    about = [one for one in compare(runs).differences if one.about == "fusion"]
    assert [(one.pairs, one.verdict) for one in about] == [(5, "too close to call")]


def test_fewer_than_three_seeds_are_not_tested():
    comparison = compare(grid(lambda seed, fusion: seed + (fusion == "a"), seeds=2, fusion=("a", "b")))
    [one] = comparison.differences
    assert (one.pairs, one.p, one.low, one.verdict) == (2, None, None, "too close to call")
    assert "too close to call: 2 seeds in common, add seed=0,1,2,3,4 to all" in comparison.notes


def test_blocks_are_pairs_where_seeds_are_too_few():
    sizes = tuple("1234")
    runs = grid(
        lambda seed, fusion, size: int(size) + (fusion == "a") * (1 + int(size) / 50),
        seeds=1,
        fusion=("a", "b"),
        size=sizes,
    )
    comparison = compare(runs)
    one = next(one for one in comparison.differences if one.about == "fusion")
    assert (one.unit, one.pairs, one.verdict) == ("block", 4, "better")
    assert any("another seed may decide otherwise" in note for note in comparison.notes)


def test_a_coarse_metric_decides_nothing_by_coincidence():
    """Right answers among eight: three times one more is not certainty, though the gaps do not scatter at all."""
    runs = grid(lambda seed, fusion: (3 + seed + (fusion == "a")) / 8, seeds=3, fusion=("a", "b"))
    assert compare(runs).differences[0].verdict == "too close to call"
    assert resolution([0.25, 0.5, 0.375, 1.0]) == pytest.approx(1 / 8)
    assert resolution([0.1, 0.2345, 0.3456, 0.71]) < 1e-5


def test_whole_configurations_are_compared_where_no_choice_is_alone():
    """Two configurations that differ in two choices at once: neither choice has a pair, the whole has five."""
    runs = [
        run
        for run in grid(lambda seed, a, b: LUCK[seed] + int(a) * (1 + LUCK[seed]), a=("0", "1"), b=("0", "1"))
        if run.choices["a"] == run.choices["b"]
    ]
    [one] = compare(runs).differences
    assert (one.about, one.first, one.second, one.verdict) == ("configuration", "a=1 b=1", "a=0 b=0", "better")


def test_holm_by_hand():
    corrected, levels = holm([0.01, 0.04, 0.03, 0.005], [1, 1, 1, 1])
    assert corrected == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert levels == pytest.approx([0.05 / 3, 0.05 / 2, 0.05 / 2, 0.05 / 4])
    # Weighted: 0.02 / 3 and then 0.04 / 1, held against 4 and 1.
    corrected, levels = holm([0.04, 0.02], [1, 3])
    assert corrected == pytest.approx([0.04, 0.02 * 4 / 3])
    assert levels == pytest.approx([0.05, 0.05 * 3 / 4])


def test_verdict_and_interval_never_contradict_each_other():
    rng = np.random.default_rng(3)
    for _ in range(30):
        runs = simulation.simulated(rng, "normal", (3, 2), 5, effect=3)
        for one in simulation.table(runs):
            assert (one.low > 0 or one.high < 0) == (one.verdict != "too close to call")


def test_shares_of_variance_are_those_of_the_analysis_of_variance():
    """A balanced 2 x 3 grid of two seeds, sums of squares by hand."""
    y = np.array([[[1.0, 2], [3, 5], [4, 4]], [[2, 2], [6, 7], [9, 8]]])
    runs = grid(lambda seed, a, b: y[int(a), int(b), seed], seeds=2, a=("0", "1"), b=("0", "1", "2"))
    mean = y.mean()
    total = ((y - mean) ** 2).sum()
    by_a = 6 * ((y.mean((1, 2)) - mean) ** 2).sum()
    by_b = 4 * ((y.mean((0, 2)) - mean) ** 2).sum()
    cells = 2 * ((y.mean(2) - mean) ** 2).sum()
    found = {one.group: one.share for one in importance(runs, "test/accuracy")}
    expected = {"a": by_a, "b": by_b, "interactions": cells - by_a - by_b, "seed": total - cells}
    assert found == pytest.approx({name: part / total for name, part in expected.items()})


def test_what_an_unbalanced_design_cannot_tell_apart_is_told_as_shared():
    runs = [
        run
        for run in grid(lambda seed, a, b: int(a) + int(b) + LUCK[seed], a=("0", "1"), b=("0", "1"))
        if run.choices["a"] == run.choices["b"]
    ]
    found = {one.group: one.share for one in importance(runs, "test/accuracy")}
    assert found["a"] == found["b"] == 0
    assert found["shared"] > 0.9


def test_many_numbers_are_taken_by_rank():
    rates = [str(10.0**-power) for power in range(1, 9)]
    assert design(rates).shape == (8, 2)
    assert design(["1", "2", "1", "x"]).shape == (4, 3)
    runs = grid(lambda seed, lr: -np.log10(float(lr)) + LUCK[seed], seeds=1, lr=tuple(rates))
    [lr, rest] = importance(runs, "test/accuracy")
    assert lr.share == pytest.approx(1) and rest.share == pytest.approx(0)


def test_the_metric_is_one_that_tells_runs_apart():
    runs = grid(lambda seed, fusion: LUCK[seed], fusion=("a", "b"))
    assert compare(runs).metric == "test/accuracy"
    assert compare(runs, "test/accuracy").rises
    with pytest.raises(RequestError, match="Did you mean 'test/accuracy'"):
        compare(runs, "test/acuracy")


@pytest.mark.parametrize("noise", ["normal", "heavy tails", "counts"])
def test_false_alarms_of_a_whole_table_are_rare(noise):
    # 0.05 promised; of 200 tables 20 or more are then seen once in a thousand times.
    assert simulation.false_alarm_rate(noise, "2 x 2 grid", 200) < 20 / 200


def test_a_known_difference_is_found_and_a_small_one_is_not_promised():
    assert simulation.power("normal", "2 configurations", 4, 100) > 0.9
    assert simulation.power("normal", "3 x 2 grid", 4, 100) > 0.8


def test_students_interval_keeps_its_coverage_at_five_pairs_and_the_percentile_bootstrap_does_not():
    rate, _ = simulation.coverage("Student's t", "heavy tails", 5, 1000)
    assert rate > 0.94
    rate, _ = simulation.coverage("percentile bootstrap", "normal", 5, 300)
    assert rate < 0.90


def test_a_single_choice_of_many_numbers_gets_all_that_it_explains():
    jumps = dict(zip(("1", "2", "3", "4", "5", "6"), (0.1, 0.6, 0.2, 0.55, 0.15, 0.6), strict=True))
    told = {
        one.group: one.share
        for one in importance(grid(lambda seed, lr: jumps[lr] + LUCK[seed] / 50, lr=tuple(jumps)), "test/accuracy")
    }
    assert told["lr"] > 0.99
    assert sum(told.values()) == pytest.approx(1)


def test_shares_have_no_interval_where_a_single_seed_makes_the_difference():
    runs = grid(lambda seed, fusion: float(seed == 0 and fusion == "a"), seeds=3, fusion=("a", "b"))
    assert all(one.low is None for one in importance(runs, "test/accuracy"))


def test_a_metric_without_a_direction_is_refused():
    for metric, told in (("eval/f1", "not known whether more"), ("test/temperature", "no value of it is better")):
        runs = grid(lambda seed, fusion: LUCK[seed], metric, fusion=("a", "b"))
        with pytest.raises(RequestError, match=f"{told}.*{metric}:max or --metric {metric}:min"):
            compare(runs, metric)


def test_the_best_is_chosen_on_val_and_reported_on_test():
    runs = grid(lambda seed, fusion: LUCK[seed] + (fusion == "b"), fusion=("a", "b"))
    # On val it is the other way round.
    runs = [replace(one, metrics={**one.metrics, "val/accuracy": 1 - one.metrics["test/accuracy"]}) for one in runs]
    comparison = compare(runs)
    assert (comparison.metric, comparison.selected) == ("test/accuracy", "val/accuracy")
    assert [one.choices["fusion"] for one in comparison.configurations] == ["a", "b"]
    assert [one.mean < 0.6 for one in comparison.configurations] == [True, False]
    assert any("chosen by val/accuracy; test/accuracy is only reported" in note for note in comparison.notes)
    table = next(iter(sheets(comparison)))
    assert table.rows[0][1] == "a" and [" ".join(h.split()) for h in table.headings[3:5]] == [
        "val accuracy %",
        "test accuracy %",
    ]
    # Where val was not measured it is said that the test set chose.
    alone = compare([replace(one, metrics={"test/accuracy": one.metrics["test/accuracy"]}) for one in runs])
    assert alone.selected == "test/accuracy" and any("flatters the best" in note for note in alone.notes)


def test_a_metric_of_the_users_own_is_compared():
    comparison = compare(
        grid(lambda seed, fusion: LUCK[seed] + (fusion == "b"), "eval/f1", fusion=("a", "b")), "eval/f1:max"
    )
    assert comparison.metric == "eval/f1"
    assert comparison.differences[0].verdict == "worse"
    console = Console(width=80, file=StringIO())
    for sheet in sheets(comparison):
        console.print(as_table(sheet))


def test_runs_whose_metric_is_not_a_number_come_last():
    values = (0.1, float("nan"), 0.5, 0.3)
    rows = next(iter(sheets(compare(grid(lambda seed: values[seed], seeds=4))))).rows
    assert [row[0] for row in rows] == ["2", "3", "0", "1"]


def test_runs_known_from_wandb_alone_have_the_choices_of_their_directories():
    def run(adapter: str, config: dict, directory: Path | None = None) -> Run:
        facts = {"seed": 0, "choices": {"adapter": adapter, "task": "pretrain"}}
        return Run(f"{adapter}{directory}", directory, facts, {}, {"lr": 1, **config})

    told = [run(name, {"adapter": {}, "task": {}}) for name in ("frozen", "full")]
    own = {
        "adapter": {"_target_": "mmexp.adapters.frozen.Frozen"},
        "task": {"_target_": "mmexp.tasks.pretrain.Pretrain"},
    }
    there = run("frozen", own, Path("runs/1"))
    assert choices_of(told) == [{"adapter": "frozen"}, {"adapter": "full"}]
    assert choices_of([*told, there]) == [{"adapter": "frozen"}, {"adapter": "full"}, {"adapter": "frozen"}]
