"""Learned logit scales: bounded by clamping the parameter after each step, so that a gradient can always bring them back."""

from math import log

import pytest
import torch
from stand_ins import TinyImage, TinyText, batch_of, views_of

from mmexp.fusion.none import NoFusion
from mmexp.model import Model
from mmexp.objectives.contrastive import Contrastive
from mmexp.objectives.prompted import Prompted
from mmexp.objectives.siglip import SigLip
from mmexp.shapes import Supervision
from mmexp.tasks.base import Task

CLASSES = Supervision(classes=("red", "green", "blue"), counts=(3, 3, 2))


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = Model({"image": TinyImage(), "text": TinyText()}, NoFusion({}))
    model.encoders["text"].word_dim = 12
    return model


def bounded(model: Model) -> list:
    """Return every objective with a learned logit scale, and that parameter, each bounded at 100."""
    contrastive = Contrastive(model.shape())
    siglip = SigLip(model.shape(), max_scale=100.0)
    prompted = Prompted(model.shape(num_classes=3, supervision=CLASSES), context_length=0, train_space=True)
    return [(contrastive, contrastive.log_scale), (siglip, siglip.log_scale), (prompted, prompted.space.log_scale)]


def test_beyond_the_limit_the_gradient_is_not_zero_and_the_step_ends_at_the_limit(model):
    for objective, log_scale in bounded(model):
        with torch.no_grad():
            log_scale.fill_(log(110))
        loss = sum(objective(views_of(model, batch_of())).losses.values())
        (gradient,) = torch.autograd.grad(loss, log_scale)
        # Random vectors and a scale of 110: a smaller scale is better.
        assert gradient > 0, type(objective)
        objective.clamp_parameters()
        assert log_scale.exp().item() == pytest.approx(100, rel=1e-5)


def test_a_temperature_below_the_limit_starts_at_the_limit(model):
    assert Contrastive(model.shape(), temperature=0.001).log_scale.exp().item() == pytest.approx(100, rel=1e-5)
    assert SigLip(model.shape(), temperature=0.001).log_scale.exp().item() == pytest.approx(1000, rel=1e-5)


def test_a_frozen_scale_stays_as_it_was_loaded(model):
    contrastive = Contrastive(model.shape())
    contrastive.log_scale.requires_grad_(False).fill_(log(117))
    contrastive.clamp_parameters()
    assert contrastive.log_scale.exp().item() == pytest.approx(117, rel=1e-5)


@pytest.mark.parametrize(
    "more",
    [(), ("task=self_distill", "objective=[contrastive,distill]", "average.decay=0.9", "hardware.micro_batch_size=4")],
)
def test_a_run_leaves_the_limit_inwards_and_never_passes_it(mmexp, monkeypatch, more):
    scales = []
    taken = Task.training_step

    def step(task: Task, *arguments):
        scale = task.objectives["contrastive"].log_scale
        scales.append(scale.item())
        # The gradient points inwards in the first steps (a smaller scale is better), then far outwards.
        return taken(task, *arguments) - (100.0 * scale if len(scales) > 3 else 0.0)

    monkeypatch.setattr(Task, "training_step", step)
    small = (
        "fusion=none",
        "objective=contrastive",
        "encoder.image.options.depth=1",
        "encoder.text.depth=1",
        "data.styles=[blob]",
        *more,
    )
    how = ("budget.steps=8", "data.batch_size=8", "evaluate=false", "optimizer.lr=0.05", "schedule=constant")
    # So that the outward gradient outweighs the moments of the first steps.
    how = (*how, "optimizer.clip_norm=null")
    status, _, complaint = mmexp("train", *small, *how, "objective.contrastive.temperature=0.001")
    assert status == 0, complaint
    assert scales[0] == pytest.approx(log(100), rel=1e-6)
    assert scales[1] < scales[0] - 0.01
    assert scales[-1] == scales[0] == max(scales)
