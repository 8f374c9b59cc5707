"""LoRA by the transformers library's Trainer and peft on the texts of a table: samples a second after a warm-up, as JSON.

    python peft_trainer.py MODEL TABLE STEPS plain|fast [LAYERS]

`plain` are the defaults, texts padded to the longest there may be; `fast` is bf16 with texts padded to the longest of a batch.
LAYERS are those, from the top, that have LoRA; without it all have.
"""

import csv
import json
import sys
import tempfile
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)

WARM_UP, BATCH, LONGEST = 3, 32, 64


class Clock(TrainerCallback):
    """Notes when each step ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *_: object, **__: object) -> None:
        """Note it."""
        self.times.append(time.perf_counter())


def main(name: str, table: str, steps: int, how: str, layers: int | None) -> None:
    """Train."""
    tokenizer = AutoTokenizer.from_pretrained(name)
    with open(table) as file:
        rows = list(csv.DictReader(file))
    padded = {"padding": "max_length"} if how == "plain" else {}
    texts = [tokenizer(row["text"], truncation=True, max_length=LONGEST, **padded) for row in rows]
    data = [{**text, "labels": int(row["label"] == "that")} for text, row in zip(texts, rows, strict=True)]
    model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=2)
    depth = model.config.num_hidden_layers
    top = None if layers is None else list(range(depth - layers, depth))
    targets = ["query", "key", "value", "dense"]
    if top is not None:
        targets = rf".*layer\.({'|'.join(map(str, top))})\..*({'|'.join(targets)})"
    model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=targets, task_type="SEQ_CLS"))
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        told = TrainingArguments(
            folder,
            per_device_train_batch_size=BATCH,
            max_steps=steps + WARM_UP,
            use_cpu=True,
            bf16=how == "fast",
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        )
        collate = default_data_collator if how == "plain" else DataCollatorWithPadding(tokenizer)
        Trainer(model, told, train_dataset=data, data_collator=collate, callbacks=[clock]).train()
    seconds = clock.times[-1] - clock.times[WARM_UP - 1]
    print(json.dumps({"samples/s": BATCH * steps / seconds}))


if __name__ == "__main__":
    torch.manual_seed(0)
    main(*sys.argv[1:3], int(sys.argv[3]), sys.argv[4], int(sys.argv[5]) if len(sys.argv) > 5 else None)
