"""What is not imported: a fresh interpreter tells what a command brought in. Never by time: machines are noisy."""

import json
import subprocess
import sys

import pytest

TELL = "import sys, json, atexit; atexit.register(lambda: print('\\n' + json.dumps(sorted(sys.modules))));"
TINY = [
    *("encoder=student", "encoder.text.depth=1", "fusion=none", "objective=contrastive", "budget.steps=1"),
    *("evaluate=false", "data.styles=[blob]", "data.batch_size=8", "hardware.threads=1"),
]


def imported(folder, *words: str) -> set[str]:
    """Return the packages that a command line of `mmexp` has imported when it ends."""
    code = f"{TELL} sys.argv = ['mmexp', *{list(words)!r}]; from mmexp.cli import entry; entry()"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_help_needs_python_alone(tmp_path):
    names = imported(tmp_path, "--help")
    assert not names & {"hydra", "torch", "numpy", "yaml"}


@pytest.mark.parametrize("words", [("train", "--cfg", "job"), ("list", "encoder")])
def test_a_look_needs_no_torch(tmp_path, words):
    assert not imported(tmp_path, *words) & {"torch", "numpy", "PIL", "pyarrow", "lightning"}


def test_a_run_leaves_out_what_it_does_not_use(tmp_path):
    names = imported(tmp_path, "train", *TINY)
    assert {"torch", "lightning.pytorch", "timm"} <= names
    unused = {"peft", "open_clip", "transformers", "wandb", "datasets", "matplotlib", "pandas", "plotly"}
    # Retrieval counts with scipy.sparse, a tenth of a second; these others of scipy take far longer.
    unused |= {"scipy.stats", "scipy.signal"}
    assert not names & {*unused, "tensorboard", "optuna", "joblib", "sklearn", "torch.utils.tensorboard"}


def test_what_was_left_out_can_still_be_imported():
    code = (
        "from mmexp.lean import load; load('torchmetrics', without=('scipy', 'transformers'));"
        "import sys; assert 'scipy' not in sys.modules;"
        "from torchmetrics.functional.classification import multiclass_accuracy;"
        "from torchmetrics.functional.text import bleu_score;"
        "import scipy.signal, transformers; from lightning_utilities.core.imports import package_available;"
        "assert package_available('scipy')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
