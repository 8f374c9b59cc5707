"""What runs with adapters leave behind: others start from it, go on with it, are taught by it."""

import csv
import json
from pathlib import Path

import pytest
import torch

from mmexp import build
from mmexp.cli import main
from mmexp.weights import read_weights

TINY = [
    *("data.batch_size=64", "budget.steps=4", "log_every_steps=1", "checkpoint.every_steps=2", "hardware.threads=1"),
    *("encoder.image.options.depth=1", "encoder.text.depth=1", "data.styles=[blob]", "evaluate=false"),
    *("cache.directory=cache", "cache.dtype=float32", "fusion=none", "objective=contrastive"),
]
RESTING = ("optimizer.lr=1e-20",)  # the steps of which nothing is to be seen
UNMERGED = ("adapter=bottleneck", "adapter/text=p_tuning", "adapter.text.hidden=8")


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("home"))
        train(patch, "start")
        train(patch, "unmerged", "init_from=start", *UNMERGED)
        yield


def run(patch, *overrides: str) -> int:
    patch.setattr("sys.argv", ["mmexp", "train", *TINY, *overrides])
    return main()


def train(patch, name: str, *overrides: str) -> dict:
    """Return the `run.json` of a run."""
    assert run(patch, f"hydra.run.dir={name}", *overrides) == 0
    return json.loads((Path(name) / "run.json").read_text())


def losses(name: str) -> list[float]:
    with (Path(name) / "metrics.csv").open() as stream:
        return [float(row["train/loss"]) for row in csv.DictReader(stream) if row.get("train/loss")]


def vectors(name: str) -> dict[str, torch.Tensor]:
    """Return what a restored run says of a few captions and pictures."""
    model, heads = build.restore(Path(name))
    model.eval()
    pixels = torch.randint(256, (3, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    batch = {"image": {"pixels": pixels}, "text": model.encoders["text"].prepare(["a cat", "red", "the moon"])}
    with torch.no_grad():
        return heads["contrastive"].embed(model.encode(batch))


def test_what_cannot_be_merged_is_restored_with_its_layers(monkeypatch):
    names = read_weights(build.best_checkpoint(Path("unmerged")))
    own = [name for name in names if ".adapter." in name]
    assert any(".image.adapter.bottleneck." in name for name in own)
    assert any(".text.adapter.p_tuning." in name for name in own)
    model, _ = build.restore(Path("unmerged"))
    assert {f"model.{name}" for name in model.state_dict() if ".adapter." in name} == set(own)
    before = vectors("unmerged")
    with torch.no_grad():
        stripped, heads = build.restore(Path("start"))
        stripped.load_state_dict(
            {n.removeprefix("model."): t for n, t in names.items() if n.startswith("model.")}, strict=False
        )
    batch = {"text": stripped.encoders["text"].prepare(["a cat", "red", "the moon"])}
    bare = heads["contrastive"].embed(stripped.eval().encode(batch))["text"]
    assert not torch.allclose(bare, before["text"], atol=1e-4), "the layers matter"


def test_the_same_adapter_goes_on_with_the_layers_and_another_is_refused(monkeypatch, capsys):
    train(monkeypatch, "on", "init_from=unmerged", *UNMERGED, *RESTING)
    there, here = vectors("unmerged"), vectors("on")
    for modality, vector in there.items():
        torch.testing.assert_close(here[modality], vector)
    for other in ("adapter=full", "adapter=lora", "adapter/text=p_tuning"):
        assert run(monkeypatch, "hydra.run.dir=other", "init_from=unmerged", other) == 2
        told = capsys.readouterr().err
        assert "unmerged: encoders.image has layers of adapter bottleneck there" in told
        assert "Choose adapter/image=bottleneck" in told
        assert not Path("other").exists()


def test_a_run_with_layers_of_its_own_goes_on_as_if_it_had_not_been_interrupted(monkeypatch):
    train(monkeypatch, "whole", "init_from=start", *UNMERGED)
    train(monkeypatch, "broken", "init_from=start", *UNMERGED, "budget.steps=2", "schedule=constant")
    train(monkeypatch, "straight", "init_from=start", *UNMERGED, "schedule=constant")
    train(monkeypatch, "broken", "init_from=start", *UNMERGED, "schedule=constant", "resume=auto")
    assert losses("broken") == losses("straight")
    one, other = (
        torch.load(f"{name}/checkpoints/last.ckpt", weights_only=True)["state_dict"] for name in ("broken", "straight")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("adapter", ["dora", "ia3"])
def test_what_can_be_merged_is_merged_wherever_it_is_read(monkeypatch, adapter):
    train(monkeypatch, adapter, "init_from=start", f"adapter={adapter}", "adapter/text=bottleneck", "optimizer.lr=1e-2")
    model, _ = build.restore(Path(adapter))
    names = set(build.restore(Path("start"))[0].encoders["image"].state_dict())
    assert set(model.encoders["image"].state_dict()) == names
    # A run that starts from there finds plain weights of pictures, and the layers of the texts.
    train(monkeypatch, f"{adapter}_on", f"init_from={adapter}", "adapter=frozen", "adapter/text=bottleneck", *RESTING)
    there, here = vectors(adapter), vectors(f"{adapter}_on")
    for modality, vector in there.items():
        torch.testing.assert_close(here[modality], vector, atol=1e-5, rtol=1e-5)


def test_a_teacher_has_its_layers_and_what_stands_behind_its_towers(monkeypatch):
    train(monkeypatch, "aligned", "init_from=start", "adapter=alignment", "optimizer.lr=1e-2")
    config = build.run_config(Path("aligned")) | {
        "teacher": "aligned",
        "objective": {"x": {"_target_": "mmexp.objectives.distill.Distill"}},
    }
    teacher = build.teacher(config, ["text"])
    assert list(teacher.model.alignment) == ["text"]
    model, heads = build.restore(Path("aligned"))
    batch = {"text": model.encoders["text"].prepare(["a cat", "red"])}
    with torch.no_grad():
        wanted = heads["contrastive"].embed(model.eval().encode(batch))["text"]
        torch.testing.assert_close(teacher(batch)["vectors/text"], wanted)
        assert not torch.allclose(
            model.encode(batch)["text"].pooled, model.encoders["text"](batch["text"]).pooled, atol=1e-4
        )


@pytest.mark.parametrize(
    ("choices", "parts"),
    [
        (("adapter/image=lora", "adapter/text=frozen"), {"text"}),
        (("adapter=alignment",), {"image", "text"}),
        (("adapter=lit",), {"image"}),
        (("adapter=bitfit", "adapter/image=alignment"), {"image"}),
    ],
    ids=lambda value: " ".join(sorted(value)),
)
def test_the_outputs_of_frozen_towers_are_kept(monkeypatch, tmp_path, choices, parts):
    views = ("init_from=start", "variation.views=1", "variation.seed=5", *choices)
    live, kept = str(tmp_path / "live"), str(tmp_path / "kept")
    train(monkeypatch, live, *views, "cache.enabled=false")
    told = train(monkeypatch, kept, *views)
    entries = [
        json.loads((Path("cache") / key / "entry.json").read_text())["about"] for key in told["cache"]["entries"]
    ]
    assert {about["part"] for about in entries if about["split"] == "train"} == parts
    assert losses(kept) == pytest.approx(losses(live), rel=1e-4)


def test_a_probe_trains_its_head_alone(monkeypatch, capsys):
    chosen = ("adapter=probe", "objective=classify", "objective.classify.source=image")
    told = train(monkeypatch, "probe", "init_from=start", *chosen)
    assert told["parameters"]["trainable"] == 9 * 192 + 9
    one, other = (read_weights(build.best_checkpoint(Path(name))) for name in ("start", "probe"))
    shared = [name for name in other if name.startswith("model.")]
    assert shared and all(torch.equal(one[name], other[name]) for name in shared)
    fused = ("adapter=probe", "objective=classify", "fusion=concat")
    assert run(monkeypatch, "hydra.run.dir=refused", "init_from=start", *fused) == 2
    assert "this adapter needs trained weights, and fusion has none" in capsys.readouterr().err


def test_a_part_that_was_asked_for_needs_weights(monkeypatch, capsys):
    assert run(monkeypatch, "hydra.run.dir=refused", "encoder.base=null", "adapter/image=lora") == 2
    told = capsys.readouterr().err
    assert "encoders.image has none" in told and "adapter/image=full" in told
    told = train(monkeypatch, "half", "init_from=start", "adapter/image=frozen")
    assert 0 < told["parameters"]["trainable"] < told["parameters"]["total"]


@pytest.mark.parametrize("objective", ["caption", "autoencoder", "prefix_lm"])
def test_prompts_in_texts_leave_a_decoder_as_long_as_it_was_built(monkeypatch, objective):
    chosen = ("adapter/text=prompt_tuning", f"objective=[contrastive,{objective}]")
    more = ("fusion=concat",) if objective == "autoencoder" else ()
    train(monkeypatch, objective, "init_from=start", "budget.steps=1", *chosen, *more)
    stored = read_weights(build.best_checkpoint(Path(objective)))
    model, heads = build.restore(Path(objective))
    restored = torch.nn.ModuleDict({"model": model, "objectives": torch.nn.ModuleDict(heads)}).state_dict()
    assert all(torch.equal(tensor, restored[name]) for name, tensor in stored.items())
