"""Every file in conf/ composes and passes the checks that stand before building."""

from dataclasses import fields
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf, open_dict

from mmexp.compose import compose, override, resolved
from mmexp.config import GROUPS, check
from mmexp.data.loading import Loading

CONF = Path(__file__).parents[2] / "conf"
# What a choice needs beside itself.
TOGETHER = {
    "data=table": ["data.train=x.csv"],
    "fusion=none": ["objective=contrastive"],
    "objective=contrastive": ["fusion=none"],
    **{f"objective={name}": ["fusion=none"] for name in ("siglip", "triplet", "margin", "supcon")},
    "objective=distill": ["task=distill", "teacher=x", "fusion=none"],
    **{
        f"objective=distill_{kind}": ["task=distill", "teacher=x", "fusion=none"]
        for kind in ("contrastive", "features", "relations", "attention", "captions")
    },
    "objective=distill_classes": ["task=distill", "teacher=x"],
    "task=distill": ["objective=[matching,distill]", "teacher=x"],
    "task=self_distill": ["objective=[contrastive,distill]", "fusion=none"],
    "objective=masked": ["fusion=none"],
    "objective=masked_audio": ["fusion=none"],
    "objective=bag_of_words": ["fusion=none"],
    "objective=mae": ["fusion=none"],
    "objective=caption": ["fusion=none"],
    "objective=prefix_lm": ["fusion=none"],
    "objective=prompted": ["fusion=none"],
    "adapter=probe": ["fusion=none", "objective=classify", "objective.classify.source=image"],
    "encoder=timm": ["encoder.image.name=resnet18"],
    "encoder/image=timm": ["encoder.image.name=resnet18"],
    "encoder/image=huggingface": ["encoder.image.name=x"],
    "encoder/text=huggingface": ["encoder.text.name=x"],
    "encoder/audio=huggingface": ["encoder.audio.name=x"],
    "experiment=distill": ["teacher=x"],
    "experiment=distillation": ["teacher=x"],
    "data=table_sequence": ["data.tables=[x.csv]"],
    "task=continual": ["continual=plain"],
    **{f"continual={name}": ["task=continual"] for name in ("plain", "joint", "replay", "ewc", "lwf", "adapters")},
    "augmentation=rewrite": ["augmentation.rewrite.function=json.dumps"],
}


def parts() -> list[str]:
    found = []
    for group in (*GROUPS, "experiment"):
        for file in sorted((CONF / group).rglob("*.yaml")):
            found.append(f"{file.parent.relative_to(CONF)}={file.stem}")
    return found


@pytest.mark.parametrize("part", parts())
def test_every_part_composes(part, monkeypatch):
    whole = compose([part, *TOGETHER.get(part, [])])
    HydraConfig.instance().set_config(whole)
    choices = {group: str(choice) for group, choice in whole.hydra.runtime.choices.items()}
    with open_dict(whole):
        config = whole.copy()
        config.pop("hydra")
    check(OmegaConf.to_container(config, resolve=True), choices)


@pytest.mark.parametrize("part", parts())
def test_every_part_says_what_it_is(part):
    group, _, name = part.rpartition("=")
    lines = (CONF / group / f"{name}.yaml").read_text().splitlines()
    said = next(line for line in lines if "@package" not in line)
    assert said.startswith("# ") and len(said) > 8


@pytest.mark.parametrize("file", sorted((CONF / "data").glob("*.yaml")), ids=lambda file: file.stem)
def test_all_data_but_tasks_in_sequence_have_the_keys_that_are_shared(file):
    shared = {field.name for field in fields(Loading)}
    lacks = shared - set(OmegaConf.load(file))
    assert lacks == ({"without", "shots", "fraction", "by_length"} if file.stem.endswith("_sequence") else set())


@pytest.mark.parametrize("name", sorted(file.stem for file in (CONF / "encoder").glob("*.yaml")))
def test_every_set_of_encoders_has_towers_for_sounds_and_videos(name):
    whole = compose([f"encoder={name}", *TOGETHER.get(f"encoder={name}", [])])
    towers = {key: node for key, node in whole.encoder.items() if key != "base"}
    assert set(towers) == {"image", "text", "audio", "video"}
    assert all("weights" in node for node in towers.values())


@pytest.mark.parametrize("name", ["cnn", "coatnet", "convnext", "mobilenet", "resnet", "swin", "vit", "open_clip"])
def test_videos_are_read_by_these_encoders(name):
    from mmexp.build.parts import _encoder

    more = [
        "encoder/image@encoder.video.image=open_clip",
        "encoder.video.image.name=ViT-S-32-alt",
        "encoder.video.heads=4",
    ]
    whole = compose([f"encoder={name}", *(more if name == "open_clip" else [])])
    video = _encoder(OmegaConf.to_container(whole.encoder.video, resolve=True))
    assert video.modality == "video" and video.dim == video.image.dim


def test_what_becomes_of_a_configuration_changes_nothing_for_the_next():
    first = compose(["adapter/image=lora"])
    first.optimizer.lr = 7.0
    first.adapter.image.rank = 70
    second = compose(["adapter/image=lora"])
    assert second.optimizer.lr != 7.0 and second.adapter.image.rank != 70


@pytest.mark.parametrize(
    "text", ["0.1", "1e-3", "null", "true", "o/lr=0.1", "a b", "it's", "x[/red]y", "a\\", "b\\'c", ""]
)
def test_a_text_override_is_that_text(text):
    assert str(OverridesParser.create().parse_override(override("name", text)).value()) == text


@pytest.mark.parametrize(
    ("request_", "place", "alone"),
    [
        (["encoder=student", "encoder/text=minilm_offline"], "text", ["encoder/text=minilm_offline"]),
        (["encoder=student", "encoder/text=gru"], "text", ["encoder/text=gru"]),
        (["encoder=student", "encoder/image=cnn"], "image", ["encoder/image=cnn"]),
        (
            ["encoder=student", "encoder/image@encoder.video.image=cnn"],
            "video",
            ["encoder/image@encoder.video.image=cnn"],
        ),
        (["experiment=fusions", "encoder/text=minilm_offline"], "text", ["encoder/text=minilm_offline"]),
        (["experiment=easy_vqa", "encoder=vit"], "image", ["encoder=vit"]),
        (["experiment=moving", "encoder=resnet"], "video", ["encoder=resnet"]),
        (
            ["encoder=student", "encoder/text=bert", "encoder.text.context_length=9"],
            "text",
            ["encoder/text=bert", "encoder.text.context_length=9"],
        ),
    ],
    ids=str,
)
def test_keys_that_a_preset_sets_of_a_tower_do_not_reach_the_one_chosen_instead(request_, place, alone):
    whole, choices = resolved(compose(request_))
    check(whole, choices)
    assert whole["encoder"][place] == resolved(compose(alone))[0]["encoder"][place]


def test_a_preset_keeps_its_keys_of_the_towers_that_stay():
    student = resolved(compose(["encoder=student"]))[0]["encoder"]
    assert student["text"]["dim"] == 96 and student["image"]["options"]["embed_dim"] == 96
    swapped = resolved(compose(["encoder=student", "encoder/text=gru"]))[0]["encoder"]
    assert swapped["image"] == student["image"] and swapped["video"] == student["video"]
    same = resolved(compose(["encoder=student", "encoder/text=transformer"]))[0]["encoder"]
    assert same == student
