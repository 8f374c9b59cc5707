"""What counts as trained, as refused, and as a fault."""

import pytest
import torch
from stand_ins import TinyImage, TinyText, batch_of
from torch import nn

from mmexp.balance.fixed import Fixed
from mmexp.fusion.concat import ConcatFusion
from mmexp.matrix.trying import Fault, attempt, two_steps
from mmexp.model import Model
from mmexp.objectives.matching import Matching
from mmexp.tasks.pretrain import Pretrain
from mmexp.training.groups import parameter_groups
from mmexp.training.optimizer import adam, constant


def task_of(image: nn.Module) -> Pretrain:
    torch.manual_seed(0)
    encoders = {"image": image, "text": TinyText()}
    model = Model(encoders, ConcatFusion({"image": 16, "text": 12}, dim=8, hidden=8))
    heads = {"matching": Matching(model.shape())}
    return Pretrain(model, heads, {"matching": 1.0}, Fixed(), lambda task: adam(parameter_groups(task)), constant)


def test_two_steps_that_are_as_they_should_be():
    assert len(two_steps(task_of(TinyImage()), batch_of())) == 2


def test_a_trained_weight_without_a_gradient_is_a_fault():
    image = TinyImage()
    image.left_out = nn.Parameter(torch.zeros(1))
    with pytest.raises(Fault, match=r"without a gradient: model\.encoders\.image\.left_out"):
        two_steps(task_of(image), batch_of())


def test_a_frozen_encoder_whose_statistics_move_is_a_fault():
    class Moving(TinyImage):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))
            self.requires_grad_(False)

        def forward(self, prepared):
            self.seen += 1
            return super().forward(prepared)

    with pytest.raises(Fault, match=r"frozen, and changed: image\.seen"):
        two_steps(task_of(Moving()), batch_of())


def test_a_loss_that_is_not_finite_is_a_fault():
    task = task_of(TinyImage())
    task.weights = {"matching": float("inf")}
    with pytest.raises(Fault, match="not finite"):
        two_steps(task, batch_of())


def test_a_wrong_request_is_refused_with_its_reason(tmp_path):
    outcome = attempt({}, ["fusion=none", "objective=matching"], tmp_path)
    assert outcome.kind == "refused"
    assert "needs a fused output" in outcome.told
