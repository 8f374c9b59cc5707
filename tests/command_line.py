"""The command line: in a process of its own, or in this one, which has its libraries loaded already."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch


def mmexp(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `mmexp ARGUMENTS` in `cwd`, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "mmexp", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def mmexp_here(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `mmexp ARGUMENTS` in `cwd`, in this process: several seconds sooner. Environment and threads stay as they were."""
    from mmexp import cli

    told, complained, threads = io.StringIO(), io.StringIO(), torch.get_num_threads()
    with (
        pytest.MonkeyPatch.context() as patched,
        contextlib.redirect_stdout(told),
        contextlib.redirect_stderr(complained),
    ):
        patched.chdir(cwd)
        patched.setattr(sys, "argv", ["mmexp", *arguments])
        # Set anew by each command; a change that is undone at the end.
        patched.setenv("MMEXP_STAMP", "now")
        for name, value in environment.items():
            patched.setenv(name, value)
        try:
            status = cli.main()
        finally:
            torch.set_num_threads(threads)
    return subprocess.CompletedProcess(["mmexp", *arguments], status, told.getvalue(), complained.getvalue())
