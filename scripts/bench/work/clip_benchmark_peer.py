"""clip-benchmark's retrieval on a table `filepath,title`, with an open_clip model.

python clip_benchmark_peer.py MODEL TABLE fp32|bf16
"""

import csv
import sys
from typing import Any

import open_clip
import torch
from clip_benchmark.datasets.builder import image_captions_collate_fn
from clip_benchmark.metrics import zeroshot_retrieval
from PIL import Image
from torch.utils.data import DataLoader, Dataset


class Table(Dataset):
    """Pictures as open_clip wants them, each with its captions."""

    def __init__(self, file: str, transform: Any):
        with open(file) as rows:
            self.rows, self.transform = list(csv.DictReader(rows)), transform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> tuple[Any, list[str]]:
        one = self.rows[row]
        return self.transform(Image.open(one["filepath"])), [one["title"]]


if __name__ == "__main__":
    name, table, precision = sys.argv[1:]
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{name}")
    loader = DataLoader(Table(table, transform), batch_size=64, num_workers=2, collate_fn=image_captions_collate_fn)
    tokenizer = open_clip.get_tokenizer(f"local-dir:{name}")
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        found = zeroshot_retrieval.evaluate(
            model.eval(), loader, tokenizer, "cpu", amp=precision == "bf16", recall_k_list=[1, 5, 10]
        )
    print(found)
