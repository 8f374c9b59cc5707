"""What no loss reaches is not trained, and said to be so."""

import pytest
import torch
from command_line import mmexp_here
from stand_ins import TinyImage, TinyText, batch_of
from torch import nn

from mmexp.balance.fixed import Fixed
from mmexp.build.resting import rest_unreached
from mmexp.fusion.none import NoFusion
from mmexp.model import Model
from mmexp.objectives.contrastive import Contrastive
from mmexp.objectives.mae import Mae
from mmexp.tasks.pretrain import Pretrain
from mmexp.training.optimizer import adam, constant


class Rows:
    """Two rows, of which the first lacks its picture."""

    def __init__(self):
        self.batch = batch_of(2) | {"present": {"image": torch.tensor([False, True])}}

    def __len__(self):
        return 2

    def __getitems__(self, places):
        return dict(self.batch)


def task_of(objective, image: nn.Module | None = None) -> Pretrain:
    model = Model({"image": image or TinyImage(), "text": TinyText()}, NoFusion({}))
    return Pretrain(model, {"one": objective(model.shape())}, {"one": 1.0}, Fixed(), adam, constant)


def test_a_tower_that_no_loss_reaches_rests():
    task, rows = task_of(Mae), Rows()
    before = torch.get_rng_state()
    assert rest_unreached(task, rows) == ["text"]
    assert not any(p.requires_grad for p in task.model.encoders["text"].parameters())
    assert any(p.requires_grad for p in task.model.encoders["image"].parameters())
    assert torch.equal(before, torch.get_rng_state())


def test_what_a_loss_reaches_is_trained_but_for_single_weights_that_none_does():
    image = TinyImage()
    image.left_out = nn.Parameter(torch.zeros(1))
    task = task_of(Contrastive, image)
    assert rest_unreached(task, Rows()) == []
    assert [name for name, p in task.named_parameters() if not p.requires_grad] == ["model.encoders.image.left_out"]


def test_what_a_balance_learns_goes_on():
    task = task_of(Contrastive)
    task.balance = nn.ParameterDict({"weights": nn.Parameter(torch.zeros(1))})
    rest_unreached(task, Rows())
    assert task.balance.weights.requires_grad


@pytest.mark.parametrize(("objective", "told"), [("mae", True), ("contrastive", False)])
def test_a_run_says_what_it_does_not_train(tmp_path, objective, told):
    asked = ("fusion=none", f"objective={objective}", "budget.steps=1", "data.batch_size=8", "evaluate=false")
    done = mmexp_here("train", *asked, "data.styles=[blob]", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert ("not trained, since no loss depends on it: text" in done.stdout) == told
