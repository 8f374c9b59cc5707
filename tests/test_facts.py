"""What a run says before it begins."""

from types import SimpleNamespace
from typing import Any

from mmexp.facts import started


def test_what_no_encoder_reads_is_told():
    task = SimpleNamespace(model=SimpleNamespace(encoders={"image": 1, "text": 2}))
    experiment: Any = SimpleNamespace(loaded=None, towers={}, resting=[], task=task, source=None)
    experiment.source = SimpleNamespace(modalities=["image", "text", "audio", "video"])
    assert started(experiment) == ["in the data, and read by no encoder: audio, video"]
    experiment.source.modalities = ["image", "text"]
    assert started(experiment) == []
