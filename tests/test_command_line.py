"""The real command line in a subprocess: what is answered before anything heavy is loaded, and how."""

import os
import subprocess
import sys

import pytest
from command_line import mmexp


def test_help_and_list_import_no_torch(tmp_path):
    for command in ("--help", "list"):
        code = (
            f"import sys; sys.argv = ['mmexp', {command!r}]\n"
            "from mmexp.cli import main\n"
            "status = main()\n"
            "assert not {'torch', 'hydra', 'lightning'} & set(sys.modules), sorted(sys.modules)\n"
            "sys.exit(status)"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "mmexp train" in done.stdout or "fusion=xattn" in done.stdout


WRONG = [
    (["trian"], "'trian' is not a command. Did you mean 'train'?"),
    (["train", "fusion=xatn"], "'xatn' is not a choice of fusion. Did you mean 'xattn'?"),
    (["train", "encoder/image=vitt"], "'vitt' is not a choice of encoder/image. Did you mean 'vit'?"),
    (["train", "fuson=xattn"], "'fuson' is no key or group of a run. Did you mean 'fusion'?"),
    (["train", "--cfg", "job", "-m", "fusion=none,xattn"], "Only one of --run, --multirun, --cfg"),
    (["train", "fusion.heds=3"], "fusion has no key 'heds'. Did you mean 'heads'?"),
    (
        ["train", "+fusion.heds=3"],
        "'fusion.heds' is not a key of CrossAttentionFusion (fusion/xattn.yaml). Did you mean",
    ),
    (["train", "optimizer.lr=fast"], "'optimizer.lr' must be a number above 0, not 'fast' (optimizer/adamw.yaml)"),
    (["train", "seed=-1"], "'seed' must be a whole number, 0 or more"),
    (["train", "hardware.precision=16"], "'hardware.precision' must be one of auto, 32-true"),
    (["train", "fusion=none"], "objective 'matching' needs a fused output"),
    (["train", "objective=contrastive"], "no objective uses the fusion"),
    (["train", "task=distill", "objective=[distill,matching]"], "needs a teacher"),
    (
        ["train", "fusion=none", "objective=siglip", "objective.siglip.pairs={text-image: 1.0}"],
        "objective 'siglip': 'text-image' in pairs is no pair of this model. Did you mean 'image-text'?",
    ),
    (
        ["train", "fusion=none", "objective=triplet", "objective.triplet.pairs={image-text: -1}"],
        "'objective.triplet.pairs' must be a mapping, each value a number, 0 or more or null",
    ),
    (["train", "task=continual"], "task=continual needs a method. Add continual=plain"),
    (["train", "continual=ewc"], "continual= is set, but this task has no tasks in sequence. Choose task=continual."),
    (["train", "experiment=continual", "continual=ewc", "balance=pcgrad"], "this balance would replace"),
    (["train", "data=table"], "'data.train' has no value"),
    (["train", "fusion"], "A setting is put as KEY=VALUE"),
    (["train", "-m", "fusion=concat,xatn"], "'xatn' is not a choice of fusion"),
    (["list", "fusoin"], "'fusoin' is not a group. Did you mean 'fusion'?"),
    (["plan", "fusion.heds=3"], "fusion has no key 'heds'. Did you mean 'heads'?"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_wrong_request_gets_one_plain_line_and_status_2(arguments, message, tmp_path):
    done = mmexp(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "nothing may be left half-written"


def test_the_traceback_is_there_for_who_asks(tmp_path):
    done = mmexp("train", "fusion=xatn", cwd=tmp_path, MMEXP_FULL_ERROR="1")
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "cp1252"},
        {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    ],
)
def test_output_and_files_are_utf8_under_any_locale(tmp_path, environment):
    code = "from mmexp.cli import use_utf8; use_utf8(); print('\\u2192'); open('f', 'w').write('\\u2192')"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=tmp_path, env={**os.environ, **environment}, capture_output=True, timeout=60)
    assert done.stdout == "\u2192\n".encode(), done.stderr
    assert (tmp_path / "f").read_bytes() == "\u2192".encode()
