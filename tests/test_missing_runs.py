"""Whole runs in which rows lack modalities: dropped in training, gone at test time, kept of frozen parts, in a user's table."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from mmexp.cli import main as _main

TINY = [
    *("data.batch_size=256", "budget.epochs=2", "log_every_steps=1", "checkpoint.validate_every_epochs=2"),
    *("encoder.image.options.depth=1", "encoder.text.depth=1", "hardware.threads=1", "fusion=concat"),
    *("cache.directory=cache", "cache.dtype=float32"),
]
DROPPING = ("data.styles=[blob]", "augmentation=[geometry,modality_dropout]", "data.without=[image,text]")
BOTH = "objective=[classify,contrastive,matching]"


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _in_it(home, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setenv("MMEXP_CACHE", str(home / "checked"))


def train(monkeypatch, name: str, *overrides: str) -> tuple[list[float], dict, dict]:
    """Return the losses of a run's steps, its metrics and its `run.json`."""
    monkeypatch.setattr("sys.argv", ["mmexp", "train", *TINY, f"hydra.run.dir={name}", *overrides])
    assert _main() == 0
    with (Path(name) / "metrics.csv").open() as stream:
        losses = [float(row["train/loss"]) for row in csv.DictReader(stream) if row.get("train/loss")]
    return losses, *(json.loads((Path(name) / file).read_text()) for file in ("metrics.json", "run.json"))


@pytest.fixture(scope="module")
def dropped(home):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        return train(patch, "dropped", BOTH, *DROPPING)


def test_test_sets_without_a_modality_hold_what_makes_sense_there(dropped):
    _, metrics, told = dropped
    assert {"test/image_to_text_r1", "test/loss", "test/accuracy"} <= set(metrics)
    for gone, left in (("image", "text"), ("text", "image")):
        found = {name.removeprefix(f"test_without_{gone}/") for name in metrics if f"test_without_{gone}/" in name}
        assert found == {"accuracy", "f1_macro", "loss_classify", "temperature", f"{left}_neighbour_accuracy"}
        same = f"{left}_neighbour_accuracy"
        assert metrics[f"test_without_{gone}/{same}"] == pytest.approx(metrics[f"test/{same}"])
    assert told["status"] == "completed"
    assert (Path("dropped") / "report.html").is_file()


@pytest.mark.parametrize("objective", [BOTH, "objective=[classify,masked]"])
def test_kept_outputs_of_frozen_parts_are_dropped_as_live_ones(monkeypatch, dropped, tmp_path, objective):
    # In bf16 a product of more rows is rounded otherwise, and a pair of 190 changes sides.
    how = ("variation.views=1", "hardware.precision=32-true")
    frozen = ("init_from=dropped", "adapter=frozen", "task=finetune", *how, objective, *DROPPING)
    live, expected, _ = train(monkeypatch, str(tmp_path / "live"), *frozen, "cache.enabled=false")
    kept, found, told = train(monkeypatch, str(tmp_path / "kept"), *frozen)
    assert kept == pytest.approx(live, rel=1e-4)
    # One of 542 queries may change places with another that is as near.
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-3)
    # Two towers on train, val, test and test_cross_style; sets without a modality need no more.
    assert len(set(told["cache"]["entries"])) == 8


def test_a_table_with_empty_cells_trains_and_is_measured(monkeypatch, tmp_path, capsys):
    lines = ["image,caption,label"]
    for number in range(48):
        colour = ("red", "green", "blue")[number % 3]
        Image.new("RGB", (20, 20 + number), colour).save(tmp_path / f"{number}.png")
        picture, caption = (
            f"{number}.png" * (number % 4 > 0),
            f"{colour} {number}" * (number % 5 > 0 or number % 4 == 0),
        )
        lines.append(f"{picture},{caption},{colour}")
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    mine = ("data=table", f"data.train={tmp_path}/rows.csv", "data.columns.label=label", "data.batch_size=16", BOTH)
    options = ("data.num_workers=0", "data.val_fraction=0.3", "data.without=[text]", "task=finetune")
    losses, metrics, _ = train(monkeypatch, str(tmp_path / "run"), *mine, *options, "data.missing=keep")
    assert all(0 < loss < 20 for loss in losses)
    assert metrics["val/candidates"] == metrics["val/image_to_text_candidates"] < 14
    assert {"val/accuracy", "val_without_text/accuracy"} <= set(metrics)
    monkeypatch.setattr("sys.argv", ["mmexp", "train", *TINY, *mine, *options, f"hydra.run.dir={tmp_path}/no"])
    assert _main() == 2
    assert "data.missing=keep learns from what they have" in capsys.readouterr().err


def test_a_modality_that_is_not_there_cannot_be_left_out(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["mmexp", "train", *TINY, "data.without=[audio]", "hydra.run.dir=no"])
    assert _main() == 2
    assert "data.without: the data has no 'audio'. There is: image, text." in capsys.readouterr().err
    assert not Path("no").exists()


TABLE = ("data=table", "data.train=train.csv", "data.val=val.csv", "data.missing=keep", "data.columns.label=label")
ALONE = ("data.num_workers=0", "data.batch_size=8", "budget.steps=2", "hydra.run.dir=refused")


@pytest.mark.parametrize(
    ("columns", "objective", "message"),
    [
        ([("", "x", "a")], ["contrastive"], "two of image, text, and val/mean_reciprocal_rank"),
        ([("", "x", "a")], ["classify", "objective.classify.source=image"], "image, and val/accuracy"),
        ([("0.png", "", "a"), ("", "x", "a")], ["caption"], "image and text, and val/cider"),
        ([("0.png", "", "a"), ("", "x", "a")], ["matching"], "two of image, text, and val/loss"),
        ([("", "x", "a")], ["masked"], "image, and val/loss"),
    ],
)
def test_a_val_that_cannot_tell_the_best_is_refused_before_training(
    tmp_path, monkeypatch, capsys, columns, objective, message
):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("0.png")
    for name, lines in (("train", [("0.png", f"thing {n}", "ab"[n % 2]) for n in range(8)]), ("val", columns)):
        Path(f"{name}.csv").write_text("\n".join(map(",".join, [("image", "caption", "label"), *lines])))
    small = [one for one in TINY if not one.startswith(("data", "budget", "fusion"))]
    fusion = "concat" if objective[0] == "matching" else "none"
    chosen = (f"objective={objective[0]}", *objective[1:], f"fusion={fusion}", *TABLE, *ALONE)
    monkeypatch.setattr("sys.argv", ["mmexp", "train", *small, *chosen])
    assert _main() == 2
    assert f"no row of val has {message}, which chooses the best checkpoint" in capsys.readouterr().err
    assert not Path("refused").exists()
