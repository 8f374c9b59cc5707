"""What a run says before it begins."""

from functools import partial
from types import SimpleNamespace
from typing import Any

from mmexp.facts import started, warm_up
from mmexp.hints import pretrained_hint
from mmexp.training.optimizer import constant, cosine


def test_what_no_encoder_reads_is_told():
    encoders = {name: SimpleNamespace(modality=name) for name in ("image", "text")}
    task = SimpleNamespace(model=SimpleNamespace(encoders=encoders))
    experiment: Any = SimpleNamespace(
        train=SimpleNamespace(dataset=()),
        loaded=None,
        continuation=None,
        towers={},
        heads={},
        resting=[],
        task=task,
        source=None,
    )
    experiment.source = SimpleNamespace(modalities=["image", "text", "audio", "video"], notes=())
    assert started(experiment) == ["in the data, and read by no encoder: audio, video"]
    experiment.source.modalities = ["image", "text"]
    assert started(experiment) == []


def test_a_warm_up_is_a_tenth_of_a_short_run_and_one_that_is_longer_than_the_run_is_told():
    assert warm_up(cosine, 8) == ""
    assert warm_up(cosine, 100) == ", warm-up 10"
    assert warm_up(cosine, 2000) == ", warm-up 50"
    assert warm_up(constant, 100) == ""
    told = warm_up(partial(cosine, warmup_steps=50), 8)
    assert "reaches 15.7% of optimizer.lr" in told and "schedule.warmup_steps" in told


def test_few_rows_and_random_towers_give_a_hint():
    model = SimpleNamespace(encoders={"image": 1, "text": 2})
    experiment: Any = SimpleNamespace(loaded=None, towers={}, task=SimpleNamespace(model=model))
    experiment.source = SimpleNamespace(splits={"train": range(357)})
    config = {"train": True, "teacher": None}
    assert "encoder=offline adapter=frozen" in str(pretrained_hint(experiment, config))
    assert pretrained_hint(experiment, config | {"train": False}) is None
    experiment.towers = {"image": "mobilenetv2"}
    assert pretrained_hint(experiment, config) is None
    experiment.towers, experiment.source.splits = {}, {"train": range(9000)}
    assert pretrained_hint(experiment, config) is None
