"""Weight decay acts on weights of layers and word vectors alone, in every adapter and every encoder that there is."""

import copy
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mmexp.adapters.alignment import Aligned, Alignment
from mmexp.adapters.bottleneck import Bottleneck
from mmexp.adapters.dora import DoRA
from mmexp.adapters.ia3 import IA3
from mmexp.adapters.lora import Lora
from mmexp.adapters.p_tuning import PTuning
from mmexp.adapters.prefix_tuning import PrefixTuning
from mmexp.adapters.prompt_tuning import PromptTuning
from mmexp.build.making import make
from mmexp.encoders.recurrent import Recurrent
from mmexp.encoders.timm_image import TimmImage
from mmexp.encoders.transformer import Transformer
from mmexp.fusion.graph import Messages
from mmexp.objectives.contrastive import Contrastive
from mmexp.objectives.siglip import SigLip
from mmexp.shapes import ModelShape
from mmexp.training.decay import kinds_of
from mmexp.training.groups import parameter_groups
from mmexp.training.optimizer import adamw

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/adapters"))
from towers import tower  # noqa: E402

SPEC = importlib.util.spec_from_file_location("measure_encoders", ROOT / "scripts/measure_encoders.py")
measure: Any = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(measure)

# Every parameter of every choice is listed here by what it is: a name that fits no list, or two, fails the test.
WEIGHTS = r"""
    (.*\.)?(conv\w*|proj|fc\w*|qkv|proj|out_proj|reduction|downsample|shortcut|expand|pool|key|query|value|dense)(\.\d+)*\.weight
    (.*\.)?(conv\w*|downsample|stem|mlp|patch_embed|embed_conv)(\.\w+)*\.(conv|proj|fc\d?|c_fc|c_proj|c_attn|reduction|\d+)\.weight
    (.*\.)?(c_fc|c_proj|c_attn|in_proj|out_proj|patch_embed|turn|down|up|hear|say|fc1_g|fc1_x|w12|w3|gate|q_proj|k_proj|v_proj)\.weight
    (.*\.)?(in_proj_weight|weight_[ih]h_l0(_reverse)?|score|(lora_[AB]\.\w+\.weight))
    (.*\.)?mlp_head\.\d\.weight
    (.*\.)?transform\.\d+\.weight
    (.*\.)?heads\.\w+\.weight
    audio\.embed\.weight
    (.*\.)?bands\.weight
"""
WORDS = r"""
    text\.embed\.weight
    text\.model\.(embeddings\.word_embeddings|wte|token_embedding)\.weight
"""
NEVER = r"""
    (.*\.)?(bias|in_proj_bias|bias_[ih]h_l0(_reverse)?|[qv]_bias)
    (.*\.)?(bn\w*|ln\w*|norm\w*|layernorm\w*|LayerNorm|layer_norm\w*)(\.\d+)?(\.bn\d?)?\.weight
    (.*\.)?(gamma\w*|ls\w*|scale|lambda_\w+|pos_embed|positions|positional_embedding|position_embeddings)(\.weight)?
    (.*\.)?(cls_token|reg_token|class_embedding|distillation_token|token_type_embeddings\.weight|wpe\.weight)
    (.*\.)?(relative_position_bias_table|attn_pool\.latent|edges|log_scale)
    (.*\.)?(lora_magnitude_vector\.\w+\.weight|ia3_l\.\w+)
    (.*\.)?(prompt_tuning|p_tuning)\.vectors\.embedding\.weight
    (.*\.)?prefix_tuning\.encoder\.embedding\.weight
"""
LISTS = {"weight": WEIGHTS, "embedding": WORDS, "other": NEVER}


def listed(name: str) -> set[str]:
    """Return the lists that a name fits."""
    name = name.replace(".base_layer.", ".")  # peft's name for the layer that it wraps
    return {kind for kind, lines in LISTS.items() if any(re.fullmatch(line, name) for line in lines.split())}


def norms(module: nn.Module) -> set[str]:
    """Return the weights of layers that normalise, which some models keep in lists without a word for it."""
    return {
        f"{path}.weight"
        for path, part in module.named_modules()
        if re.search("norm|affine", type(part).__name__, re.IGNORECASE)
    }


def check(module: nn.Module) -> None:
    """Compare what is decided of each parameter with the lists, and the groups with both."""
    kinds, of_norms = kinds_of(module), norms(module)
    assert kinds.keys() >= {name for name, _ in module.named_parameters()}
    modality = getattr(module, "modality", "part")
    wanted = {name: {"other"} if name in of_norms else listed(f"{modality}.{name}") for name in kinds}
    assert {name: (kind, wanted[name]) for name, kind in kinds.items() if wanted[name] != {kind}} == {}
    for embeddings in (True, False):
        groups = parameter_groups(module, decay_embeddings=embeddings)
        still = {id(p) for group in groups if group.get("weight_decay") == 0 for p in group["params"]}
        for name, parameter in module.named_parameters():
            decays = kinds[name] == "weight" or (kinds[name] == "embedding" and embeddings)
            assert not parameter.requires_grad or (id(parameter) in still) != decays, name


@pytest.mark.parametrize(
    "choice", [c for c in measure.choices() if not re.search("clip|siglip|dinov|ast|audio/cnn", c)]
)
def test_every_parameter_of_an_encoder_is_listed(choice):
    """Those of CLIP, SigLIP, DINO, AST and PANNs are large; `test_towers_of_libraries_are_listed` has small ones."""
    from mmexp.errors import RequestError

    try:
        check(make(measure.settings(choice)))
    except RequestError as error:
        if not re.search("hub cannot be reached|neither a folder|pip install", str(error)):
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("kind", ["bert", "gpt", "open_clip_image", "open_clip_text", "eva", "swin"])
def test_towers_of_libraries_are_listed(kind, tmp_path):
    check(tower(kind, tmp_path))


def vit(**options: Any) -> TimmImage:
    return TimmImage(
        "vit_tiny_patch16_224", 32, options={"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, **options}
    )


ADAPTERS = {
    "lora": Lora(2),
    "dora": DoRA(2),
    "ia3": IA3(),
    "bottleneck": Bottleneck(4),
    "prompt_tuning": PromptTuning(2),
    "p_tuning": PTuning(2, hidden=8),
    "p_tuning by an LSTM": PTuning(2, "lstm", hidden=8),
    "prefix_tuning": PrefixTuning(2),
    "prefix_tuning by an MLP": PrefixTuning(2, hidden=8),
}


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)
@pytest.mark.parametrize(
    "make_tower", [vit, lambda: Transformer(24, 2, 2)], ids=["vision transformer", "text transformer"]
)
def test_every_parameter_of_an_adapter_is_listed(make_tower, adapter):
    tower = make_tower()
    adapter.apply(f"encoders.{tower.modality}", tower)
    check(tower)


def test_of_convolutions_magnitudes_and_factors_do_not_decay():
    for adapter in (DoRA(2), IA3()):
        tower = TimmImage("resnet10t", 32, options={"channels": [8, 8, 8, 8]})
        adapter.apply("encoders.image", tower)
        check(tower)


def test_alignments_fusions_and_objectives_are_listed():
    identity = Alignment().behind(8)
    assert kinds_of(identity) == {"turn.weight": "other", "turn.bias": "other"}
    shape = ModelShape({"image": 8, "text": 8}, 8)
    check(nn.ModuleDict({"mlp": Alignment("mlp", 4).behind(8)}))
    for part in (Messages(2, 8, 2), Contrastive(shape, embed_dim=4), SigLip(shape, embed_dim=4), Recurrent("lstm", 8)):
        check(part)


@pytest.mark.parametrize("kind", ["ia3", "alignment", "dora"])
def test_what_starts_from_the_identity_stays_there_where_nothing_is_learned(kind):
    torch.manual_seed(0)
    layer = Aligned(8, None) if kind == "alignment" else nn.Sequential(nn.Conv2d(3, 4, 1), nn.Linear(4, 8))
    if kind != "alignment":
        {"ia3": IA3, "dora": DoRA}[kind](targets=r"\d").apply("encoders.image", layer)
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    optimizer = adamw(parameter_groups(layer), lr=0.1, weight_decay=0.5)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moved = {name for name, p in layer.named_parameters() if not torch.equal(p, before[name])}
    assert all("lora_A" in name for name in moved), "lora_B is zero"
    assert bool(moved) == (kind == "dora"), "else this would test nothing"


@pytest.mark.parametrize("name", ["vit", "convnext", "resnet", "swin", "coatnet", "cnn", "efficientnet"])
def test_what_decays_and_at_which_rate_are_those_of_timm(name):
    from timm.optim._param_groups import param_groups_layer_decay

    encoder = make(measure.settings(f"image/{name}"))
    task = nn.Module()
    task.model = nn.Module()
    task.model.encoders = nn.ModuleDict({"image": encoder})
    task.head = nn.Linear(encoder.dim, 3)
    theirs = copy.deepcopy(encoder.model)
    theirs.reset_classifier(3)
    without = getattr(theirs, "no_weight_decay", set)()
    expected = {
        id(p): (group["lr_scale"], bool(group["weight_decay"]))
        for group in param_groups_layer_decay(theirs, 0.1, without, layer_decay=0.5)
        for p in group["params"]
    }
    found = {
        id(p): (group["lr_scale"], group.get("weight_decay") != 0)
        for group in parameter_groups(task, layer_decay=0.5)
        for p in group["params"]
    }
    own = dict(encoder.model.named_parameters())
    named = {n: (found[id(own[n])], expected[id(p)]) for n, p in theirs.named_parameters() if n in own}
    assert len(named) == len(own) and len({scale for (scale, _), _ in named.values()}) > 3
    assert {n: pair for n, pair in named.items() if pair[0] != pair[1]} == {}
    assert found[id(task.head.weight)] == (1.0, True)
