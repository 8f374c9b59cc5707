"""What a finished run's model costs where it is used: latency, throughput, size. Measured then and there."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mmexp import build
from mmexp.compression.packing import packed, size
from mmexp.compression.quantizing import left_whole
from mmexp.data.loaders import evaluation_loader
from mmexp.data.loading import Loading
from mmexp.types import Batch

REPEATS, WARM_UP, BATCH = 50, 5, 64  # calls that are timed, calls before them, rows of a batch


def inference_facts(directory: Path) -> dict[str, Any]:
    """Return `latency_ms` of embedding one prepared row of each modality (p50, p95), `rows_per_second` and size.

    Rows are those of an evaluation set, prepared beforehand; a batch holds `BATCH` rows or all there are, in all modalities.
    The adapter is merged. Megabytes (10^6 bytes) are those of the tensors of model and embedding head as they are stored,
    `weights` the number of these.
    """
    model, heads = build.restore(directory)
    head = next((head for head in heads.values() if hasattr(head, "embed")), nn.Identity())
    nn.ModuleDict({"model": model, "head": head}).eval()
    show: Any = getattr(head, "embed", head)
    splits = build.data_source(build.run_config(directory)).splits
    samples = splits["test"] if "test" in splits else splits["val"]
    one, batch = (next(iter(evaluation_loader(samples, model.encoders, Loading(rows)))) for rows in (1, BATCH))

    def embed(inputs: Batch) -> None:
        show(model.encode(inputs))

    with torch.inference_mode():
        latencies = {name: _milliseconds(embed, {name: one[name]}) for name in model.encoders}
        together = _milliseconds(embed, batch)
    count, stored = _size(directory)
    return {
        "weights": count,
        "latency_ms": latencies,
        "rows_per_second": round(1000 * len(batch["index"]) / together["p50"], 1),
        "megabytes": round(stored / 1e6, 3),
    }


def _milliseconds(embed: Callable[[Batch], None], inputs: Batch) -> dict[str, float]:
    """Return median and 95th percentile of the time that one call takes."""
    times = []
    for _ in range(WARM_UP + REPEATS):
        began = time.perf_counter()
        embed(inputs)
        times.append(1000 * (time.perf_counter() - began))
    p50, p95 = np.percentile(times[WARM_UP:], [50, 95])
    return {"p50": round(float(p50), 3), "p95": round(float(p95), 3)}


def _size(directory: Path) -> tuple[int, int]:
    """Return how many weights model and embedding head have, and the bytes that they take as they are stored."""
    model, heads = build.restore(directory, computing=False)
    head = next((head for head in heads.values() if hasattr(head, "embed")), nn.Identity())
    whole = nn.ModuleDict({"model": model, "head": head})
    how = (build.run_config(directory).get("compression") or {}).get("quantize")
    state = whole.state_dict()
    if how:
        chosen = build.chosen_layers(directory, how)
        state = packed(state, how, {f"model.{name}" for name in left_whole(model, how, chosen)})
    return sum(p.numel() for p in whole.parameters()), size(state)
