"""What is kept of frozen parts changes no result, is shared by runs, and is another where anything it depends on is."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from mmexp.cli import main as _main
from mmexp.frozen_parts import FrozenPart

TINY = [
    *(
        "data.batch_size=64",
        "data.fraction=0.25",
        "budget.epochs=3",
        "log_every_steps=1",
        "checkpoint.validate_every_epochs=3",
    ),
    *("encoder.image.options.depth=1", "encoder.text.depth=1", "data.styles=[blob]", "hardware.threads=1"),
    *("cache.directory=cache", "cache.dtype=float32", "evaluate=false"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _in_it(home, monkeypatch):
    monkeypatch.chdir(home)


def train(monkeypatch, name: str, *overrides: str) -> tuple[list[float], dict]:
    """Return the losses of a run's steps and its `run.json`."""
    monkeypatch.setattr("sys.argv", ["mmexp", "train", *TINY, f"hydra.run.dir={name}", *overrides])
    assert _main() == 0
    with (Path(name) / "metrics.csv").open() as stream:
        losses = [float(row["train/loss"]) for row in csv.DictReader(stream) if row.get("train/loss")]
    return losses, json.loads((Path(name) / "run.json").read_text())


@pytest.fixture(scope="module")
def start(home) -> str:
    """A run whose weights the others start from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        train(patch, "start", "budget.epochs=1", "fusion=none", "objective=contrastive")
    return "init_from=start"


# Which rows a fraction leaves is drawn by the seed.
WHOLE = ("data.fraction=null", "data.batch_size=256")
FROZEN = ("adapter=frozen", "task=finetune", "variation.views=2", "variation.seed=5")


@pytest.mark.parametrize(
    "choices",
    [
        ("fusion=none", "objective=contrastive"),
        ("fusion=concat",),
        ("fusion=xattn", "augmentation=[geometry,colour]"),
        ("fusion=none", "objective=[contrastive,bag_of_words]", "data.num_workers=1"),
        ("fusion=none", "objective=classify", "objective.classify.source=image"),
        ("fusion=none", "objective=[contrastive,masked]"),
    ],
    ids=" ".join,
)
def test_losses_are_those_of_computing_it_each_time(monkeypatch, start, tmp_path, choices):
    live, told = train(monkeypatch, str(tmp_path / "live"), start, *FROZEN, *choices, "cache.enabled=false")
    assert "cache" not in told
    kept, told = train(monkeypatch, str(tmp_path / "kept"), start, *FROZEN, *choices)
    assert told["cache"]["bytes"] > 0
    assert kept == pytest.approx(live, rel=1e-4)
    assert len(kept) >= 9


LAST = ("encoder.image.options.depth=2", "encoder.text.depth=2")


@pytest.fixture(scope="module")
def deep(home) -> str:
    """As `start`, with a block more, so that one is below the last."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        train(patch, "deep", *LAST, "budget.epochs=1", "fusion=none", "objective=contrastive")
    return "init_from=deep"


@pytest.mark.parametrize(
    "choices",
    [
        ("adapter=last_k", "fusion=none", "objective=contrastive"),
        ("adapter=lora", "adapter.last=1", "fusion=concat", "augmentation=[geometry]"),
        ("adapter=last_k", "fusion=none", "objective=[contrastive,masked]", "data.num_workers=1"),
        ("adapter=last_k", "fusion=xattn", "hardware.micro_batch_size=24"),
    ],
    ids=" ".join,
)
def test_what_lies_below_the_last_blocks_is_computed_once(monkeypatch, deep, tmp_path, choices):
    common = (deep, *LAST, *FROZEN[1:], *choices)
    live, told = train(monkeypatch, str(tmp_path / "live"), *common, "cache.enabled=false")
    assert "cache" not in told
    kept, told = train(monkeypatch, str(tmp_path / "kept"), *common)
    assert len(told["cache"]["entries"]) == 6, "two views of train and val, of each tower"
    assert kept == pytest.approx(live, rel=1e-4)


def test_runs_of_other_ranks_share_what_lies_below_and_what_does_not_fit_is_left(monkeypatch, deep, capsys):
    common = (
        deep,
        *LAST,
        *FROZEN[1:],
        "variation.seed=6",
        "fusion=none",
        "objective=contrastive",
        "adapter=lora",
        "adapter.last=1",
    )
    first = train(monkeypatch, "rank4", *common)[1]["cache"]["entries"]
    assert "frozen: image up to model.blocks.0, text up to blocks.0" in capsys.readouterr().out
    assert train(monkeypatch, "rank2", *common, "adapter.rank=2")[1]["cache"]["entries"] == first
    assert train(monkeypatch, "little", *common, "cache.max_bytes=1e4")[1]["cache"]["entries"] == []
    assert "it takes more than cache.max_bytes=1e+04" in capsys.readouterr().out


def test_a_second_run_of_another_seed_finds_it_all(monkeypatch, start, capsys):
    start = (start, *WHOLE)
    fusions = [
        train(monkeypatch, f"seed{i}", *start, *FROZEN, "fusion=concat", f"seed={i}")[1]["cache"] for i in (0, 1)
    ]
    assert fusions[0]["entries"] == fusions[1]["entries"]
    monkeypatch.setattr(FrozenPart, "__call__", lambda *_: pytest.fail("computed again"))
    monkeypatch.setattr("mmexp.frozen.Keeping.served", lambda self, batch: batch)
    train(monkeypatch, "seed2", *start, *FROZEN, "fusion=concat", "seed=2")


@pytest.mark.parametrize(
    "other", ["variation.seed=6", "augmentation=none", "data.locale=de", "cache.dtype=float16", "seed=9"]
)
def test_what_it_depends_on_is_in_its_name(monkeypatch, start, other):
    # A single objective, so that the seed draws no fresh tower.
    common = (start, *FROZEN, "fusion=none", "objective=contrastive", "budget.epochs=1", *WHOLE)
    first = train(monkeypatch, "first", *common)[1]["cache"]["entries"]
    second = train(monkeypatch, "second", *common, other)[1]["cache"]["entries"]
    assert (set(first) == set(second)) == (other == "seed=9")


def test_without_a_number_of_views_only_evaluation_sets_are_kept(monkeypatch, start, home):
    told = train(monkeypatch, "new", start, *FROZEN, "variation.views=null", "fusion=none", "objective=contrastive")[1]
    manifests = [json.loads((home / "cache" / key / "entry.json").read_text()) for key in told["cache"]["entries"]]
    assert {manifest["about"]["split"] for manifest in manifests} == {"val"}  # evaluate=false


def test_where_nothing_varies_training_samples_are_kept_without_being_asked_for(
    monkeypatch, start, home, tmp_path, capsys
):
    monkeypatch.setitem(globals(), "TINY", [choice for choice in TINY if "styles" not in choice])
    # The text tower: only pictures are augmented, and the table has one caption a row.
    rows = tmp_path / "rows"
    rows.mkdir()
    for i in range(24):
        Image.effect_noise((32, 32), 90 + i).convert("RGB").save(rows / f"{i}.png")
        (rows / f"{i}.txt").write_text(f"noise number {i}")
    table = ("data=table", f"data.train={rows}", "data.fraction=null", "data.batch_size=8", "budget.epochs=8")
    common = (start, *FROZEN, "variation.views=null", "fusion=none", "objective=contrastive", *table)

    def kept(name: str, *choices: str) -> tuple[set, list[float]]:
        capsys.readouterr()
        losses, record = train(monkeypatch, str(tmp_path / name), *common, *choices)
        manifests = [
            json.loads((home / "cache" / key / "entry.json").read_text()) for key in record["cache"]["entries"]
        ]
        return {(manifest["about"]["part"], manifest["about"]["split"]) for manifest in manifests}, losses

    found, losses = kept("geometry")
    assert found == {("text", "train"), ("text", "val"), ("image", "val")}
    printed = capsys.readouterr().out
    assert "frozen: text of train, val; image of val: computed once" in printed.replace(
        "image of val; text of train, val", "text of train, val; image of val"
    )
    assert "frozen: image runs at every training step, since augmentation 'geometry' varies its input" in printed
    assert "variation.views=4 repeats 4 variants of each row instead" in printed
    live = train(monkeypatch, str(tmp_path / "live"), *common, "cache.enabled=false")[0]
    assert losses == pytest.approx(live, rel=1e-4)
    found, losses = kept("plain", "augmentation=none")
    assert found == {(part, split) for part in ("text", "image") for split in ("train", "val")}
    assert "runs at every training step" not in capsys.readouterr().out
    live = train(monkeypatch, str(tmp_path / "plain_live"), *common, "augmentation=none", "cache.enabled=false")[0]
    assert losses == pytest.approx(live, rel=1e-4)


def test_a_live_and_a_kept_teacher_give_the_same_losses(monkeypatch, start, home):
    common = (
        *("task=distill", "teacher=start", "objective=[contrastive,distill]", "fusion=none"),
        *("variation.views=2", "encoder.image.image_size=32"),
    )
    live = train(monkeypatch, "live_teacher", *common, "cache.enabled=false")[0]
    kept = train(monkeypatch, "kept_teacher", *common)[0]
    half, told = train(monkeypatch, "half_teacher", *common, "cache.dtype=float16")
    assert kept == pytest.approx(live, rel=1e-4)
    assert half == pytest.approx(live, rel=1e-3)
    about = json.loads((home / "cache" / told["cache"]["entries"][0] / "entry.json").read_text())["about"]
    assert about["part"] == "teacher"


def test_mixed_rows_are_refused(monkeypatch, start, capsys):
    monkeypatch.setattr(
        "sys.argv", ["mmexp", "train", *TINY, start, *FROZEN, "augmentation=mixup", "hydra.run.dir=mixed"]
    )
    assert _main() == 2
    assert "augmentation 'mixup' mixes the rows of a batch" in capsys.readouterr().err


def test_the_cache_is_listed_and_removed(monkeypatch, start, capsys, home):
    train(monkeypatch, "listed", start, *FROZEN, "fusion=none", "objective=contrastive")

    def command(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["mmexp", "cache", *arguments])
        capsys.readouterr()
        status = _main()
        said = capsys.readouterr()
        return status, said.out + said.err

    status, listed = command("ls", "cache.directory=cache")
    assert status == 0
    assert "image (TimmImage)" in listed
    assert command("rm", "cache.directory=cache")[0] == 2
    status, said = command("rm", "zz", "cache.directory=cache")
    assert (status, "begins with 'zz'" in said) == (2, True)
    assert "removed" in command("rm", "all", "cache.directory=cache")[1]
    assert "keeps nothing" in command("ls", "cache.directory=cache")[1]
