"""Transfer from the command line: zero-shot, few shots and learned prompts on tiny towers."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from mmexp import cli

COLOURS = ("red", "green", "blue")
TINY = [
    *("data=table", "data.train=captions.csv", "data.test=captions.csv", "data.columns.label=label", "fusion=none"),
    *("data.num_workers=0", "data.batch_size=8", "hardware.precision=32-true", "optimizer.lr=0.01"),
    *("encoder=cnn", "encoder.image.image_size=32", "encoder.image.options.channels=[16,16,16,16]"),
    *("encoder.text.dim=24", "encoder.text.depth=1", "encoder.text.heads=2"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    here = tmp_path_factory.mktemp("transfer")
    lines = ["image,caption,label"]
    for number in range(24):
        colour = COLOURS[number % 3]
        Image.new("RGB", (32, 20 + number), colour).save(here / f"{number}.png")
        lines.append(f"{number}.png,a {colour} thing {number},{colour}-thing")
    (here / "captions.csv").write_text("\n".join(lines))
    assert train(here, "objective=contrastive", "budget.steps=4", "hydra.run.dir=base") == 0
    return here


def train(folder: Path, *overrides: str, sweep: bool = False) -> int:
    """Run `mmexp train` in this process, in `folder`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MMEXP_STAMP", raising=False)
        patch.setattr(sys, "argv", ["mmexp", "train", *(["-m"] if sweep else []), *TINY, *overrides])
        try:
            return cli.main()
        finally:
            os.environ.pop("MMEXP_STAMP", None)


def metrics(run: Path) -> dict[str, float]:
    return json.loads((run / "metrics.json").read_text())


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_zero_shot_measures_what_was_loaded(folder, capsys):
    assert train(folder, "experiment=zero_shot", "init_from=base", "hydra.run.dir=zero") == 0
    found = metrics(folder / "zero")
    assert found["test/zero_shot_accuracy_chance"] == pytest.approx(1 / 3)
    assert 0 <= found["val/zero_shot_f1_macro"] <= 1
    assert json.loads((folder / "zero" / "run.json").read_text())["steps"] == 0
    assert not (folder / "zero" / "checkpoints").exists()
    assert "zero shot" in capsys.readouterr().out
    # The same by the objective that is fine-tuned for it: the space is the loaded one.
    same = ("experiment=coop", "objective.prompted.context_length=0", "train=false", "init_from=base")
    assert train(folder, *same, "hydra.run.dir=same") == 0
    assert metrics(folder / "same")["test/accuracy"] == found["test/zero_shot_accuracy"]


def test_coop_trains_the_context_alone(folder):
    short = ("experiment=coop", "data.shots=2", "budget.steps=3")
    assert train(folder, *short, "init_from=base", "hydra.run.dir=coop") == 0
    before, after = weights(folder / "base"), weights(folder / "coop")
    for name, tensor in after.items():
        if "context" not in name:
            source = name.replace("objectives.prompted.space", "objectives.contrastive")
            assert torch.equal(tensor, before[source]), name
    assert after["objectives.prompted.context"].abs().max() > 0.02
    found = metrics(folder / "coop")
    assert found["test/loss_prompted"] != found["start/test/loss_prompted"]
    assert train(folder, *short, "train=false", "init_from=coop", "hydra.run.dir=again") == 0
    assert metrics(folder / "again")["test/loss_prompted"] == pytest.approx(found["test/loss_prompted"], rel=1e-5)


def test_few_shots_over_seeds_end_with_their_table(folder, capsys):
    grid = ("data.shots=1,2", "seed=0,1", "budget.steps=2", "hydra.sweep.dir=sweep")
    assert train(folder, "experiment=few_shot", "init_from=base", *grid, sweep=True) == 0
    out = capsys.readouterr().out
    assert "rows: train 3," in out and "rows: train 6," in out
    assert "±" in out
    after, before = weights(folder / "sweep" / "0"), weights(folder / "base")
    assert all(torch.equal(after[name], before[name]) for name in after if name.startswith("model."))
    records = [json.loads((folder / "sweep" / str(run) / "run.json").read_text()) for run in range(4)]
    assert len({record["data_fingerprint"] for record in records}) == 4
    assert [record["samples_seen"] for record in records] == [6, 6, 12, 12]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["experiment=coop", "init_from=base", "objective.prompted.context_length=0"], "nothing is left to train"),
        (
            ["experiment=coop", "init_from=base", "objective.prompted.space=contrastiv"],
            "objective.prompted.space=contrastiv: the loaded weights have no such common space "
            "(not among the weights). Did you mean 'contrastive'?",
        ),
        (["experiment=zero_shot", "adapter=full"], "train=false measures what was loaded, and nothing was"),
        (["prompts=plain", "objective=classify", "objective.classify.source=image"], "no objective has a common space"),
        (["prompts=plain", "objective=contrastive", "data.columns.label=null"], "the data has no classes"),
        (["experiment=zero_shot", "init_from=base", "prompts.templates=[photo]"], "'photo' has no single place"),
        (
            ["objective=contrastive", "data.columns.label=null", "data.shots=2"],
            "data.shots: no row of train has a label",
        ),
    ],
)
def test_a_wrong_request_gets_one_plain_line(folder, overrides, message, capsys):
    before = sorted(folder.rglob("*"))
    assert train(folder, *overrides, "hydra.run.dir=wrong") == 2
    error = capsys.readouterr().err
    assert message in error and error.strip().count("\n") == 0
    assert sorted(folder.rglob("*")) == before
