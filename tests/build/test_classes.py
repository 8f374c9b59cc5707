"""Class names live in the run: labels of other data are mapped to them by name."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmexp import build, cli
from mmexp.compose import compose, resolved
from mmexp.data.class_names import with_classes
from mmexp.data.table import table
from mmexp.errors import RequestError
from mmexp.types import DataSource

COLOURS = {"ant": "red", "bee": "green", "cow": "blue", "dog": "white"}
TINY = [
    *("data=table", "data.columns.text=null", "fusion=none", "objective=classify", "objective.classify.source=image"),
    *("data.num_workers=0", "data.batch_size=8", "hardware.precision=32-true", "optimizer.lr=0.01", "budget.steps=20"),
    *(
        "encoder=cnn",
        "encoder.image.image_size=32",
        "encoder.image.options.channels=[8,8,8,8]",
        "schedule.warmup_steps=0",
    ),
]


def write(folder: Path, name: str, labels: list[str]) -> str:
    """Write a table of pictures in the colour of their label, no two alike."""
    lines = ["image,label"]
    for number, label in enumerate(labels):
        Image.new("RGB", (24, 20 + number), COLOURS[label.split("|")[0]]).save(folder / f"{name}{number}.png")
        lines.append(f"{name}{number}.png,{label}")
    (folder / f"{name}.csv").write_text("\n".join(lines))
    return f"{name}.csv"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with a run that tells ants, bees and cows apart, and tables of other classes."""
    here = tmp_path_factory.mktemp("classes")
    write(here, "train", ["ant", "bee", "cow"] * 8)
    write(here, "other", ["bee", "cow"] * 6)
    write(here, "more", ["bee", "cow", "dog"] * 4)
    write(here, "foreign", ["dog"] * 6)
    write(here, "others", ["bee", "cow", "dog"] * 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setenv("MMEXP_STAMP", "now")
        patch.setattr(sys, "argv", ["mmexp", "train", *TINY, "data.train=train.csv", "hydra.run.dir=base"])
        assert cli.main() == 0
    return here


@pytest.fixture
def trained(mmexp, tmp_path, base):
    shutil.copytree(base, tmp_path, dirs_exist_ok=True)
    return mmexp


def metrics(place: str) -> dict[str, float]:
    return json.loads((Path("outputs/evaluations") / place / "metrics.json").read_text())


def test_a_run_is_measured_by_its_own_classes_on_other_tables(trained):
    assert json.loads(Path("base/classes.json").read_text()) == ["ant", "bee", "cow"]
    for data in (("data.test=other.csv",), ("data.train=other.csv", "data.test=other.csv")):
        assert trained("evaluate", "base", *data)[0] == 0
        assert metrics("now-0-base")["test/accuracy"] == 1
    # Where a label is no class of the run, its rows are left out, and that is reported.
    status, out, _ = trained("evaluate", "base", "data.train=more.csv", "data.test=more.csv")
    assert status == 0 and "test: the label 'dog' (4) is no class of base, and left out" in out
    assert metrics("now-0-base")["test/accuracy"] == 1
    status, _, error = trained(
        "evaluate", "base", "data.train=foreign.csv", "data.val_fraction=0", "data.test=foreign.csv"
    )
    assert status == 2 and "none of the labels of the data (dog) is a class of base (ant, bee, cow)" in error


def test_what_starts_from_a_run_goes_on_with_its_head_only_where_the_classes_are_the_same(trained):
    more = ("init_from=base", "budget.steps=1", "optimizer.lr=1e-9", "data.batch_size=4")
    assert trained("train", *TINY, "data.train=other.csv", "data.test=other.csv", *more, "hydra.run.dir=known")[0] == 0
    assert json.loads(Path("known/classes.json").read_text()) == ["ant", "bee", "cow"]
    assert json.loads(Path("known/metrics.json").read_text())["test/accuracy"] == 1
    status, out, _ = trained("train", *TINY, "data.train=more.csv", *more, "hydra.run.dir=fresh")
    assert status == 0 and json.loads(Path("fresh/classes.json").read_text()) == ["bee", "cow", "dog"]
    assert "objectives.classify" in out and "its classes are others than those of the data" in out
    heads = [
        torch.load(f"{run}.ckpt", weights_only=True)["state_dict"]["objectives.classify.head.weight"]
        for run in ("base/checkpoints/best", "known/checkpoints/last", "fresh/checkpoints/last")
    ]
    assert torch.allclose(heads[0], heads[1], atol=1e-4) and not torch.allclose(heads[0], heads[2], atol=1e-2)


def test_several_labels_are_mapped_by_name(tmp_path):
    path = tmp_path / write(tmp_path, "t", ["bee|dog", "cow", "dog", "bee|cow"])
    source = table(str(path), {"image": "image", "label": "label"}, label_separator="|", val_fraction=0)
    found = with_classes(source, ["cow", "ant", "bee"], "RUN")
    assert found.splits["train"].targets.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 0], [1, 0, 1]]
    assert list(found.classes) == ["cow", "ant", "bee"]
    assert found.notes[-1] == "train: the label 'dog' (2) is no class of RUN, and left out"


def test_labels_of_one_class_are_refused(mmexp, tmp_path):
    write(tmp_path, "alike", ["ant"] * 8)
    status, _, error = mmexp("train", *TINY, "data.train=alike.csv")
    assert status == 2
    assert error.startswith(
        "mmexp: objective 'classify' needs labels of at least two classes, and all labelled rows of train"
    )
    assert len(error.splitlines()) == 1


def test_rows_of_one_class_are_refused_where_a_run_brings_more_classes(trained, tmp_path):
    write(tmp_path, "bees", ["bee"] * 8)
    start = ("init_from=base", "task=finetune", "data.train=bees.csv")
    status, _, error = trained("train", *TINY, *start)
    assert status == 2 and "all labelled rows of train are of the class 'bee'" in error


def test_rows_of_which_nothing_is_known_stay_so():
    class Rows:
        def __init__(self, labels, targets=None):
            self.labels, self.targets = np.array(labels), targets

        def __len__(self):
            return len(self.labels)

    targets = np.array([[1, 0.5], [np.nan, np.nan]], dtype=np.float32)
    source = DataSource({"val": Rows([1, -1, 0]), "test": Rows([-1, -1], targets)}, ["image"], ["b", "a"])
    found = with_classes(source, ["a", "b", "c"], "RUN")
    assert found.splits["val"].labels.tolist() == [0, -1, 1]
    np.testing.assert_array_equal(found.splits["test"].targets, [[0.5, 1, 0], [np.nan] * 3])
    assert with_classes(found, ["a", "b", "c"], "RUN") is found and not found.notes


def test_a_teacher_of_other_classes_is_refused(trained):
    distil = ["objective=distill_classes", "objective.distill_classes.source=image", "task=distill", "teacher=base"]
    own = [one for one in TINY if not one.startswith("objective")]
    status, _, error = trained("train", *own, "data.train=others.csv", *distil)
    assert (
        status == 2
        and "teacher=base tells other classes apart: its class 0 is 'ant', and that of the data is 'bee'" in error
    )


def test_heads_without_classes_keep_none(tmp_path, monkeypatch):
    monkeypatch.setenv("MMEXP_CACHE", str(tmp_path / "cache"))
    path = tmp_path / write(tmp_path, "t", ["ant", "bee"] * 6)

    def heads(*objective):
        config, _ = resolved(compose(["data=table", f"data.train={path}", *objective]))
        return build.class_heads(config)

    assert heads("objective=contrastive") == heads("objective=supcon") == heads("objective=regress") == []
    assert heads("objective=[contrastive,classify]") == ["classify"] and heads("objective=multilabel") == ["multilabel"]


def test_labels_that_train_lacks_are_numbered_where_nothing_is_trained(tmp_path):
    train, test = (str(tmp_path / write(tmp_path, name, own)) for name, own in (("a", ["ant"] * 3), ("b", ["bee"] * 3)))
    columns = {"image": "image", "label": "label"}
    with pytest.raises(RequestError, match="no row of train has the label 'bee'"):
        table(train, columns, test=test, val_fraction=0)
    source = table(train, columns, test=test, val_fraction=0, all_labels=True)
    assert source.classes == ["ant", "bee"] and source.splits["test"].labels.tolist() == [1, 1, 1]
