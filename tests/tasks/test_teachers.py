"""Which teachers there are, and a run that is its own."""

import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from stand_ins import TinyImage, TinyText, batch_of

from mmexp import build, cli
from mmexp.compose import compose
from mmexp.encoders.open_clip_space import open_clip_model, weights_named
from mmexp.errors import RequestError
from mmexp.fusion.none import NoFusion
from mmexp.model import Model
from mmexp.objectives.contrastive import Contrastive
from mmexp.objectives.distill import Distill
from mmexp.tasks.self_distill import SelfDistill
from mmexp.teacher import Teacher
from mmexp.weights import read_weights

SHORT = ("budget.steps=4", "data.batch_size=8", "data.styles=[blob]", "evaluate=false")
SMALL = (*SHORT, "fusion=none", "encoder.image.options.depth=1", "encoder.text.depth=1")


def train(monkeypatch, *arguments: str) -> int:
    """Run `mmexp train` in this process."""
    monkeypatch.delenv("MMEXP_STAMP", raising=False)
    monkeypatch.setattr("sys.argv", ["mmexp", "train", *arguments])
    return cli.main()


def own_pupil(decay: float) -> SelfDistill:
    torch.manual_seed(0)
    model = Model({"image": TinyImage(), "text": TinyText()}, NoFusion({}))
    heads = {"contrastive": Contrastive(model.shape(), embed_dim=5)}
    teacher = deepcopy(Teacher(model, heads, ("vectors",)))
    heads["distill"] = Distill(model.shape(teacher=teacher.shape()))
    return SelfDistill(model, heads, {}, torch.nn.Identity(), torch.optim.SGD, None, teacher=teacher, decay=decay)


def test_the_teacher_is_the_moving_average_of_its_student():
    task = own_pupil(decay=0.9)
    names = [n for n, _ in task.named_parameters() if not n.startswith(("teacher", "objectives.distill"))]
    average = {name: task.get_parameter(name).detach().clone() for name in names}
    for step in range(3):
        with torch.no_grad():
            for name in names:
                task.get_parameter(name).add_(torch.randn(task.get_parameter(name).shape) * (step + 1))
        task.follow()
        average = {name: 0.9 * there + 0.1 * task.get_parameter(name).detach() for name, there in average.items()}
    for name in names:
        torch.testing.assert_close(task.get_parameter(f"teacher.{name}"), average[name])
        assert not torch.equal(average[name], task.get_parameter(name))
    assert not any(name.startswith("teacher.objectives.distill") for name in task.state_dict())


def test_a_teacher_of_its_own_stays_in_evaluation_mode_and_out_of_the_optimizer():
    task = own_pupil(decay=0.9).train()
    assert task.model.training and not any(module.training for module in task.teacher.modules())
    assert not any(p.requires_grad for p in task.teacher.parameters())
    said = task.heard(batch_of())
    assert set(said) == {"vectors/image", "vectors/text"} and not said["vectors/image"].requires_grad


def test_a_run_teaches_itself_exactly_and_leaves_its_teacher_behind(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # Two steps an epoch: a resumed run goes on with the next epoch.
    tiny = (
        "--config-dir",
        str(Path(__file__).parents[1] / "outside" / "conf"),
        "trust=[outside,stand_ins]",
        "encoder=tiny",
        "data=squares",
    )
    itself = ("task=self_distill", "objective=[contrastive,distill]", "task.decay=0.5", *tiny, "fusion=none")
    itself += ("budget.steps=4", "hardware.threads=1", "hardware.precision=32-true", "evaluate=false")
    assert train(monkeypatch, *itself, "hydra.run.dir=whole", "checkpoint.every_steps=2", "checkpoint.keep=9") == 0
    stored = torch.load("whole/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert [name for name in stored if name.startswith("teacher.model.")]
    assert not [name for name in read_weights(Path("whole/checkpoints/last.ckpt")) if name.startswith("teacher.")]
    halfway = Path("half/checkpoints/last.ckpt")
    halfway.parent.mkdir(parents=True)
    (step,) = Path("whole/checkpoints").glob("step-2.ckpt")
    halfway.write_bytes(step.read_bytes())
    assert train(monkeypatch, *itself, "hydra.run.dir=resumed", "resume=half") == 0
    again = torch.load("resumed/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(tensor, again[name]) for name, tensor in stored.items())
    _, heads = build.restore(Path("whole"))
    assert list(heads) == ["contrastive", "distill"]
    capsys.readouterr()
    assert train(monkeypatch, *itself, "teacher=whole") == 2
    assert "is its own teacher" in capsys.readouterr().err


def test_every_kind_at_once_from_a_run_and_what_stays_behind(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert (
        train(
            monkeypatch,
            *SMALL,
            "objective=[contrastive,classify]",
            "objective.classify.source=image",
            "hydra.run.dir=t",
        )
        == 0
    )
    before = Path("t/checkpoints/last.ckpt").read_bytes()
    kinds = "distill,distill_classes,distill_features,distill_relations,distill_attention"
    student = ("objective.distill_classes.source=image", "encoder.image.image_size=32", "encoder.text.dim=96")
    asked = (
        *SMALL,
        *student,
        f"objective=[contrastive,{kinds}]",
        "balance=uncertainty",
        "objective.distill_features.hidden=24",
    )
    assert train(monkeypatch, "task=distill", "teacher=t", *asked, "augmentation=mixup", "hydra.run.dir=s") == 0
    assert Path("t/checkpoints/last.ckpt").read_bytes() == before
    _, heads = build.restore(Path("s"))
    assert heads["distill_features"].projectors["text"][2].out_features == 192
    capsys.readouterr()
    assert (
        train(
            monkeypatch,
            *SMALL,
            *student[1:],
            "objective=contrastive",
            "init_from=s",
            "hydra.run.dir=n",
            "evaluate=true",
        )
        == 0
    )
    told = capsys.readouterr().out.splitlines()
    assert any(line.startswith("  loaded  objectives.contrastive") for line in told)
    assert any(line.startswith("  left    objectives.distill_features") for line in told)
    assert not any(line.startswith("  loaded") and "distill" in line for line in told)
    assert train(monkeypatch, "task=distill", "teacher=t", *SMALL, "objective=distill_captions") == 2
    assert "writes no texts" in capsys.readouterr().err
    # A teacher that no objective asks is not loaded: the student alone.
    assert train(monkeypatch, "task=distill", "teacher=nowhere", *SMALL, "objective=contrastive") == 0


def test_the_bundled_base_teaches(tmp_path):
    model, heads = build.restore(build.ASSETS / "base" / "vit.safetensors")
    weights = read_weights(build.ASSETS / "base" / "vit.safetensors")
    stored = weights["objectives.contrastive.heads.text.weight"].float()
    assert torch.equal(heads["contrastive"].heads["text"].weight, stored)
    assert Teacher(model, heads, ("vectors",)).shape().widths == {"vectors/image": 256, "vectors/text": 256}
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((build.ASSETS / "base" / "vit.safetensors").read_bytes())
    with pytest.raises(RequestError, match=r"there is no alone\.yaml beside it"):
        build.restore(alone)


VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 12, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 1}
TIMM = {"timm_model_name": "resnet10t", "timm_model_pretrained": False, "timm_pool": "avg", "timm_proj": "linear"}


@pytest.mark.parametrize("vision", [VISION, {**TIMM, "image_size": 32}], ids=["vit", "timm"])
def test_open_clips_vectors_are_its_own(tmp_path, vision):
    import open_clip
    from PIL import Image
    from safetensors.torch import save_file

    config = {"embed_dim": 20, "vision_cfg": vision, "text_cfg": TEXT}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    theirs = open_clip.CustomTextCLIP(**config).eval()
    save_file(theirs.state_dict(), tmp_path / "open_clip_model.safetensors")
    encoders, space = open_clip_model(f"local-dir:{tmp_path}", ("image", "text"))
    teacher = Teacher(Model(encoders, NoFusion({})), {"open_clip": space}, ("vectors", "pooled")).eval()
    pictures = [Image.effect_noise((32, 32), 90 + i).convert("RGB") for i in range(3)]
    batch = {"image": encoders["image"].prepare(pictures), "text": encoders["text"].prepare(["a", "a red fox", "two"])}
    with torch.no_grad():
        said = teacher(batch)
        pixels = encoders["image"]._normalised(batch["image"])
        ids = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(["a", "a red fox", "two"])
        torch.testing.assert_close(
            said["vectors/image"], theirs.encode_image(pixels, normalize=True), atol=1e-5, rtol=0
        )
        torch.testing.assert_close(said["vectors/text"], theirs.encode_text(ids, normalize=True), atol=1e-5, rtol=0)
    assert said["vectors/text"].norm(dim=-1) == pytest.approx(1, abs=1e-5)
    assert teacher.shape().of("vectors") == {"image": 20, "text": 20}


def test_open_clip_weights_are_named():
    assert weights_named("ViT-B-32/laion2b_s34b_b79k") == ("ViT-B-32", "laion2b_s34b_b79k")
    assert weights_named("ViT-B-32@/a/b.pt") == ("ViT-B-32", "/a/b.pt")
    assert weights_named("local-dir:/a/b") == ("local-dir:/a/b", None)
    with pytest.raises(RequestError, match="names no weights"):
        weights_named("ViT-B-32")


@pytest.mark.parametrize("recipe", ["distill", "distillation"])
def test_the_student_of_the_recipes_is_at_most_a_quarter_of_its_teacher(recipe, monkeypatch):
    monkeypatch.setenv("MMEXP_STAMP", "now")

    def weights(name: str) -> int:
        config = OmegaConf.to_container(compose([f"experiment={name}", "name=x"]), resolve=False)
        return sum(p.numel() for p in build.model(config, ["image", "text"]).parameters())

    assert weights(recipe) <= weights("dual") / 4
