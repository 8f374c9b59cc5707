"""Masked words and patches against BERT and MAE of transformers; cross-modal and adaptive masking."""

from math import log

import pytest
import torch
from stand_ins import TinyImage, TinyText, batch_of, views_of
from torch import nn

from mmexp.encoders.timm_image import TimmImage
from mmexp.errors import RequestError
from mmexp.fusion.none import NoFusion
from mmexp.fusion.xattn import CrossAttentionFusion
from mmexp.model import Model
from mmexp.needs import check_needs
from mmexp.objectives import hiding, mae
from mmexp.objectives.cross_masked import CrossMasked, shared_ratios
from mmexp.objectives.hiding import mean, patch_losses, word_losses
from mmexp.objectives.mae import Mae
from mmexp.objectives.masked import Masked
from mmexp.objectives.patch_decoder import sine_positions
from mmexp.objectives.running_loss import EASIEST, RunningLoss
from mmexp.shapes import Supervision
from mmexp.types import Encoded


def model_of(fusion=None) -> Model:
    torch.manual_seed(0)
    return Model({"image": TinyImage(), "text": TinyText()}, fusion or NoFusion({"image": 16, "text": 12}))


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_words_of_an_undecided_head_cost_the_logarithm_of_the_vocabulary():
    objective, batch = Masked(model_of().shape(), words=0.5, patches=0.0), batch_of()
    nn.init.zeros_(objective.word_head.weight)
    nn.init.zeros_(objective.word_head.bias)
    assert objective(views_of(model_of(), batch)).losses["masked_words"].item() == pytest.approx(log(32))


class BertTokens(nn.Module):
    """The tokens of a BERT, as an encoder."""

    modality, dim, vocab_size, mask_token_id = "text", 16, 32, 1

    def __init__(self, bert):
        super().__init__()
        self.bert = bert

    def forward(self, prepared):
        tokens = self.bert(prepared["ids"], attention_mask=prepared["mask"].long()).last_hidden_state
        return Encoded(tokens, tokens.mean(1), prepared["mask"])


def test_masked_words_agree_with_bert():
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    bert = BertForMaskedLM(BertConfig(vocab_size=32, max_position_embeddings=16, **size)).eval()
    model = Model({"text": BertTokens(bert.bert)}, NoFusion({"text": 16}))
    objective = Masked(model.shape(), words=0.5)
    objective.word_head = bert.cls
    views = views_of(model, {"text": batch_of()["text"]})
    ours = objective(views).losses["masked_words"]
    text = views.batch["text"]
    changed, hidden = objective.hide_words(text, 0.5, views.generator("words"))
    labels = text["ids"].masked_fill(~hidden, -100)
    theirs = bert(changed["ids"], attention_mask=text["mask"].long(), labels=labels).loss
    close(ours, theirs)
    weights = [parameter for parameter in bert.parameters() if parameter.requires_grad]
    for a, b in zip(*(torch.autograd.grad(loss, weights, allow_unused=True) for loss in (ours, theirs)), strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            close(a, b)


def mae_of_transformers(**more):
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    torch.manual_seed(1)
    encoder = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96}
    decoder = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    decoder = {f"decoder_{name}": value for name, value in decoder.items()}
    whole = {"image_size": 32, "patch_size": 8, "norm_pix_loss": True, "layer_norm_eps": 1e-6, "mask_ratio": 0.75}
    return ViTMAEForPreTraining(ViTMAEConfig(**encoder, **decoder, **whole)).eval()


# Where each number of our patches, (channel, row, column), stands in theirs, (row, column, channel).
ORDER = torch.arange(3 * 64).view(3, 8, 8).permute(1, 2, 0).flatten()


def test_the_loss_on_patches_agrees_with_mae(monkeypatch):
    from transformers.models.vit_mae.modeling_vit_mae import ViTMAEDecoderOutput

    monkeypatch.setattr(hiding, "FLOOR", 1e-6)
    model, pixels, drawn = mae_of_transformers(), torch.rand(4, 3, 32, 32), torch.randn(4, 16, 192, requires_grad=True)
    model.decoder.forward = lambda *_, **__: ViTMAEDecoderOutput(logits=drawn[..., ORDER])
    theirs = model(pixels)
    hidden = theirs.mask.bool()
    assert hidden.sum() == 4 * 12
    ours = mean(patch_losses(drawn[hidden], pixels, hidden, (4, 4)))
    close(ours, theirs.loss)
    close(*(torch.autograd.grad(loss, drawn)[0] for loss in (ours, theirs.loss)))


def same(ours: nn.Module, theirs: nn.Module) -> None:
    theirs.load_state_dict(ours.state_dict())


def same_attention(weight, bias, out, theirs) -> None:
    for i, name in enumerate(("q_proj", "k_proj", "v_proj")):
        getattr(theirs, name).weight.data, getattr(theirs, name).bias.data = weight.chunk(3)[i], bias.chunk(3)[i]
    same(out, theirs.o_proj)


def as_ours(theirs, model, decoder) -> None:
    """Give the model of transformers the weights of a timm transformer and of our decoder."""
    embeddings = theirs.vit.embeddings
    same(model.patch_embed.proj, embeddings.patch_embeddings.projection)
    embeddings.position_embeddings.data[:, 1:] = model.pos_embed.data
    same(model.norm, theirs.vit.layernorm)
    for block, layer in zip(model.blocks, theirs.vit.layers, strict=True):
        same_attention(block.attn.qkv.weight.data, block.attn.qkv.bias.data, block.attn.proj, layer.attention)
        parts = (block.norm1, block.norm2, block.mlp.fc1, block.mlp.fc2)
        for own, other in zip(parts, _parts(layer), strict=True):
            same(own, other)
    for block, layer in zip(decoder.layers.layers, theirs.decoder.decoder_layers, strict=True):
        own = block.self_attn
        same_attention(own.in_proj_weight.data, own.in_proj_bias.data, own.out_proj, layer.attention)
        for own, other in zip((block.norm1, block.norm2, block.linear1, block.linear2), _parts(layer), strict=True):
            same(own, other)
    same(decoder.layers.norm, theirs.decoder.decoder_norm)
    same(decoder.embed, theirs.decoder.decoder_embed)
    theirs.decoder.mask_token.data[:] = decoder.mask_token.data
    theirs.decoder.decoder_pos_embed.data[:, 1:] = decoder.positions
    theirs.decoder.decoder_pred.weight.data = decoder.draw.weight.data[ORDER]
    theirs.decoder.decoder_pred.bias.data = decoder.draw.bias.data[ORDER]


def _parts(layer):
    return layer.layernorm_before, layer.layernorm_after, layer.mlp.fc1, layer.mlp.fc2


def drawn_by_transformers(model, pixels, noise):
    """Return the patches that their modules draw, without a class token, and the mask."""
    embeddings, decoder = model.vit.embeddings, model.decoder
    tokens = embeddings.patch_embeddings(pixels) + embeddings.position_embeddings[:, 1:]
    tokens, mask, restore = embeddings.random_masking(tokens, noise)
    for layer in model.vit.layers:
        tokens = layer(tokens)
    known = decoder.decoder_embed(model.vit.layernorm(tokens))
    blank = decoder.mask_token.repeat(len(known), restore.shape[1] - known.shape[1], 1)
    whole = torch.cat([known, blank], 1).gather(1, restore[..., None].expand(-1, -1, known.shape[-1]))
    whole = whole + decoder.decoder_pos_embed[:, 1:]
    for layer in decoder.decoder_layers:
        whole = layer(whole)
    return decoder.decoder_pred(decoder.decoder_norm(whole)), mask


def test_encoder_and_decoder_agree_with_mae(monkeypatch):
    monkeypatch.setattr(hiding, "FLOOR", 1e-6)
    options = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "fc_norm": False}
    image = TimmImage("vit_tiny_patch16_224", 32, options={**options, "class_token": False, "global_pool": "avg"})
    image.scale.fill_(1)
    image.shift.zero_()
    model = Model({"image": image}, NoFusion({"image": 24}))
    objective, theirs = Mae(model.shape(), dim=16, depth=2, heads=2), mae_of_transformers()
    for module in objective.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    as_ours(theirs, image.model, objective.decoder)
    pixels, noise = torch.rand(4, 3, 32, 32), torch.rand(4, 16)
    drawn, mask = drawn_by_transformers(theirs, pixels, noise)
    target = theirs.patchify(pixels)
    target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6) ** 0.5
    their_loss = (((drawn - target) ** 2).mean(-1) * mask).sum() / mask.sum()
    monkeypatch.setattr(mae, "draw_cells", lambda *_: mask.bool())
    loss = objective(views_of(model, {"image": {"pixels": pixels}})).losses["mae"]
    close(loss, their_loss)
    own, other = image.model, theirs.vit
    ours = (own.patch_embed.proj.weight, own.blocks[0].attn.proj.weight, own.norm.bias)
    ours += (objective.decoder.embed.weight, objective.decoder.layers.layers[0].linear1.weight)
    others = (other.embeddings.patch_embeddings.projection.weight, other.layers[0].attention.o_proj.weight)
    others += (
        other.layernorm.bias,
        theirs.decoder.decoder_embed.weight,
        theirs.decoder.decoder_layers[0].mlp.fc1.weight,
    )
    for a, b in zip(torch.autograd.grad(loss, ours), torch.autograd.grad(their_loss, others), strict=True):
        close(a, b)


def test_positions_agree_with_transformers():
    from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding

    close(sine_positions((3, 5), 16), build_2d_sinusoidal_position_embedding(3, 5, 16))


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_one_patch_at_least_stays(ratio):
    model = model_of()
    loss = Mae(model.shape(), ratio=ratio, dim=12)(views_of(model, batch_of())).losses["mae"]
    assert loss.item() == 0 if ratio == 0 else loss.item() > 0


@pytest.mark.parametrize("hidden", [0.3, 0.5, 0.8])
def test_words_and_patches_share_what_is_hidden(hidden):
    words, patches = shared_ratios(hidden, 4000, 2.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close((words + patches) / 2, torch.full((4000,), hidden))
    least, most = max(0.0, 2 * hidden - 1), min(1.0, 2 * hidden)
    assert words.min() >= least - 1e-6 and words.max() <= most + 1e-6
    # Beta(a, a) has the variance 1 / (4 (2a + 1)).
    assert (words / (most - least)).var().item() == pytest.approx(1 / 20, rel=0.1)


def test_each_modality_helps_the_other():
    model = model_of(CrossAttentionFusion({"image": 16, "text": 12}, 12, 3))
    losses = CrossMasked(model.shape())(views_of(model, batch_of())).losses
    for loss, other in (
        ("cross_masked_words", model.encoders["image"]),
        ("cross_masked_patches", model.encoders["text"]),
    ):
        gradients = torch.autograd.grad(losses[loss], [*other.parameters()], retain_graph=True, allow_unused=True)
        assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)


def test_the_fused_tokens_of_a_modality_are_its_own():
    model = model_of(CrossAttentionFusion({"image": 16, "text": 12}, 12, 3))
    encoded = model.encode(batch_of())
    fused, alone = model.fuse(encoded), model.fuse({"text": encoded["text"]})
    assert fused.tokens_of("image").shape[1] == 4
    assert fused.tokens_of("text").shape == (*encoded["text"].tokens.shape[:2], 12)
    assert torch.equal(alone.tokens_of("text"), alone.tokens)
    rows = torch.tensor([3, 1])
    assert torch.equal(fused[rows].tokens_of("text"), fused.tokens_of("text")[rows])


@pytest.mark.parametrize(
    ("make", "untaught"),
    [
        (lambda s: Mae(s, dim=12), {"fusion", "encoders.text", "encoders.image.mix"}),
        (lambda s: CrossMasked(s), {"fusion.norm", "fusion.mix", "encoders.image.mix"}),
        (
            lambda s: Masked(s, adaptive=True, word_masks="spans", patch_masks="blocks"),
            {"fusion", "encoders.image.mix"},
        ),
    ],
    ids=["mae", "cross_masked", "masked"],
)
def test_every_part_that_an_objective_uses_gets_a_gradient(make, untaught):
    model = model_of(CrossAttentionFusion({"image": 16, "text": 12}, 12, 3))
    objective = make(model.shape())
    sum(objective(views_of(model, batch_of())).losses.values()).backward()
    for name, parameter in [*model.named_parameters(), *objective.named_parameters()]:
        if not any(name.startswith(part) for part in untaught):
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def alone(tensor):
    return tensor


def test_weights_are_running_losses_in_units_of_their_mean():
    running = RunningLoss(5)
    assert torch.equal(running.weights(), torch.ones(5))
    for _ in range(3):
        running.learn(torch.tensor([0, 1, 1, 2]), torch.tensor([4.0, 1.0, 3.0, 0.0]), alone)
    # The places seen have 4, 2 and 0: their mean is 2, and what was never hidden counts as that.
    torch.testing.assert_close(running.weights(), torch.tensor([2.0, 1.0, EASIEST, 1.0, 1.0]))
    assert running.weights(torch.tensor([[0, 3]])).shape == (1, 2)


def test_a_ratio_follows_the_fall_of_the_loss():
    running, views = RunningLoss(1), views_of(model_of(), batch_of())
    grows = {"from": 0.2, "to": 0.6, "end": 0.5}
    assert running.ratio(grows, views) == pytest.approx(0.2)
    running.learn(torch.tensor([0]), torch.tensor([4.0]), alone)
    assert running.ratio(grows, views) == pytest.approx(0.2)
    for _ in range(900):
        running.learn(torch.tensor([0]), torch.tensor([3.0]), alone)
    # A quarter is gone, half of what takes the curriculum to its end.
    assert running.ratio(grows, views) == pytest.approx(0.4, abs=1e-3)
    for _ in range(900):
        running.learn(torch.tensor([0]), torch.tensor([1.0]), alone)
    assert running.ratio(grows, views) == pytest.approx(0.6)


def test_processes_remember_the_same():
    places, losses = torch.tensor([0, 0, 1, 3]), torch.tensor([1.0, 2.0, 3.0, 4.0])
    whole, part = RunningLoss(4), RunningLoss(4)
    whole.learn(places, losses, alone)
    # The other process saw the last of them.
    other = torch.stack([torch.tensor([0.0, 0, 0, 4]), torch.tensor([0.0, 0, 0, 1])])
    part.learn(places[:3], losses[:3], lambda sums: torch.cat([sums, other[None]]))
    for name, buffer in whole.named_buffers():
        assert torch.equal(buffer, part.get_buffer(name)), name


def test_an_evaluation_changes_nothing_and_measures_one_thing():
    model = model_of()
    objective = Masked(model.shape(), words={"from": 0.2, "to": 0.7}, patches=0.5, adaptive=True)
    plain = Masked(model.shape(), words=0.7, patches=0.5).eval()
    for step in range(5):
        objective(views_of(model, batch_of(), step=step))
    plain.load_state_dict({name: t for name, t in objective.state_dict().items() if "running" not in name})
    before = {name: buffer.clone() for name, buffer in objective.named_buffers()}
    assert before["word_running.start"] > 0 and before["patch_running.places"].sum() > 0
    terms, expected = objective.eval()(views_of(model, batch_of())), plain(views_of(model, batch_of()))
    assert {name: loss.item() for name, loss in terms.losses.items()} == {
        name: loss.item() for name, loss in expected.losses.items()
    }
    assert terms.metrics["masked_words_ratio"].item() == pytest.approx(0.7)
    assert all(torch.equal(buffer, before[name]) for name, buffer in objective.named_buffers())


def test_hard_places_are_hidden_more_often():
    model = model_of()
    objective = Masked(model.shape(), words=0.0, patches=0.25, adaptive=True)
    objective.patch_running.places.copy_(torch.tensor([[8.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]))
    weight = objective.patch_running.weights()
    every = torch.zeros(4000, 1)
    hidden = hiding.draw_cells(every, (2, 2), 0.25, torch.Generator().manual_seed(0), "random", weight)
    torch.testing.assert_close(hidden.float().mean(0), torch.tensor([8, 1, 1, 1]) / 11, atol=0.02, rtol=0)


def test_a_word_loss_counts_the_hidden_words_alone():
    ids, hidden = torch.tensor([[5, 6, 7]]), torch.tensor([[False, True, False]])
    logits = torch.zeros(1, 32)
    logits[0, 6] = 3.0
    expected = -(3.0 - torch.logsumexp(logits[0], 0))
    close(word_losses(logits, ids, hidden), expected[None])
    assert mean(torch.zeros(0)) == 0


def test_an_encoder_that_sees_pictures_whole_is_refused():
    model, objective = model_of(), {"objective": {"mae": {"_target_": "mmexp.objectives.mae.Mae"}}}
    check_needs(objective, model, Supervision())
    model.encoders["image"].sees_parts = False
    with pytest.raises(RequestError, match=r"Choose encoder/image=vit .* or objective=masked"):
        check_needs(objective, model, Supervision())


def test_a_decoder_that_does_not_divide_is_refused():
    with pytest.raises(RequestError, match="dim=10 must divide into heads=3"):
        Mae(model_of().shape(), dim=10)
