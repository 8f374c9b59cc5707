"""The table of a sweep over fusions: accuracy on the test set, with all modalities and with each one missing.

    mmexp train -m experiment=fusions fusion=late,product,early seed=0,1,2 sweep.name=easy_vqa_fusions
    python scripts/compare_fusions.py outputs/sweeps/easy_vqa_fusions

Means over seeds with their 95 % intervals (Student's t), as Markdown, the best first. `test_without_<modality>` is an evaluation
set of `data.without`; one that was not measured has no column. `mmexp compare` tells which differences are more than luck.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from mmexp.comparison.reading import read
from mmexp.comparison.statistics import counts
from mmexp.errors import RequestError
from mmexp.runs.seeds import Interval, over_seeds

TEST = "test/accuracy"
WITHOUT = "test_without_"


def rows_of(paths: Sequence[Path]) -> list[dict]:
    """Return for each fusion its `metrics`, an `Interval` each, the seconds of training among them, the best fusion first."""
    runs = [run for run in read(paths) if counts(run, TEST)]
    if not runs:
        raise RequestError(f"{', '.join(map(str, paths))}: no finished run has {TEST}.")
    measured = [{"metrics": {**run.metrics, "seconds": float(run.facts["train_seconds"])}} for run in runs]
    fusions = [{"fusion": str(run.facts["choices"]["fusion"])} for run in runs]
    return sorted(over_seeds(measured, fusions), key=lambda row: -row["metrics"][TEST].mean)


def table(rows: Sequence[dict]) -> str:
    """Return the Markdown table."""
    lacking = sorted({name for row in rows for name in row["metrics"] if name.startswith(WITHOUT)})
    columns = [TEST, *(name for name in lacking if name.endswith("/accuracy"))]
    told = ["all", *(f"without {name.removeprefix(WITHOUT).partition('/')[0]}" for name in columns[1:])]
    lines = [["fusion", "seeds", *told, "seconds"], ["---"] * (len(columns) + 3)]
    for row in rows:
        metrics = row["metrics"]
        cells = [share(metrics[name]) if name in metrics else "–" for name in columns]
        lines.append([f"`{row['choices']['fusion']}`", str(row["runs"]), *cells, f"{metrics['seconds'].mean:.0f}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def share(interval: Interval) -> str:
    """Return a share in per cent, with the half width of its interval where there is one."""
    half = "" if interval.half is None else f" ± {100 * interval.half:.1f}"
    return f"{100 * interval.mean:.1f}{half} %"


if __name__ == "__main__":
    try:
        print(table(rows_of([Path(path) for path in sys.argv[1:]])))
    except RequestError as error:
        sys.exit(f"compare_fusions: {error}")
