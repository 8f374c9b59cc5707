"""Where time or FLOPs end a run: when it stops, what the schedule makes of it, what is recorded."""

import csv
import json
import os
from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from command_line import mmexp
from lightning.pytorch.callbacks import Callback
from stand_ins import TinyImage, TinyText, batch_of
from torch import nn

from mmexp.fusion.none import NoFusion
from mmexp.model import Model
from mmexp.objectives.contrastive import Contrastive
from mmexp.pace import Pace
from mmexp.tasks.flops import flop_counter
from mmexp.tasks.pretrain import Pretrain
from mmexp.training import progress
from mmexp.training.cost import step_cost
from mmexp.training.groups import parameter_groups
from mmexp.training.optimizer import cosine, linear, sgd
from mmexp.training.progress import Stopwatch

TESTS = Path(__file__).parents[1]
RUN = (
    *(
        "train",
        "--config-dir",
        str(TESTS / "outside" / "conf"),
        "trust=[outside,stand_ins]",
        "encoder=tiny",
        "data=squares",
        "fusion=none",
    ),
    *("objective=contrastive", "hardware.threads=1", "evaluate=false", "log_every_steps=1", "budget.epochs=null"),
)


def plain_sgd(task):
    return sgd(parameter_groups(task), lr=1.0)


class Clock(Callback):
    """Time stands still but for a second that each step takes, and a hundred for a validation or a checkpoint."""

    def __init__(self, monkeypatch):
        self.time = 0.0
        monkeypatch.setattr(progress.time, "perf_counter", lambda: self.time)

    def on_before_optimizer_step(self, trainer, task, optimizer):
        self.time += 1

    def on_validation_epoch_end(self, trainer, task):
        self.time += 100

    def on_save_checkpoint(self, trainer, task, checkpoint):
        self.time += 100


class Rates(Callback):
    def __init__(self):
        self.rates, self.shares = [], []

    def on_train_batch_end(self, trainer, task, *_):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.shares.append(task.pace.share(trainer.global_step))


def train(clock, folder, seconds, total_steps=None, resume=None, warmup_steps=0, save_at=None):
    torch.manual_seed(0)
    model = Model({"image": TinyImage(), "text": TinyText()}, NoFusion({"image": 16, "text": 12}))
    schedule = partial(linear, warmup_steps=warmup_steps)
    objectives = {"contrastive": Contrastive(model.shape())}
    task = Pretrain(model, objectives, {"contrastive": 1.0}, Given(), plain_sgd, schedule, total_steps=total_steps)
    task.splits, task.samples = ["val"], {"val": [{}] * 4}
    stopwatch, rates = Stopwatch(8, task.pace), Rates()
    task.pace.seconds, task.clock = seconds, stopwatch.now
    saving = [L.pytorch.callbacks.ModelCheckpoint(folder, "{step}", every_n_train_steps=save_at, save_top_k=-1)]
    trainer = L.Trainer(
        max_steps=total_steps or -1,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        val_check_interval=3,
        check_val_every_n_epoch=None,
        callbacks=[stopwatch, rates, clock, *(saving if save_at else [])],
        enable_checkpointing=bool(save_at),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    loader = torch.utils.data.DataLoader([batch_of()] * 4, batch_size=None)
    trainer.fit(task, loader, loader, ckpt_path=resume, weights_only=True)
    return task, rates, stopwatch


class Given(nn.Module):
    def forward(self, losses):
        from mmexp.step import Balanced

        return Balanced(losses.given)


@pytest.mark.filterwarnings("ignore")
def test_time_ends_the_run_and_the_schedule_with_it(monkeypatch, tmp_path):
    task, rates, stopwatch = train(Clock(monkeypatch), tmp_path, seconds=10.0)
    assert rates.shares == pytest.approx([step / 10 for step in range(1, 11)])
    assert rates.rates == pytest.approx([1 - step / 10 for step in range(1, 11)])
    assert rates.rates[-1] == 0
    assert (stopwatch.train_seconds, task.trainer.global_step) == (10, 10)


@pytest.mark.filterwarnings("ignore")
def test_of_several_limits_the_nearest_counts(monkeypatch, tmp_path):
    task, rates, _ = train(Clock(monkeypatch), tmp_path, seconds=100.0, total_steps=5)
    assert task.trainer.global_step == 5
    assert rates.rates == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0])


@pytest.mark.filterwarnings("ignore")
def test_a_resumed_run_goes_on_with_the_time_that_is_left(monkeypatch, tmp_path):
    _, whole, _ = train(Clock(monkeypatch), tmp_path, seconds=10.0, warmup_steps=3, save_at=4)
    task, rest, stopwatch = train(
        Clock(monkeypatch), tmp_path, seconds=10.0, warmup_steps=3, resume=tmp_path / "step=4.ckpt"
    )
    assert rest.rates == pytest.approx(whole.rates[4:])
    assert stopwatch.train_seconds == 10
    spent, _, _ = train(
        Clock(monkeypatch), tmp_path, seconds=10.0, warmup_steps=3, resume=next(tmp_path.glob("step=8*"))
    )
    assert spent.trainer.global_step == 10
    assert task.pace.warm == pytest.approx(spent.pace.warm)


def test_a_warm_up_ends_after_its_steps_or_a_tenth_of_the_time():
    for warmup_steps, ends in ((4, 4), (50, 10)):
        pace = Pace(None, 100.0)
        schedule = cosine(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0), pace, warmup_steps=warmup_steps)
        rates = schedule.get_last_lr()
        for second in range(1, 101):
            pace.spent = float(second)
            schedule.optimizer.step()
            schedule.step()
            rates += schedule.get_last_lr()
        assert rates.index(max(rates)) == ends
        assert rates[: ends + 1] == sorted(rates[: ends + 1])
        assert rates[ends:] == sorted(rates[ends:], reverse=True)
        assert rates[-1] == 0


def test_attention_on_a_cpu_counts():
    query = torch.randn(2, 4, 16, 8, requires_grad=True)
    with flop_counter() as counter:
        nn.functional.scaled_dot_product_attention(query, query, query).sum().backward()
    forward = 2 * (2 * 2 * 4 * 16 * 16 * 8)
    # Backward computes the scores again, and the gradients of scores, values, queries and keys.
    assert counter.get_total_flops() == forward + 2.5 * forward


@pytest.mark.filterwarnings("ignore")
def test_counting_a_step_changes_nothing_and_agrees_with_the_count_before(monkeypatch, tmp_path):
    counted, _, _ = train(Clock(monkeypatch), tmp_path, seconds=None, total_steps=4)
    flops = step_cost(counted, batch_of()).flops
    assert counted.pace.flops == flops > 0
    monkeypatch.setattr(Pace, "flops", 1.0)
    monkeypatch.setattr(Pace, "__init__", uncounted(Pace.__init__))
    plain, _, _ = train(Clock(monkeypatch), tmp_path, seconds=None, total_steps=4)
    assert plain.pace.flops == 1.0
    for name, tensor in counted.state_dict().items():
        assert torch.equal(tensor, plain.state_dict()[name]), name


def uncounted(init):
    def made(self, *args, **kwargs):
        init(self, *args, **kwargs)
        self.flops = 1.0

    return made


def run(folder: Path, *overrides: str, expect: int = 0):
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = mmexp(*RUN, *overrides, cwd=folder, PYTHONPATH=path)
    assert done.returncode == expect, done.stderr
    return done


def record(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())


def test_encoders_of_different_size_spend_the_same(tmp_path):
    run(tmp_path, "-m", "encoder.image.dim=8,64", "budget.flops=4e7", "sweep.name=fair")
    small, large = (record(tmp_path / "outputs" / "sweeps" / "fair" / number) for number in "01")
    assert small["steps"] > large["steps"]
    for one in (small, large):
        step = one["train_flops"] / one["steps"]
        assert 4e7 <= one["budget"]["flops"] < 4e7 + step
        assert one["total_steps"] == one["budget"]["steps"] == one["steps"]
        assert one["budget"]["samples"] == one["samples_seen"]


def test_processes_stop_at_the_same_step(tmp_path):
    ddp = ("hardware=ddp", "hardware.accelerator=cpu", "hardware.devices=2", "hardware.threads=1")
    done = run(tmp_path, *ddp, "budget.seconds=1", "schedule.warmup_steps=2", "hydra.run.dir=run")
    assert "1 s of training in steps of 16" in done.stdout
    facts = record(tmp_path / "run")
    assert (facts["status"], facts["total_steps"], facts["total_seconds"]) == ("completed", None, 1)
    assert 1 <= facts["budget"]["seconds"] < 2
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    assert [row for row in rows if row["val/loss"]], "a validation at the end"
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["optimizer_states"][0]["param_groups"][0]["lr"] == 0
    assert last["global_step"] == facts["steps"]


def test_tasks_in_sequence_are_not_ended_by_time(tmp_path):
    done = run(tmp_path, "task=continual", "continual=plain", "data=squares_sequence", "budget.seconds=1", expect=2)
    assert done.stderr.startswith("mmexp: budget.seconds: tasks in sequence")
    assert done.stderr.count("\n") == 1
