"""The short form of every benchmark: all of it runs, and nothing is grossly slow."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "scripts" / "bench"
NAMES = sorted(file.stem for file in BENCH.glob("*.py") if file.stem not in ("__main__", "contest"))


@pytest.mark.parametrize("name", NAMES)
def test_the_short_form(tmp_path, name):
    command = [sys.executable, str(BENCH), name, "--short", "--to", str(tmp_path / "told")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "told" / f"{name}.json").read_text())
    assert told["goals"].keys() == told["ratios"].keys() and told["goals"]
    assert (tmp_path / "told" / f"{name}.png").stat().st_size > 1000
