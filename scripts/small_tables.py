"""Three small tables drawn from the bundled emoji, as a user's own data would be, and what the defaults make of them.

    python scripts/small_tables.py FOLDER [--seeds 3]

`pairs` holds 357 pictures with captions, `classes` 300 pictures of five groups, `numbers` 300 pictures with their mean
brightness; each has 200 rows of unseen concepts for the test. Frozen pretrained towers (encoder=offline) are trained with
the default budget and with 15 epochs and a warm-up of 50 steps.
"""

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import numpy as np

from mmexp.data.emoji import EmojiSamples, emoji

TEST_ROWS = 200
CLASSES = 5
OFFLINE = (
    "encoder=offline",
    "adapter=frozen",
    "fusion=none",
    "task=finetune",
    "variation.views=2",
    "hardware.threads=1",
)
TASKS: dict[str, tuple[int, str, tuple[str, ...]]] = {
    "pairs": (357, "test/text_to_image_r1", ("objective=contrastive",)),
    "classes": (
        300,
        "test/accuracy",
        ("objective=classify", "objective.classify.source=image", "data.columns.label=label", "data.columns.text=null"),
    ),
    "numbers": (
        300,
        "test/r2",
        ("objective=regress", "objective.regress.source=image", "data.columns.target=number", "data.columns.text=null"),
    ),
}
BUDGETS = {"15 epochs, warm-up 50": ("budget.epochs=15", "schedule.warmup_steps=50"), "default": ()}


def chosen(samples: EmojiSamples, rows: int, labels: Sequence[int]) -> list[int]:
    """Return `rows` rows of different concepts, of the classes `labels`, drawn by seed 0."""
    seen: set[int] = set()
    order = [int(row) for row in np.random.default_rng(0).permutation(len(samples))]
    kept = [row for row in order if samples.labels[row] in labels]
    return [row for row in kept if not (samples.concepts[row] in seen or seen.add(int(samples.concepts[row])))][:rows]


def write(folder: Path, name: str, samples: EmojiSamples, rows: Sequence[int]) -> None:
    """Write a table of pictures with caption, label and mean brightness."""
    pictures = folder / name
    pictures.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["image", "caption", "label", "number"])
        for row in rows:
            picture = samples.read(row, "image")
            picture.save(pictures / f"{row}.png")
            label, brightness = f"group {samples.labels[row]}", np.asarray(picture).mean() / 255
            table.writerow([f"{name}/{row}.png", samples.read(row, "text"), label, f"{brightness:.4f}"])


def measure(folder: Path, task: str, budget: str, seed: int) -> float:
    """Train once and return the metric on the test table."""
    _, metric, own = TASKS[task]
    run = folder / "runs" / f"{task}-{list(BUDGETS).index(budget)}-{seed}"
    data = ("data=table", f"data.train={folder / task}.csv", f"data.test={folder / task}_test.csv")
    words = (*OFFLINE, *data, *own, *BUDGETS[budget], f"seed={seed}", f"hydra.run.dir={run}")
    if not (run / "metrics.json").is_file():
        subprocess.run([sys.executable, "-m", "mmexp", "train", *words], check=True, stdout=subprocess.DEVNULL)
    return json.loads((run / "metrics.json").read_text(encoding="utf-8"))[metric]


def main() -> None:
    """Write the tables, train, print mean and range over seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    splits = emoji().splits
    for task, (rows, metric, _) in TASKS.items():
        groups = np.bincount(splits["test"].labels).argsort()[::-1]
        labels = groups if task == "pairs" else groups[:CLASSES]
        write(asked.folder, task, splits["train"], chosen(splits["train"], rows, labels))
        write(asked.folder, f"{task}_test", splits["test"], chosen(splits["test"], TEST_ROWS, labels))
        for budget in BUDGETS:
            found = [measure(asked.folder, task, budget, seed) for seed in range(asked.seeds)]
            print(
                f"{task:<8} {metric:<22} {budget:<22} {mean(found):.3f} ({min(found):.3f} to {max(found):.3f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
