"""Runs of many kinds that are killed (SIGKILL) at random moments of their lives, and what they are in the end.

    python scripts/crash_campaign.py [--kills 100] [--jobs 2] [--threads 2] [--precision 32-true] [--to docs]

Each run is killed several times, while it starts, fills a cache, trains, validates, writes checkpoints or is measured, and goes
on with `resume=auto`. In the end its weights, optimizer, metrics, history and order of samples are compared, bit by bit,
with those of a run that was left alone. Writes crashes.json below --to and the table into its resuming.md.
"""

import argparse
import json
import random
import re
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mmexp.resume_proof import Attempt, differences

SMALL = (
    *("data.styles=[blob]", "data.batch_size=64", "encoder.image.options.depth=1", "encoder.text.depth=1"),
    *("checkpoint.every_steps=4", "checkpoint.validate_every_epochs=1", "log_every_steps=3"),
)
ALONE = ("fusion=none", "objective=contrastive")
STEPS = "budget.steps=45"
# Each has a cache of its own, so that it is also killed while it fills it.
CACHE = "cache.directory={folder}/cache"
KINDS = {
    "pretraining, two objectives": (STEPS,),
    "masked words and patches": (STEPS, "fusion=none", "objective=masked"),
    "two loader workers, augmented": (STEPS, *ALONE, "augmentation=[geometry,colour]", "data.num_workers=2"),
    "LoRA from a run": (STEPS, *ALONE, "adapter=lora", "init_from={base}", "task=finetune"),
    "linear probe, kept towers": (STEPS, *ALONE, "adapter=probe", "objective=classify", "objective.classify.source=image",
                                "init_from={base}", "task=finetune", "variation.views=2", CACHE),
    "distillation, kept teacher": (STEPS, "fusion=none", "task=distill", "teacher={base}", "objective=[contrastive,distill]",
                                   "variation.views=2", CACHE),
    "moving average, some rows at a time": (STEPS, *ALONE, "average.decay=0.9", "hardware.micro_batch_size=24"),
    "learned balance, Muon": (STEPS, "balance=uncertainty", "optimizer=muon"),
}  # fmt: skip


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true")
    parser.add_argument("--each", type=int, default=4, help="kills of one run")
    parser.add_argument("--to", type=Path, default=Path("outputs/crashes"))
    asked = parser.parse_args()
    small = (*SMALL, f"hardware.threads={asked.threads}", f"hardware.precision={asked.precision}")
    with tempfile.TemporaryDirectory() as folder:
        base = Attempt(Path(folder), "base", (*small, *ALONE, "budget.steps=20", "evaluate=false"))
        base.finish()
        share = -(-asked.kills // len(KINDS))
        shares = [min(share, max(0, asked.kills - share * i)) for i in range(len(KINDS))]
        with ThreadPoolExecutor(asked.jobs) as pool:
            work = [
                pool.submit(campaign, Path(folder), small, base, kind, kills, asked.each)
                for kind, kills in zip(KINDS, shares, strict=True)
            ]
            rows = [one.result() for one in work]
    asked.to.mkdir(parents=True, exist_ok=True)
    told = {"date": time.strftime("%Y-%m-%d"), "threads": asked.threads, "precision": asked.precision, "kinds": rows}
    (asked.to / "crashes.json").write_text(json.dumps(told, indent=1) + "\n")
    page = asked.to / "resuming.md"
    if page.is_file():
        page.write_text(in_page(page.read_text(), table(told)))
    print(table(told))


def campaign(folder: Path, small: tuple[str, ...], base: Attempt, kind: str, kills: int, each: int) -> dict[str, Any]:
    """Kill runs of one kind so many times in all, `each` a few times; return what was found."""
    place = folder / re.sub(r"\W+", "-", kind)
    draws = random.Random(kind)

    def attempt(name: str) -> Attempt:
        own = [word.format(base=base.directory, folder=place / f"{name}-of") for word in KINDS[kind]]
        return Attempt(place, name, (*small, *own))

    whole = attempt("whole")
    began = time.monotonic()
    whole.finish()
    life, done, runs, unlike, moments = time.monotonic() - began, 0, 0, [], []
    while done < kills:
        tried, first = attempt(f"killed-{runs}"), done
        while done < min(kills, first + each):
            moment = time.monotonic() + draws.uniform(0, life)
            done += tried.killed_when(lambda moment=moment: time.monotonic() >= moment)
            if (tried.directory / "metrics.json").is_file():
                break
        tried.finish()
        runs, moments = runs + 1, moments + tried.kills
        found = {part: wrong for part, wrong in differences(whole, tried).items() if wrong}
        unlike += [found] if found else []
        print(f"{kind}: run {runs}, killed {tried.kills}: {found or 'equal'}", flush=True)
        if not found:
            shutil.rmtree(tried.directory)
    before = sum(moment.startswith("before") for moment in moments)
    return {"kind": kind, "kills": done, "before": before, "runs": runs, "equal": runs - len(unlike), "unlike": unlike}


def table(told: dict[str, Any]) -> str:
    """Return the result as Markdown."""
    lines = [
        "| runs of this kind | kills | of these before the first step | runs | bit-equal |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['kind']} | {row['kills']} | {row['before']} | {row['runs']} | {row['equal']} |"
        for row in told["kinds"]
    ]
    kills, before, runs, equal = (
        sum(row[key] for row in told["kinds"]) for key in ("kills", "before", "runs", "equal")
    )
    lines.append(f"| **all** | **{kills}** | **{before}** | **{runs}** | **{equal}** |")
    threads = "one thread" if told["threads"] == 1 else f"{told['threads']} threads"
    return "\n".join([*lines, "", f"Measured {told['date']}, hardware.precision={told['precision']}, {threads}."])


def in_page(text: str, rows: str) -> str:
    """Return the page with the table between its marks."""
    return re.sub(
        r"(<!-- crashes -->\n).*?(<!-- end -->)", lambda found: f"{found[1]}{rows}\n{found[2]}", text, flags=re.DOTALL
    )


if __name__ == "__main__":
    main()
