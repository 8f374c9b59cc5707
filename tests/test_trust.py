"""Files from a stranger run no code: checkpoints, run directories, weights beside a YAML, and configurations."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from mmexp import cli
from mmexp.build.making import make
from mmexp.errors import RequestError
from mmexp.trust import allow, check_targets

OUTSIDE = Path(__file__).parent / "outside" / "conf"
TINY = ("--config-dir", str(OUTSIDE), "encoder=tiny", "data=squares", "fusion=none", "objective=contrastive")
RUN = (*TINY, "hardware.threads=1", "budget.steps=2", "evaluate=false", "adapter=full")

EVIL = [
    "os.system",
    "subprocess.Popen",
    "builtins.eval",
    "mmexp.training.hardware.os.system",
    "mmexp.training.memory.ctypes.CDLL",
    "mmexp.data.readers.Path.unlink",
    "mmexp.encoders.hub.importlib.import_module",
    "mmexp.cli.main",
    "mmexp.build.making.make",
    "mmexp.lean.load",
    "torch.optim.os.system",
    "torch.load",
    "torch.hub.load",
    "torch.nn.modules.module.torch.load",
    "hydra.utils.call",
    "mmexp.encoders.nothing.Here",
    "mmexpx.encoders.transformer.Transformer",
]


@pytest.fixture(autouse=True)
def nobody_is_trusted(monkeypatch):
    monkeypatch.delenv("MMEXP_TRUST", raising=False)


@pytest.mark.parametrize("target", EVIL)
def test_what_is_no_part_may_not_be_named(target):
    for nested in ({"_target_": target}, {"a": [{"b": {"_target_": target, "x": 1}}]}):
        with pytest.raises(RequestError, match=r"_target_ '.*' is not a part of mmexp.*trust=\["):
            check_targets(nested)
        with pytest.raises(RequestError, match="not a part of mmexp"):
            make(nested)


def test_every_part_of_ours_and_optimizers_of_torch_may():
    for file in (Path(cli.__file__).parent / "conf").rglob("*.yaml"):
        if "hydra" not in file.parts:
            loaded = yaml.safe_load(file.read_text()) or {}
            check_targets({key: value for key, value in loaded.items() if key != "hydra"}, str(file))
    check_targets({"_target_": "torch.optim.SGD"})


@pytest.mark.parametrize("word", ["trust=outside", "trust=[outside]", "+trust=[other,outside]"])
def test_the_command_line_extends_it(monkeypatch, word):
    monkeypatch.setenv("MMEXP_TRUST", "")
    allow(["train", word])
    check_targets({"_target_": "outside.parts.AddedFusion"})
    with pytest.raises(RequestError):
        check_targets({"_target_": "outsider.parts.AddedFusion"})


def mmexp(monkeypatch, *words: str) -> int:
    monkeypatch.setenv("MMEXP_STAMP", "now")
    monkeypatch.setattr(sys, "argv", ["mmexp", *words])
    return cli.main()


def test_trust_in_a_file_does_not_count(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "encoder").mkdir(parents=True)
    (tmp_path / "conf" / "encoder" / "evil.yaml").write_text(
        "# @package _global_\ntrust: [os]\nencoder:\n  image:\n    _target_: os.system\n    command: touch hurt\n"
    )
    assert mmexp(monkeypatch, "train", "--config-dir", "conf", "encoder=evil") == 2
    error = capsys.readouterr().err
    assert "_target_ 'os.system' is not a part of mmexp" in error and "Traceback" not in error
    assert not (tmp_path / "hurt").exists()


class Payload:
    def __reduce__(self):
        return os.system, ("touch hurt",)


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert mmexp(monkeypatch, "train", *RUN, "trust=[outside,stand_ins]", "hydra.run.dir=run") == 0
    return tmp_path / "run"


WAYS = (
    "init_from=run",
    "teacher=run",
    "resume=run",
    "init_from=run/checkpoints/best.ckpt",
    "init_from=run/checkpoints/last.ckpt",
)


@pytest.mark.parametrize("way", WAYS)
def test_a_checkpoint_with_a_payload_runs_nothing(run, monkeypatch, capsys, way):
    for file in (run / "checkpoints").iterdir():
        stored = torch.load(file, weights_only=True)
        torch.save({**stored, "state_dict": {**stored["state_dict"], "evil": Payload()}, "hyper": Payload()}, file)
    more = ("task=distill", "objective=[contrastive,distill]") if way.startswith("teacher") else ()
    capsys.readouterr()
    status = mmexp(monkeypatch, "train", *RUN, "trust=[outside,stand_ins]", *more, way, "hydra.run.dir=next")
    error = capsys.readouterr().err
    assert status in (1, 2) and not Path("hurt").exists()
    assert "Traceback" not in error, error
    assert len(error.strip().splitlines()) <= 3, error


def test_a_pickle_in_the_place_of_weights_runs_nothing(run, monkeypatch, capsys):
    for file in (run / "checkpoints").iterdir():
        file.write_bytes(pickle.dumps(Payload()))
    capsys.readouterr()
    assert mmexp(monkeypatch, "train", *RUN, "trust=[outside,stand_ins]", "init_from=run", "hydra.run.dir=next") == 2
    assert not Path("hurt").exists() and "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("way", ["init_from=run", "teacher=run"])
def test_a_run_directory_whose_configuration_names_a_command_runs_nothing(run, monkeypatch, capsys, way):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["encoder"]["image"] = {"_target_": "os.system", "command": "touch hurt"}
    config["trust"] = ["os"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    more = ("task=distill", "objective=[contrastive,distill]") if way.startswith("teacher") else ()
    capsys.readouterr()
    assert mmexp(monkeypatch, "train", *RUN, "trust=[outside,stand_ins]", *more, way, "hydra.run.dir=next") == 2
    error = capsys.readouterr().err
    assert "run/config.yaml: _target_ 'os.system' is not a part of mmexp" in error
    assert not Path("hurt").exists() and not Path("next").exists()


def test_a_configuration_that_makes_python_objects_runs_nothing(run, monkeypatch, capsys):
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(f'{text}\nevil: !!python/object/apply:os.system ["touch hurt"]\n')
    capsys.readouterr()
    assert mmexp(monkeypatch, "train", *RUN, "trust=[outside,stand_ins]", "init_from=run", "hydra.run.dir=next") == 2
    error = capsys.readouterr().err
    assert "run/config.yaml' cannot be read as YAML" in error and "Traceback" not in error
    assert not Path("hurt").exists()


def test_keys_and_tokens_are_written_nowhere(tmp_path):
    secret = "s3cr3t" * 7
    words = ["train", *RUN, "trust=[outside,stand_ins]", "hydra.run.dir=run", "logger=[csv,wandb]"]
    done = subprocess.run(
        [sys.executable, "-m", "mmexp", *words],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parent),
            **dict.fromkeys(("WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY"), secret),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert secret not in done.stdout + done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 8
    assert [path for path in files if secret.encode() in path.read_bytes()] == []


def test_a_place_where_nothing_can_be_written_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert mmexp(monkeypatch, "train", *RUN, "trust=[outside,stand_ins]", "hydra.run.dir=file/run") == 2
    error = capsys.readouterr().err
    assert "file/run" in error and "Not a directory" in error and "Traceback" not in error
