"""Where the time of a contrastive step goes, by torch's profiler: as it is, and with torch's fused attention in bf16 instead.

    python scripts/profile_step.py [--steps 4] [--to docs/performance]

The work is that of `scripts/bench contrastive`. Writes profile.json below --to and puts the table into performance.md beside it.
"""

import argparse
import json
import re
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).parent / "bench"))
from contrastive import our_overrides
from work.reference import write_model, write_table

import mmexp.attention
from mmexp.compose import compose, resolved
from mmexp.request import Request

# What the operators of a step are for, by what their names begin with.
WORK = {
    "products": (
        "aten::addmm",
        "aten::mm",
        "aten::bmm",
        "aten::baddbmm",
        "aten::mkldnn",
        "aten::_mkl",
        "aten::convolution",
        "mkldnn",
    ),
    "fused attention": ("aten::_scaled_dot", "aten::_flash"),
    "copies and casts": ("aten::copy_", "aten::_to_copy", "aten::clone", "aten::cat", "aten::contiguous"),
    "GELU": ("aten::gelu",),
    "norms": ("aten::native_layer_norm", "aten::native_batch_norm"),
    "softmax": ("aten::_softmax",),
    "optimizer": ("aten::_fused_adam",),
    "words": ("aten::embedding", "aten::index"),
}


def main() -> None:
    """Measure both, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--to", type=Path, default=Path("outputs/bench"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        model, table = write_model(folder / "model"), write_table(folder / "rows", 128 * (asked.steps + 2))
        told = [
            *our_overrides(model, table, 128),
            f"budget.steps={asked.steps + 1}",
            "data.num_workers=0",
            "cache.enabled=false",
        ]
        found = {"torch's fused attention": measured(told, folder, asked.steps, fused=True)}
        found["as it is"] = measured(told, folder, asked.steps, fused=False)
    asked.to.mkdir(parents=True, exist_ok=True)
    (asked.to / "profile.json").write_text(json.dumps(found, indent=1) + "\n")
    page = asked.to.parent / "performance.md"
    if page.is_file():
        rows = as_table(found)
        marks = r"(<!-- profile -->\n).*?(<!-- end -->)"
        page.write_text(re.sub(marks, lambda place: f"{place[1]}{rows}\n{place[2]}", page.read_text(), flags=re.DOTALL))
    print(as_table(found))


def measured(told: list[str], folder: Path, steps: int, fused: bool) -> dict[str, float]:
    """Return the milliseconds of a step by kind of work, of all threads together as the profiler counts the caller's."""
    from mmexp.experiment import prepare

    before = mmexp.attention.slow_when_fused
    if fused:
        mmexp.attention.slow_when_fused = lambda *_: False
    try:
        config, choices = resolved(compose(told))
        experiment = prepare(Request(config, folder / "run", choices, told))
        task, batches = experiment.task, iter(experiment.train)
        optimizer = task.optimizer_factory(task)
        step(task, optimizer, next(batches))
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            for _ in range(steps):
                step(task, optimizer, next(batches))
    finally:
        mmexp.attention.slow_when_fused = before
    kinds: dict[str, float] = defaultdict(float)
    for event in profiler.key_averages():
        kind = next((name for name, starts in WORK.items() if event.key.startswith(starts)), "the rest")
        kinds[kind] += event.self_cpu_time_total / 1000 / steps
    return dict(kinds)


def step(task: Any, optimizer: torch.optim.Optimizer, batch: Any) -> None:
    """Take one step as the trainer does."""
    from mmexp.training.cost import in_precision

    task.train()
    with in_precision(task, "bf16-mixed"):
        losses, _ = task.terms(task.views(batch, 0))
        loss = (losses.given * losses.losses).sum()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def as_table(found: dict[str, dict[str, float]]) -> str:
    """Return milliseconds a step by kind of work as Markdown."""
    names = sorted(WORK, key=lambda name: -found["as it is"].get(name, 0))
    lines = [f"| ms a step | {' | '.join(found)} |", "|---|---|---|"]
    lines += [
        f"| {name} | {' | '.join(f'{one.get(name, 0):.0f}' for one in found.values())} |"
        for name in [*names, "the rest"]
    ]
    return "\n".join([*lines, f"| **all** | {' | '.join(f'**{sum(one.values()):.0f}**' for one in found.values())} |"])


if __name__ == "__main__":
    main()
