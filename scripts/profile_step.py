"""Where the time of a step goes, by torch's profiler, and how much of it no trainer can spare: the products.

    python scripts/profile_step.py [--fp32] [--steps 4] [--to docs/performance]

In bf16 the contrastive step of `scripts/bench contrastive`, as it is and with torch's fused attention instead; with --fp32 the
same step, and that of `scripts/bench lora`, in fp32. Writes profile.json or profile_fp32.json below --to, and puts the table
into performance.md beside it.
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
from torch.profiler import ProfilerActivity, profile, schedule

sys.path.insert(0, str(Path(__file__).parent / "bench"))
from contrastive import our_overrides
from lora import overrides as lora_overrides
from work.reference import write_model, write_table
from work.texts import write_bert, write_texts

import mmexp.attention
from mmexp.compose import compose, resolved
from mmexp.request import Request
from mmexp.training.memory import keep_freed_memory

# Steps until all memory that they need is there. What the profiler itself writes down needs memory too: the second of two courses
# is looked at.
WARM_UP = 4
COURSES = 2
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
    "dropout": ("aten::random_", "aten::ge_"),
    "optimizer": ("aten::_fused_adam",),
    "words": ("aten::embedding", "aten::index"),
}


def main() -> None:
    """Measure both, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fp32", action="store_true")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--to", type=Path, default=Path("outputs/bench"))
    asked = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as made:
        found = in_fp32(Path(made), asked.steps) if asked.fp32 else by_attention(Path(made), asked.steps)
    name = "profile_fp32" if asked.fp32 else "profile"
    asked.to.mkdir(parents=True, exist_ok=True)
    (asked.to / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    page = asked.to.parent / "performance.md"
    if page.is_file():
        rows = as_table(found)
        marks = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        page.write_text(re.sub(marks, lambda place: f"{place[1]}{rows}\n{place[2]}", page.read_text(), flags=re.DOTALL))
    print(as_table(found))


def by_attention(folder: Path, steps: int) -> dict[str, dict[str, float]]:
    """Return the contrastive step in bf16 with torch's fused attention and as it is."""
    told = contrastive(folder, steps)
    before = mmexp.attention.slow_when_fused
    mmexp.attention.slow_when_fused = lambda *_: False
    try:
        found = {"torch's fused attention": measured(told, folder, steps, "bf16-mixed")}
    finally:
        mmexp.attention.slow_when_fused = before
    return {**found, "as it is": measured(told, folder, steps, "bf16-mixed")}


def in_fp32(folder: Path, steps: int) -> dict[str, dict[str, float]]:
    """Return both steps in fp32."""
    lora = lora_overrides(write_bert(folder / "bert"), write_texts(folder, 32 * (_taken(steps) + 1)))
    works = {"contrastive": contrastive(folder, steps), "LoRA on all layers of a small BERT": lora}
    return {name: measured(told, folder, steps, "32-true") for name, told in works.items()}


def _taken(steps: int) -> int:
    return COURSES * (WARM_UP + steps)


def contrastive(folder: Path, steps: int) -> list[str]:
    """Return what `mmexp train` is told of the contrastive step."""
    table = write_table(folder / "rows", 128 * (_taken(steps) + 1))
    return our_overrides(write_model(folder / "model"), table, 128)


def measured(told: list[str], folder: Path, steps: int, precision: str) -> dict[str, float]:
    """Return the milliseconds of a step by kind of work, of all threads together as the profiler counts the caller's."""
    from mmexp.experiment import prepare

    told = [*told, f"budget.steps={_taken(steps)}", "data.num_workers=0", "cache.enabled=false"]
    config, choices = resolved(compose(told))
    experiment = prepare(Request(config, folder / "run", choices, told))
    task, batches = experiment.task, iter(experiment.train)
    optimizer = task.optimizer_factory(task)
    course = schedule(wait=0, warmup=WARM_UP, active=steps, repeat=COURSES)
    with profile(activities=[ProfilerActivity.CPU], schedule=course) as profiler:
        for _ in range(_taken(steps)):
            step(task, optimizer, next(batches), precision)
            profiler.step()
    kinds: dict[str, float] = defaultdict(float)
    for event in profiler.key_averages():
        if event.key.startswith("ProfilerStep"):
            continue
        kind = next((name for name, starts in WORK.items() if event.key.startswith(starts)), "the rest")
        kinds[kind] += event.self_cpu_time_total / 1000 / steps
    return dict(kinds)


def step(task: Any, optimizer: torch.optim.Optimizer, batch: Any, precision: str) -> None:
    """Take one step as the trainer does."""
    from mmexp.training.cost import in_precision

    task.train()
    with in_precision(task, precision):
        losses, _ = task.terms(task.views(batch, 0))
        loss = (losses.given * losses.losses).sum()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def as_table(found: dict[str, dict[str, float]]) -> str:
    """Return milliseconds a step by kind of work as Markdown."""
    seen = [name for name in WORK if any(one.get(name, 0) >= 0.5 for one in found.values())]
    names = sorted(seen, key=lambda name: -list(found.values())[-1].get(name, 0))
    lines = [f"| ms a step | {' | '.join(found)} |", "|---|---|---|"]
    lines += [
        f"| {name} | {' | '.join(f'{one.get(name, 0):.0f}' for one in found.values())} |"
        for name in [*names, "the rest"]
    ]
    return "\n".join([*lines, f"| **all** | {' | '.join(f'**{sum(one.values()):.0f}**' for one in found.values())} |"])


if __name__ == "__main__":
    main()
