"""The moving average of the weights: its recurrence, what is measured and kept of it, and a run that goes on."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from test_resume import left_by, same, train, train_until

from mmexp.tasks.base import Task
from mmexp.training.average import TRAINED
from mmexp.weights import read_weights

COMMON = ("hydra.run.dir=run", "average.decay=0.8", "optimizer.lr=0.02", "checkpoint.validate_every_epochs=1")


def recorded(monkeypatch) -> dict[int, dict[str, torch.Tensor]]:
    """Return, as a run fills them in, the weights that each step began with."""
    seen: dict[int, dict[str, torch.Tensor]] = {}
    taken = Task.training_step

    def step(task: Task, *arguments):
        seen[task.global_step] = {name: p.detach().clone() for name, p in task.named_parameters()}
        return taken(task, *arguments)

    monkeypatch.setattr(Task, "training_step", step)
    return seen


def test_the_average_follows_its_recurrence_and_the_weights_train_on_as_without_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patched:
        weights = recorded(patched)
        train(patched, *COMMON, "evaluate=false")
    last = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    weights[21] = last[TRAINED]
    assert len(weights) == 22
    for name, weight in last[TRAINED].items():
        average = weights[0][name]
        for step in range(1, 22):
            decay = min(0.8, (1 + step) / (10 + step))
            average = decay * average + (1 - decay) * weights[step][name]
        assert torch.allclose(last["state_dict"][name], average, atol=1e-6), name
        assert not torch.allclose(average, weight), name
    train(monkeypatch, *COMMON, "average.decay=null", "hydra.run.dir=plain", "evaluate=false")
    plain = torch.load("plain/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert same(plain, last["state_dict"] | last[TRAINED])


def test_what_is_measured_is_the_average_and_the_best_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    measured = []

    def measuring(task: Task, *arguments, taken=Task.validation_step):
        measured.append({name: p.detach().clone() for name, p in task.named_parameters()})
        return taken(task, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Task, "validation_step", measuring)
        patched.setattr(Task, "test_step", measuring)
        train(patched, *COMMON)
    best = torch.load("run/checkpoints/best.ckpt", weights_only=True)
    # After training the best is measured.
    assert all(torch.equal(measured[-1][name], best["state_dict"][name]) for name in best[TRAINED])
    assert any(all(torch.equal(one[name], best["state_dict"][name]) for name in best[TRAINED]) for one in measured[:-1])
    final = json.loads(Path("run/metrics.json").read_text())
    # Whoever starts from the run starts from the average.
    assert same(read_weights(Path("run/checkpoints/best.ckpt")), best["state_dict"])
    train(monkeypatch, "train=false", "init_from=run", "hydra.run.dir=again")
    again = json.loads(Path("again/metrics.json").read_text())
    assert again["test/loss"] == pytest.approx(final["test/loss"], abs=1e-6)


def test_a_run_with_an_average_goes_on_from_any_step(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(monkeypatch, *COMMON)
    whole = left_by(Path("run").rename("whole"))
    for step in (1, 9, 14, 20):
        train_until(monkeypatch, step, *COMMON)
        train(monkeypatch, *COMMON, "resume=auto")
        resumed = left_by(Path("run"))
        for part in ("state_dict", TRAINED, "optimizer_states", "global_step"):
            assert same(whole[0][part], resumed[0][part]), (step, part)
        assert resumed[1:] == whole[1:], step
        shutil.rmtree("run")


def test_only_what_is_trained_is_averaged_and_a_teacher_of_its_own_follows_the_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(monkeypatch, "hydra.run.dir=base", "evaluate=false")
    adapted = ("adapter=lora", "init_from=base", "task=finetune", "evaluate=false")
    train(monkeypatch, *COMMON, *adapted, "hydra.run.dir=lora")
    names = torch.load("lora/checkpoints/last.ckpt", weights_only=True)[TRAINED].keys()
    assert any("lora_A" in name for name in names)
    assert not [name for name in names if "base_layer" in name]
    taught = ("task=self_distill", "objective=[contrastive,matching,distill]", "evaluate=false")
    train(monkeypatch, *COMMON, *taught, "hydra.run.dir=taught")
    train(monkeypatch, *COMMON, *taught, "average.decay=null", "hydra.run.dir=alone")
    one, other = (torch.load(f"{run}/checkpoints/last.ckpt", weights_only=True) for run in ("taught", "alone"))
    assert same(one["state_dict"] | one[TRAINED], other["state_dict"])
    assert not [name for name in one[TRAINED] if name.startswith("teacher.")]
