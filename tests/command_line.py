"""The real command line in a subprocess."""

import os
import subprocess
import sys
from pathlib import Path


def mmexp(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `mmexp ARGUMENTS` in `cwd`."""
    return subprocess.run(
        [sys.executable, "-m", "mmexp", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
