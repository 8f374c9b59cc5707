"""Methods against forgetting: formulas, gradients, and what is kept."""

import pytest
import torch
from stand_ins import TinyImage, TinyText, batch_of
from torch import nn
from torch.nn import functional as F

from mmexp.adapters.lora import Lora
from mmexp.continual.adapters import Adapters
from mmexp.continual.ewc import EWC, fisher_diagonal
from mmexp.continual.lwf import LwF, divergence
from mmexp.fusion.none import NoFusion
from mmexp.model import Model
from mmexp.objectives.classify import Classify
from mmexp.objectives.contrastive import Contrastive
from mmexp.tasks.continual import Learner


def learner_of(seed: int = 0) -> Learner:
    torch.manual_seed(seed)
    model = Model({"image": TinyImage(), "text": TinyText()}, NoFusion({}))
    shape = model.shape(3)
    heads = {"contrastive": Contrastive(shape, embed_dim=8), "classify": Classify(shape, source="image")}
    return Learner(model, heads, {"contrastive": 1.0, "classify": 0.5})


def moved(learner: Learner) -> None:
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter += 0.1 * torch.randn_like(parameter)


def test_fisher_of_single_rows_is_the_closed_form_of_logistic_regression():
    torch.manual_seed(0)
    x, y, weight = torch.randn(20, 4), torch.randint(2, (20,)).float(), nn.Parameter(torch.randn(4))
    rows = [(x[i : i + 1], y[i : i + 1]) for i in range(20)]
    found = fisher_diagonal(
        {"weight": weight}, lambda b: F.binary_cross_entropy_with_logits(b[0] @ weight, b[1]), rows, 1
    )
    residual = (x @ weight).sigmoid().detach() - y
    assert torch.allclose(found["weight"], (residual[:, None] * x).square().mean(0), atol=1e-6)


def test_fisher_of_batches_estimates_that_of_rows_where_the_mean_gradient_is_zero():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.zeros(3))
    noise = torch.randn(400, 16, 3)  # the score of each row at the optimum
    found = fisher_diagonal({"weight": weight}, lambda batch: (batch @ weight).mean(), noise, 16)
    assert torch.allclose(found["weight"], torch.ones(3), atol=0.25)


def test_the_penalty_of_ewc_and_its_gradient_are_those_of_the_formula():
    learner, method = learner_of(), EWC(strength=3.0, decay=0.5, rows=4, batches=2)
    batches = [batch_of(4, seed) for seed in range(2)]
    for number in range(2):
        method.finish(number, learner, lambda rows, count: batches)
    once = fisher_diagonal(dict(learner.named_parameters()), learner.loss, batches, 4)
    anchor = {name: parameter.detach().clone() for name, parameter in learner.named_parameters()}
    views = learner.again(batches[0])
    assert method.losses(learner, views)["ewc"] == 0
    moved(learner)
    loss = method.losses(learner, views)["ewc"]
    loss.backward()
    expected = 0.0
    for name, parameter in learner.named_parameters():
        away = parameter.detach() - anchor[name]
        fisher = 1.5 * once[name]  # the second task's, and half of the first one's
        assert torch.allclose(parameter.grad, 3.0 * fisher * away, atol=1e-6), name
        expected += float((1.5 * fisher * away.square()).sum())
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_divergence_is_torchs_and_its_gradient_that_of_distillation():
    torch.manual_seed(0)
    ours, theirs = torch.randn(5, 4, requires_grad=True), torch.randn(5, 4)
    loss = divergence(ours, theirs, 2.0)
    p, q = (ours / 2).softmax(-1), (theirs / 2).softmax(-1)
    assert torch.allclose(loss, 4 * (q * (q.log() - p.log())).sum(-1).mean())
    loss.backward()
    assert torch.allclose(ours.grad, 2 * (p - q).detach() / 5, atol=1e-6)


def test_lwf_holds_on_to_the_model_before_the_task():
    learner, method, batch = learner_of(), LwF(), batch_of()
    method.begin(1, learner)
    said = {name: tensor.detach() for name, tensor in learner.said(learner.again(batch)).items()}
    assert set(said) == {"vector/image", "vector/text", "scale", "logits/classify"}
    assert method.losses(learner, learner.again(batch))["lwf"].item() == pytest.approx(0, abs=1e-5)
    moved(learner)
    loss = method.losses(learner, learner.again(batch))["lwf"]
    now = learner.said(learner.again(batch))
    # By hand: temperature 2, so that each divergence counts 4 times; cosines are multiplied by each model's own scale.
    expected = 0.0
    for share, one, other in ((0.5, "image", "text"), (0.5, "text", "image"), (1.0, None, None)):
        logits = [
            s["scale"] * s[f"vector/{one}"] @ s[f"vector/{other}"].T if one else s["logits/classify"]
            for s in (now, said)
        ]
        for ours, theirs in zip(*(rows.double() / 2 for rows in logits), strict=True):
            p, q = (row.exp() / row.exp().sum() for row in (ours, theirs))
            expected += share * 4 * float((q * (q / p).log()).sum()) / len(logits[0])
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    # Without softened logits' own scale this was a hundredth as much.
    assert loss.item() > 0.01
    # A run that goes on has the same model before it.
    resumed = LwF()
    resumed.load_state_dict(method.state_dict())
    assert resumed.losses(learner, learner.again(batch))["lwf"].item() == pytest.approx(loss.item(), rel=1e-6)


def test_each_task_is_measured_with_its_own_layers_and_heads():
    learner, method = learner_of(), Adapters(adapter=Lora())
    layer = nn.Linear(2, 2)  # stands for a low-rank layer
    learner.model.encoders["image"].mix.lora_A = layer
    method.open(0, learner)
    assert not layer.weight.requires_grad and learner.model.encoders["text"].mix.weight.requires_grad
    method.finish(0, learner, None)
    method.open(1, learner)
    assert layer.weight.requires_grad and not learner.model.encoders["text"].mix.weight.requires_grad
    head = learner.objectives["classify"].head.weight
    assert head.requires_grad
    first = head.detach().clone()
    with torch.no_grad():
        head += 1
    method.measure(1, learner)
    method.look(0, 1, learner)
    assert torch.equal(head, first)
    method.look(2, 1, learner)
    assert torch.equal(head, first + 1)
    method.begin(2, learner)
    assert torch.equal(head, first)
