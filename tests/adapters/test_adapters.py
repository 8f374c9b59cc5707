"""What each adapter leaves open, that the rest stays bit-equal, and that merging changes nothing."""

import copy

import pytest
import torch
from stand_ins import TinyImage, TinyText, batch_of, views_of

from mmexp.adapters.frozen import Frozen
from mmexp.adapters.full import Full
from mmexp.adapters.lora import Lora
from mmexp.build.adapting import parts_of, put_on
from mmexp.encoders.timm_image import TimmImage
from mmexp.errors import RequestError
from mmexp.fusion.none import NoFusion
from mmexp.fusion.xattn import CrossAttentionFusion
from mmexp.model import Model
from mmexp.objectives.contrastive import Contrastive
from mmexp.objectives.matching import Matching


def make():
    torch.manual_seed(0)
    return Model(
        {"image": TinyImage(), "text": TinyText()}, CrossAttentionFusion({"image": 16, "text": 12}, dim=12, heads=3)
    )


def adapt(model: Model, adapter) -> None:
    put_on(model, dict.fromkeys(parts_of(model), adapter), parts_of(model))


def merge(model: Model, adapter) -> None:
    for part in parts_of(model).values():
        adapter.merge(part)


def trained(model: Model, steps: int = 3) -> list[torch.nn.Module]:
    objectives = [Contrastive(model.shape(), embed_dim=8), Matching(model.shape())]
    parameters = [p for module in [model, *objectives] for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    for step in range(steps):
        views = views_of(model, batch_of(seed=step), step=step)
        sum(loss for o in objectives for loss in o(views).losses.values()).backward()
        optimizer.step()
        if step < steps - 1:
            optimizer.zero_grad()
    return objectives


@pytest.mark.parametrize("adapter", [Full(), Frozen(), Lora(rank=2)], ids=["full", "frozen", "lora"])
@pytest.mark.parametrize("fresh", [set(), {"fusion"}], ids=["all loaded", "fresh fusion"])
def test_trained_parameters_get_gradients_and_frozen_ones_stay_bit_equal(adapter, fresh):
    model = make()
    put_on(model, dict.fromkeys(parts_of(model), adapter), set(parts_of(model)) - fresh)
    before = copy.deepcopy(model.state_dict())
    trained(model)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
            assert not torch.equal(parameter, before[name]), name
        else:
            assert parameter.grad is None, name
            assert torch.equal(parameter, before[name]), name
    open_parts = {name for name, p in model.named_parameters() if p.requires_grad and name.startswith("fusion.")}
    assert bool(open_parts) == (bool(fresh) or not isinstance(adapter, Frozen))


def test_lora_starts_as_the_model_it_adapts():
    model, batch = make(), batch_of()
    before = model.fuse(model.encode(batch)).pooled
    adapt(model, Lora(rank=2))
    assert torch.equal(model.fuse(model.encode(batch)).pooled, before)
    a = model.encoders["image"].mix.lora_A["default"].weight
    b = model.encoders["image"].mix.lora_B["default"].weight
    assert a.std() > 0
    assert torch.count_nonzero(b) == 0


def test_merging_changes_no_output_and_restores_the_names():
    model, batch = make(), batch_of()
    names = set(model.state_dict())
    adapter = Lora(rank=2)
    adapt(model, adapter)
    trained(model)
    before = model.fuse(model.encode(batch)).pooled
    merge(model, adapter)
    assert set(model.state_dict()) == names
    assert torch.allclose(model.fuse(model.encode(batch)).pooled, before, atol=1e-5)


def test_targets_that_match_nothing_are_refused():
    with pytest.raises(RequestError, match=r"'qkvv' matches no layer of encoders\.image\. Its layers are: patch, mix"):
        adapt(make(), Lora(targets="qkvv"))


def test_lora_follows_a_dilated_convolution():
    torch.manual_seed(0)
    encoder = TimmImage("resnet10t", image_size=32, options={"channels": [8, 8, 8, 8], "output_stride": 8})
    model = Model({"image": encoder}, NoFusion({})).eval()
    dilated = [m for m in encoder.modules() if isinstance(m, torch.nn.Conv2d) and m.dilation != (1, 1)]
    assert dilated, "else this would test nothing"
    batch = {"image": {"pixels": torch.rand(2, 3, 32, 32)}}
    before = model.encode(batch)["image"].pooled
    adapter = Lora(rank=2)
    adapt(model, adapter)
    assert torch.allclose(model.encode(batch)["image"].pooled, before, atol=1e-6)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    adapted = model.encode(batch)["image"].pooled
    assert not torch.allclose(adapted, before, atol=1e-3)
    merge(model, adapter)
    assert torch.allclose(model.encode(batch)["image"].pooled, adapted, atol=1e-4)


def test_a_tower_that_cannot_be_tried_is_left_in_training():
    from mmexp.adapters.blank import encode_blank

    class Broken(torch.nn.Module):
        modality = "text"
        prepare = staticmethod(lambda _: {})

        def forward(self, _):
            raise RuntimeError

    broken = Broken().train()
    with pytest.raises(RuntimeError):
        encode_blank(broken)
    assert broken.training


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_the_biases_of_recurrent_layers_are_biases(kind):
    from mmexp.adapters.bitfit import BitFit
    from mmexp.adapters.layers import instead
    from mmexp.encoders.recurrent import Recurrent

    encoder = Recurrent(kind, dim=12, depth=2)
    BitFit().apply("encoders.text", encoder)
    trained = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    wanted = {f"layers.{layer}.bias_{side}h_l0{way}" for layer in (0, 1) for side in "ih" for way in ("", "_reverse")}
    assert trained == {*wanted, "proj.bias", "norm.bias"}
    layers = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[kind](2, 2)
    assert instead("encoders.text", layers) == "Choose adapter/text=bitfit, full or frozen."


def test_tables_of_relative_positions_are_no_biases():
    from mmexp.adapters.layers import is_bias

    assert not is_bias("attn.relative_position_bias_table") and not is_bias("relative_attention_bias.weight")
    assert is_bias("bias") and is_bias("attn.in_proj_bias")


def test_the_mlp_that_tells_swin_v2_of_places_is_no_mlp_of_a_block():
    from mmexp.adapters.layers import mlp_ends

    sizes = {"window_size": 4, "embed_dim": 12, "depths": [1, 1], "num_heads": [2, 2]}
    encoder = TimmImage("swinv2_tiny_window8_256", 64, options=sizes)
    assert [name.removeprefix("model.") for name in mlp_ends(encoder)] == [
        f"layers.{layer}.blocks.0.mlp.fc2" for layer in (0, 1)
    ]
