"""A tower taken from another run: its weights, what is said of them, and what is refused."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from mmexp import build, cli
from mmexp.compose import compose, resolved
from mmexp.errors import RequestError
from mmexp.shapes import Supervision, TeacherShape
from mmexp.weights import read_weights

TINY = (
    *("data=table", "data.train=captions.csv", "data.batch_size=8", "data.num_workers=0", "augmentation=none"),
    *("encoder=convnext", "encoder.image.image_size=32", "encoder.image.options.dims=[8,8,16,16]"),
    *("encoder.image.options.depths=[1,1,1,1]", "encoder.text.dim=24", "encoder.text.depth=1", "hardware.threads=1"),
    *("fusion=none", "objective=contrastive", "optimizer.lr=1e-2"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three runs: one from scratch, LoRA on it, and one of other towers."""
    here = tmp_path_factory.mktemp("towers")
    lines = ["image,caption,label"]
    for number in range(24):
        colour = ("red", "green", "blue")[number % 3]
        Image.new("RGB", (32, 20 + number), colour).save(here / f"{number}.png")
        lines.append(f"{number}.png,a {colour} thing {number},{colour}")
    (here / "captions.csv").write_text("\n".join(lines))
    assert mmexp(here, "train", "budget.steps=3", "hydra.run.dir=base") == 0
    lora = ("adapter=lora", "init_from=base", "task=finetune")
    assert mmexp(here, "train", *lora, "budget.steps=3", "hydra.run.dir=lora") == 0
    return here


def mmexp(folder: Path, command: str, *overrides: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MMEXP_STAMP", raising=False)
        patch.setattr(sys, "argv", ["mmexp", command, *TINY, "evaluate=false", *overrides])
        try:
            return cli.main()
        finally:
            os.environ.pop("MMEXP_STAMP", None)


def assembled(folder: Path, *overrides: str) -> build.Assembled:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config, _ = resolved(compose([*TINY, *overrides]))
        return build.assemble(config, ["image", "text"], Supervision(), TeacherShape())


def test_one_tower_comes_from_the_run_and_the_other_from_the_seed(folder):
    fresh, made = assembled(folder), assembled(folder, "encoder.image.weights=base")
    stored = read_weights(build.best_checkpoint(folder / "base"))
    for name, tensor in made.model.state_dict().items():
        wanted = stored[f"model.{name}"] if name.startswith("encoders.image") else fresh.model.state_dict()[name]
        assert torch.equal(tensor, wanted), name
    assert set(made.towers) == {"image"} and made.towers["image"].startswith("base, ")


@pytest.mark.parametrize("place", ["lora", "lora/checkpoints/last.ckpt"])
def test_what_an_adapter_had_added_is_merged(folder, place):
    theirs = build.restore(folder / place)[0].encoders["text"].state_dict()
    before = read_weights(build.best_checkpoint(folder / "base"))
    changed = [n for n, tensor in theirs.items() if not torch.equal(tensor, before[f"model.encoders.text.{n}"])]
    assert changed, "else this would test nothing"
    ours = assembled(folder, f"encoder.text.weights={place}").model.encoders["text"].state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_what_is_said_of_one_tower_goes_before_what_is_said_of_all(folder):
    made = assembled(folder, "init_from=base", "encoder.text.weights=lora")
    theirs = build.restore(folder / "lora")[0].encoders["text"].state_dict()
    assert all(torch.equal(made.model.encoders["text"].state_dict()[n], t) for n, t in theirs.items())
    assert set(made.towers) == {"text"}


def test_an_adapter_takes_such_a_tower_for_a_trained_one(folder):
    made = assembled(folder, "adapter=frozen", "encoder.image.weights=base", "encoder.text.weights=lora")
    assert made.loaded is None and not any(p.requires_grad for p in made.model.parameters())


def test_the_run_names_its_parents_and_restores_without_them(folder, capsys):
    run = ("encoder.image.weights=base", "encoder.text.weights=lora/checkpoints/last.ckpt")
    assert mmexp(folder, "train", *run, "budget.steps=1", "hydra.run.dir=child") == 0
    said = capsys.readouterr().out
    assert "weights of encoder image: base, " in said
    parents = json.loads((folder / "child" / "run.json").read_text())["parents"]
    assert [parent["role"] for parent in parents] == ["encoder.image.weights", "encoder.text.weights"]
    facts = json.loads((folder / "base" / "run.json").read_text())
    assert parents[0]["fingerprint"] == facts["fingerprint"] and len(parents[0]["weights"]) == 16
    assert mmexp(folder, "plan", *run) == 0
    assert "but encoder text from" in capsys.readouterr().out
    (folder / "base").rename(folder / "away")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            restored = build.restore(Path("child"))[0].state_dict()
    finally:
        (folder / "away").rename(folder / "base")
    stored = read_weights(build.best_checkpoint(folder / "child"))
    assert all(torch.equal(tensor, stored[f"model.{name}"]) for name, tensor in restored.items())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["encoder.image.weights=bas"], "encoder.image.weights: 'bas': no such weights file. Did you mean 'base'?"),
        (["encoder.text.weights=captions.csv"], "encoder.text.weights: 'captions.csv' cannot be read as weights"),
        (["encoder.text.weights=."], "encoder.text.weights: '.' is not a run directory"),
        (["encoder.image.weights=nowhere.pth"], "weights: there is no file 'nowhere.pth'"),
        (
            ["encoder.text.dim=12", "encoder.text.weights=base"],
            "the tower of 'base' does not fit: positions is (48, 24) there and (48, 12) here.",
        ),
        (
            ["encoder.image.weights=base", "+encoder.image.settings={crop_pct: 0.5}"],
            "encoder.image.weights: 'base' prepares its images otherwise: settings.crop_pct is 1 there and 0.5 here",
        ),
        (
            ["encoder.text.heads=2", "encoder.text.weights=base"],
            "the tower of 'base' does not fit: it has 3 heads of attention there and 2 here.",
        ),
        (
            ["encoder.text.positions=rotary", "encoder.text.weights=base"],
            "the tower of 'base' does not fit: positions_rotary is not among the weights.",
        ),
        (["encoder.image.weights=3"], "'encoder.image.weights' must be text or null"),
    ],
)
def test_a_wrong_request_gets_one_plain_line(folder, overrides, message, capsys):
    before = sorted(folder.rglob("*"))
    assert mmexp(folder, "train", *overrides, "hydra.run.dir=wrong") == 2
    error = capsys.readouterr().err
    assert message in error and error.strip().count("\n") == 0
    assert sorted(folder.rglob("*")) == before


def test_a_run_without_that_tower(folder, capsys):
    alone = (
        "data.columns.text=null",
        "objective=classify",
        "objective.classify.source=image",
        "data.columns.label=label",
    )
    assert mmexp(folder, "train", *alone, "budget.steps=1", "hydra.run.dir=pictures") == 0, capsys.readouterr().err
    assert mmexp(folder, "train", "encoder.text.weights=pictures", "hydra.run.dir=wrong") == 2
    assert "encoder.text.weights: 'pictures' has no text tower; it has image." in capsys.readouterr().err


def test_weights_below_a_prefix_are_loaded_and_it_is_reported(folder):
    stored = read_weights(build.best_checkpoint(folder / "base"))
    torch.save({f"module.{name}": tensor for name, tensor in stored.items()}, folder / "wrapped.pt")
    made = assembled(folder, "init_from=wrapped.pt")
    assert all(torch.equal(tensor, stored[f"model.{name}"]) for name, tensor in made.model.state_dict().items())
    assert "prefix 'module.' removed" in made.loaded.told()


def test_an_encoder_that_the_named_weights_do_not_fit_is_refused(folder):
    with pytest.raises(RequestError, match=r"encoders.text is there and does not fit.*encoder.image.weights=base"):
        assembled(folder, "init_from=base", "encoder.text.dim=48")


def test_a_checkpoint_that_lacks_weights_of_its_configuration_is_refused_in_one_line(folder, tmp_path):
    stored = read_weights(build.best_checkpoint(folder / "base"))
    (tmp_path / "w.yaml").write_text((folder / "base" / "config.yaml").read_text())
    torch.save({n: t for n, t in stored.items() if "blocks.0.fc1" not in n}, tmp_path / "w.pt")
    with pytest.raises(RequestError, match=r"missing \(model.encoders.text.blocks.0.fc1") as caught:
        build.restore(tmp_path / "w.pt")
    assert "\n" not in str(caught.value)
