"""One loss of one batch, forward and backward: seconds and the megabytes that the peak of memory rose by, as JSON."""

import json
import resource
import sys
import time

import torch
from torch.nn import functional as F

from mmexp.objectives.tiles import Right, tiled_info_nce, tiled_sigmoid_loss


def main(kind: str, rows: int) -> None:
    """Measure; one small pass before brings in what the libraries load late."""
    _pass(kind, 64)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = min(_pass(kind, rows) for _ in range(1 if rows > 20000 else 3))
    risen = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"seconds": seconds, "MB": risen / 1024}))


def _pass(kind: str, rows: int) -> float:
    torch.manual_seed(0)
    image, text = (F.normalize(torch.randn(rows, 256), dim=-1).requires_grad_() for _ in range(2))
    scale, bias = torch.tensor(14.3, requires_grad=True), torch.tensor(-10.0, requires_grad=True)
    content = {"concept": torch.arange(rows)[:, None], "share": torch.ones(rows, 1)}
    began = time.perf_counter()
    if kind == "whole":
        from open_clip.loss import ClipLoss

        loss = ClipLoss()(image, text, scale)
    elif kind == "tiled":
        loss = tiled_info_nce(image, text, scale, Right(content, content), both_ways=True)
    else:
        loss = tiled_sigmoid_loss(image, text, scale, bias, Right(content, content, wholly=True))
    loss.backward()
    return time.perf_counter() - began


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
