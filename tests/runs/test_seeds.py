"""Means over seeds and how sure they are."""

import io

import pytest
from rich.console import Console

from mmexp.runs.seeds import interval
from mmexp.runs.sweep_table import seeds_table
from mmexp.runs.table import telling


def test_the_interval_is_students():
    one = interval([1.0, 2.0, 3.0])
    assert (one.mean, one.count) == (2.0, 3)
    assert one.half == pytest.approx(4.302653 / 3**0.5, rel=1e-6)  # t(0.975, 2) of any table
    assert interval([5.0]).half is None


def runs(recalls, seeds=True):
    for number, (objective, value) in enumerate(recalls):
        metrics = {"test/image_neighbour_accuracy": 0.2, "test/loss": 1.0}
        metrics |= {} if value is None else {"test/text_to_image_r10": value, "test/image_to_text_r10": value}
        overrides = [f"objective={objective}", f"seed={number if seeds else 0}"]
        yield {"number": str(number), "status": "completed", "overrides": overrides, "metrics": metrics}


def test_a_row_for_each_set_of_choices():
    rows = list(runs([("siglip", 0.1), ("siglip", 0.3), ("masked", None), ("masked", None)]))
    table = seeds_table([*rows, {"number": "4", "status": "failed", "overrides": ["objective=siglip", "seed=9"]}])
    out = io.StringIO()
    Console(width=80, file=out).print(table)
    siglip, masked = [line for line in out.getvalue().splitlines() if line.startswith(("siglip", "masked"))]
    assert "20.0 ± 127.1" in siglip and " 2 " in siglip
    assert "–" in masked and "20.0 ± 0.0" in masked
    assert seeds_table(rows[::2]) is None


def test_neighbours_are_told_where_a_run_has_nothing_but_losses():
    neighbours = {"image_neighbour_accuracy", "text_neighbour_accuracy"}
    assert telling({*neighbours, "loss"}) == [*sorted(neighbours), "loss"]
    assert telling({*neighbours, "accuracy", "loss"}) == ["accuracy", "loss"]
    assert telling({*neighbours, "text_to_image_r10", "loss"}) == ["text_to_image_r10", "loss"]
