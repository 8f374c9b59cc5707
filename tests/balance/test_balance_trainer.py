"""Balances under a Lightning trainer: resuming, clipping."""

from functools import partial

import lightning as L
import pytest
import torch
from stand_ins import TinyImage, TinyText, batch_of

from mmexp.balance.dwa import DWA
from mmexp.balance.famo import FAMO
from mmexp.balance.gradnorm import GradNorm
from mmexp.balance.pcgrad import PCGrad
from mmexp.balance.uncertainty import Uncertainty
from mmexp.fusion.concat import ConcatFusion
from mmexp.model import Model
from mmexp.objectives.contrastive import Contrastive
from mmexp.objectives.masked import Masked
from mmexp.objectives.matching import Matching
from mmexp.tasks.pretrain import Pretrain
from mmexp.training.groups import parameter_groups
from mmexp.training.optimizer import adamw, constant, sgd

OBJECTIVES = {"contrastive": Contrastive, "matching": Matching, "masked": Masked}


def by_adamw(task):
    return adamw(parameter_groups(task), lr=1e-2)


def by_plain_sgd(task):
    return sgd(parameter_groups(task), lr=1.0, momentum=0.0, weight_decay=0.0)


def train(balance, steps: int, path, resume=None, optimizer=by_adamw, **options) -> dict[str, torch.Tensor]:
    """Train to `steps` on the same batch again and again; return everything that the checkpoint holds of the task."""
    torch.manual_seed(0)
    model = Model({"image": TinyImage(), "text": TinyText()}, ConcatFusion({"image": 16, "text": 12}, dim=8, hidden=8))
    objectives = {name: objective(model.shape()) for name, objective in OBJECTIVES.items()}
    weights = {"contrastive": 1.0, "matching": 0.5, "masked": {"from": 0.0, "to": 1.0}}
    task = Pretrain(model, objectives, weights, balance(), optimizer, constant, total_steps=8)
    trainer = L.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    loader = torch.utils.data.DataLoader([batch_of()], batch_size=None)
    trainer.fit(task, loader, ckpt_path=resume, weights_only=True)
    trainer.save_checkpoint(path)
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "balance",
    [partial(FAMO, 4), partial(DWA, 4, every=3), partial(GradNorm, 4), partial(Uncertainty, 4)],
    ids=["famo", "dwa", "gradnorm", "uncertainty"],
)
def test_resume_is_exact(balance, tmp_path):
    whole = train(balance, 8, tmp_path / "whole.ckpt")
    train(balance, 4, tmp_path / "half.ckpt")
    resumed = train(balance, 8, tmp_path / "resumed.ckpt", resume=tmp_path / "half.ckpt")
    kept = [name for name in whole if name.startswith("balance.")]
    assert any(not torch.equal(whole[name], tensor) for name, tensor in balance().state_dict(prefix="balance.").items())
    assert kept
    assert all(torch.allclose(tensor, resumed[name], 0, 0, equal_nan=True) for name, tensor in whole.items())


@pytest.mark.filterwarnings("ignore")
def test_what_a_balance_makes_of_the_gradients_is_clipped(tmp_path):
    start = train(PCGrad, 0, tmp_path / "start.ckpt", optimizer=by_plain_sgd)
    moved = train(PCGrad, 1, tmp_path / "moved.ckpt", optimizer=by_plain_sgd, gradient_clip_val=0.01)
    length = torch.stack([(moved[name] - tensor).norm() for name, tensor in start.items()]).norm()
    assert length.item() == pytest.approx(0.01, rel=1e-3)
