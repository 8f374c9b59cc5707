"""The matrix of a sequence as table and picture, and what a sweep tells of such runs."""

import io
import re

import numpy as np
from rich.console import Console

from mmexp.metrics import higher_is_better
from mmexp.runs.forgetting import Sequence, heat_map, sequence_table
from mmexp.runs.sweep_table import seeds_table, sweep_table

SEQUENCE = Sequence(["untrained", "after a", "after b"], ["a", "b"], np.array([[0.02, 0.03], [0.5, 0.04], [0.1, 0.6]]))


def printed(table) -> str:
    out = io.StringIO()
    Console(width=100, file=out).print(table)
    return out.getvalue()


def test_the_table_has_a_row_a_moment():
    lines = [line.split() for line in printed(sequence_table(SEQUENCE)).splitlines()]
    assert ["after", "a", "50.0", "4.0"] in lines and ["after", "b", "10.0", "60.0"] in lines


def test_every_cell_of_the_heat_map_is_told_and_the_best_is_the_darkest():
    svg = heat_map(SEQUENCE)
    assert re.findall(r">(\d+)</text>", svg) == ["2", "3", "50", "4", "10", "60"]
    fills = re.findall(r'<path d="[^"]*" clip-path="[^"]*" style="fill: #(\w{6})', svg)
    assert len(fills) == 6
    light = [sum(int(fill[i : i + 2], 16) for i in (0, 2, 4)) for fill in fills]
    assert np.argmin(light) == 5 and np.argmax(light) == 0


def test_a_sweep_tells_average_accuracy_and_forgetting_which_is_better_low():
    rows = [
        {
            "number": str(seed),
            "status": "completed",
            "overrides": [f"continual={method}", f"seed={seed}"],
            "metrics": {"continual/average_accuracy": 0.3, "continual/forgetting": lost, "continual/after_1_a": 0.4,
                        "a/mean_reciprocal_rank": 0.1, "a/loss": 1.0},
        }
        for method, lost in (("plain", 0.25), ("replay", 0.125))
        for seed in (0, 1)
    ]  # fmt: skip
    assert higher_is_better("continual/forgetting") is False
    for table in (sweep_table(rows), seeds_table(rows)):
        text = printed(table)
        assert "average accuracy" in " ".join(text.split()) and "forgetting" in text
        assert "12.5" in text and "after" not in text
