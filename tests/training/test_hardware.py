"""How many threads a run takes."""

import os

import pytest
import torch

from mmexp.training.hardware import Hardware


@pytest.fixture
def threads(monkeypatch):
    """Return a function that tells the threads of a run in an environment, on a machine that gave eight cores."""
    before = torch.get_num_threads()
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))

    def told(hardware: Hardware, **environment: str) -> int:
        for name in ("MMEXP_RUNS_AT_ONCE", "OMP_NUM_THREADS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        hardware.trainer_arguments()
        return torch.get_num_threads()

    yield told
    torch.set_num_threads(before)


def test_runs_and_ranks_share_the_cores(threads):
    assert threads(Hardware()) == 8
    assert threads(Hardware(), MMEXP_RUNS_AT_ONCE="2") == 4
    assert threads(Hardware(devices=2), MMEXP_RUNS_AT_ONCE="2") == 2
    assert threads(Hardware(), MMEXP_RUNS_AT_ONCE="-1") == 1
    assert threads(Hardware(threads=3), MMEXP_RUNS_AT_ONCE="2") == 3


def test_what_the_environment_says_is_the_most(threads):
    assert threads(Hardware(), OMP_NUM_THREADS="1") == 1
    assert threads(Hardware(), OMP_NUM_THREADS="16") == 8
    assert threads(Hardware(threads=3), OMP_NUM_THREADS="1") == 3


def test_batches_are_prepared_by_cores_that_no_step_needs(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(24)))
    # As torchrun sets it: the threads of a step, not the cores of the machine.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert Hardware().idle_cores() == 0
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Hardware().idle_cores() == 0
    assert Hardware(accelerator="gpu").idle_cores() == 8
    assert Hardware(accelerator="gpu", devices=4).idle_cores() == 5
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})
    assert Hardware(accelerator="auto").idle_cores() == 0
