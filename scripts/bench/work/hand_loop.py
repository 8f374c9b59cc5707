"""The loop that a person would write around the same model, rows and optimizer: milliseconds of a step, as JSON.

python hand_loop.py STEPS [OVERRIDES of mmexp train]
"""

import json
import sys
import time
from pathlib import Path

import torch
from torch.nn import functional as F

from mmexp.compose import compose, resolved
from mmexp.experiment import prepare
from mmexp.request import Request
from mmexp.training.groups import parameter_groups

WARM_UP = 3


def main(steps: int, overrides: list[str]) -> None:
    """Let mmexp build the parts, and train them without it."""
    config, choices = resolved(compose(overrides))
    parts = prepare(Request(config, Path("unused"), choices, overrides))
    model, head = parts.task.model, parts.task.objectives["contrastive"]
    optimizer = torch.optim.AdamW(parameter_groups(parts.task), lr=1e-3, betas=(0.9, 0.98), eps=1e-6, fused=True)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    dtype = torch.bfloat16 if "bf16" in str(parts.trainer.precision) else torch.float32
    for number, batch in zip(range(WARM_UP + steps), parts.train, strict=False):
        if number == WARM_UP:
            began = time.perf_counter()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            image, text = head.embed(model.encode(batch)).values()
        logits = head.log_scale.exp() * image @ text.T
        right = torch.arange(len(logits))
        loss = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
    print(json.dumps({"ms": 1000 * (time.perf_counter() - began) / steps}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
