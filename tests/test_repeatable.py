"""In fp32 with two threads every experiment repeats bit for bit, killed and resumed too."""

import json
import sys
from pathlib import Path

import pytest
import torch

from mmexp import cli
from mmexp.data.orders import EvaluationOrder
from mmexp.resume_proof import Attempt, differences
from mmexp.tasks.base import Task

CONF = Path(__file__).parents[1] / "conf" / "experiment"
EXPERIMENTS = ["default run", *sorted(file.stem for file in CONF.glob("*.yaml"))]
SHORT = ("budget.steps=3", "data.batch_size=16", "checkpoint.every_steps=1", "log_every_steps=1", "evaluate=false")
EXACT = ("hardware.threads=2", "hardware.precision=32-true")
STYLES = "data.styles=[blob]"
# Without styles of pictures.
OTHER_DATA = {"easy_vqa": ("data.fraction=0.02",), "fusions": ("data.fraction=0.02",), "moving": (), "spoken": ()}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Few rows of each evaluation set are read; the other tests of this process have the threads that they had."""
    monkeypatch.setattr(EvaluationOrder, "_own", lambda order: list(range(min(order.rows, 24))))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def train(monkeypatch, folder: Path, name: str, *overrides: str) -> Attempt:
    """Train in this process below `folder`, and return the run as `mmexp verify-resume` compares it."""
    attempt = Attempt(folder, name, overrides)
    monkeypatch.setenv("MMEXP_STAMP", "now")
    monkeypatch.setenv("MMEXP_ORDER", str(attempt.order))
    monkeypatch.setattr(sys, "argv", ["mmexp", "train", *overrides, f"hydra.run.dir={attempt.directory}"])
    assert cli.main() == 0
    return attempt


def operations(loss: torch.Tensor) -> set[str]:
    """Return the names of all backward functions that a loss leads to."""
    found, ahead = {}, [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is not None and node not in found:
            found[node] = node.name()
            ahead += [before for before, _ in node.next_functions]
    return set(found.values())


@pytest.fixture
def backward(monkeypatch):
    """The backward functions of every training step."""
    names, taken = set(), Task.training_step

    def noting(task: Task, *inputs):
        loss = taken(task, *inputs)
        names.update(operations(loss))
        return loss

    monkeypatch.setattr(Task, "training_step", noting)
    return names


def killed_in_step(monkeypatch, step: int, *arguments) -> None:
    """Train, and die in the middle of a step."""
    taken = Task.training_step

    def dying(task: Task, *inputs):
        if task.global_step == step:
            raise SystemExit(9)
        return taken(task, *inputs)

    with monkeypatch.context() as patched:
        patched.setattr(Task, "training_step", dying)
        with pytest.raises(SystemExit):
            train(monkeypatch, *arguments)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    """A run of two steps from which students learn."""
    folder = tmp_path_factory.mktemp("teacher")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        return train(patched, folder, "run", *SHORT, *EXACT, STYLES, "budget.steps=1").directory


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_repeats_bit_for_bit_killed_and_resumed(name, tmp_path, monkeypatch, request, backward):
    monkeypatch.chdir(tmp_path)
    overrides = [*SHORT, *EXACT, *OTHER_DATA.get(name, (STYLES,))]
    overrides += [f"experiment={name}"] if name in EXPERIMENTS[1:] else []
    overrides += [f"teacher={request.getfixturevalue('teacher')}"] if name.startswith("distill") else []
    whole = train(monkeypatch, tmp_path, "whole", *overrides)
    record = json.loads((whole.directory / "run.json").read_text())
    assert record["status"] == "completed" and record["steps"] == (0 if name == "zero_shot" else 3)
    if name == "zero_shot":
        return
    # That of `tensor[rows]` adds by atomics: how often two runs then differ is a matter of chance.
    assert "MmBackward0" in backward or "AddmmBackward0" in backward
    assert "IndexBackward0" not in backward
    # The steps before the kill are a second run of the same command, those after it a resumed one.
    killed_in_step(monkeypatch, 2, tmp_path, "killed", *overrides)
    again = train(monkeypatch, tmp_path, "killed", *overrides, "resume=auto")
    assert not any(differences(whole, again).values()), differences(whole, again)
    assert torch.get_num_threads() == 2
