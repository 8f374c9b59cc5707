"""LoRA by the transformers library's Trainer and peft on the pictures of a table: samples a second after a warm-up, as JSON.

python peft_pictures.py TABLE LAYERS STEPS plain|fast TOP

A ViT of width 192 with patches of 8 pixels and so many layers, of which the TOP ones have LoRA. Pixels are prepared beforehand.
`plain` are the defaults, `fast` is bf16.
"""

import csv
import json
import sys
import tempfile

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from peft_trainer import BATCH, WARM_UP, Clock
from PIL import Image
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification


def main(table: str, layers: int, steps: int, how: str, top: int) -> None:
    """Train."""
    with open(table) as file:
        rows = list(csv.DictReader(file))
    pixels = [np.asarray(Image.open(row["filepath"]).convert("RGB"), np.float32) / 127.5 - 1 for row in rows]
    ready = [torch.from_numpy(one).permute(2, 0, 1).contiguous() for one in pixels]
    data = [{"pixel_values": one, "labels": int(row["label"])} for one, row in zip(ready, rows, strict=True)]
    size = {"hidden_size": 192, "num_hidden_layers": layers, "num_attention_heads": 3, "intermediate_size": 768}
    config = ViTConfig(image_size=pixels[0].shape[0], patch_size=8, num_labels=3, **size)
    chosen = "|".join(map(str, range(layers - top, layers)))
    # All linear layers of these blocks, as ours.
    names = [name for name, part in ViTForImageClassification(config).named_modules() if type(part) is torch.nn.Linear]
    targets = [name for name in names if any(f".{number}." in name for number in chosen.split("|"))]
    model = get_peft_model(ViTForImageClassification(config), LoraConfig(r=8, lora_alpha=16, target_modules=targets))
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
        Trainer(model, told, train_dataset=data, callbacks=[clock]).train()
    seconds = clock.times[-1] - clock.times[WARM_UP - 1]
    print(json.dumps({"samples/s": BATCH * steps / seconds}))


if __name__ == "__main__":
    torch.manual_seed(0)
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
