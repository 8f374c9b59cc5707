"""Tests may import the stand-ins, and never reach the network."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
os.environ.update(HF_HUB_OFFLINE="1", WANDB_MODE="offline")
# Read when torch is imported: threads that spin while they wait take the cores of the other workers.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture
def mmexp(tmp_path, monkeypatch, capsys):
    """The command line in this process and an empty folder: status, what is printed, what is complained of."""
    from mmexp import cli

    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setenv("MMEXP_STAMP", "now")
        monkeypatch.setattr(sys, "argv", ["mmexp", *words])
        return cli.main(), *capsys.readouterr()

    return run
