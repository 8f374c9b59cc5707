"""Hidden words and patches against the transformers library: the same losses, gradients, order and positions."""

import torch
from stand_ins import batch_of, views_of
from torch import nn
from torch.nn import functional as F

from mmexp.encoders.timm_image import TimmImage
from mmexp.fusion.none import NoFusion
from mmexp.model import Model
from mmexp.objectives import mae
from mmexp.objectives.hiding import GREY, draw_cells, patch_losses, patch_targets
from mmexp.objectives.mae import Mae
from mmexp.objectives.masked import Masked
from mmexp.objectives.patch_decoder import sine_positions
from mmexp.objectives.presence import mean
from mmexp.types import Encoded


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


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
    views = views_of(model, {"text": batch_of()["text"], "index": torch.arange(8)})
    ours = objective(views).losses["masked_words"]
    text = views.batch["text"]
    changed, hidden = objective.hide_words(text, 0.5, views.row_generator("words"))
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


def test_the_loss_on_patches_agrees_with_mae():
    from transformers.models.vit_mae.modeling_vit_mae import ViTMAEDecoderOutput

    model, pixels, drawn = mae_of_transformers(), torch.rand(4, 3, 32, 32), torch.randn(4, 16, 192, requires_grad=True)
    model.decoder.forward = lambda *_, **__: ViTMAEDecoderOutput(logits=drawn[..., ORDER])
    theirs = model(pixels)
    hidden = theirs.mask.bool()
    assert hidden.sum() == 4 * 12
    ours = mean(patch_losses(drawn[hidden], patch_targets(pixels, (4, 4), 1e-6), hidden))
    close(ours, theirs.loss)
    close(*(torch.autograd.grad(loss, drawn)[0] for loss in (ours, theirs.loss)))


def test_masked_patches_agree_with_simmim_of_transformers():
    """The mask token, the encoder, the linear head and the mean absolute error of the hidden pixels."""
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    from transformers import ViTConfig, ViTForMaskedImageModeling

    torch.manual_seed(0)
    options = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "fc_norm": False, "class_token": False}
    image = TimmImage("vit_tiny_patch16_224", 32, options={**options, "global_pool": "avg"})
    model = Model({"image": image}, NoFusion({"image": 24}))
    objective, pixels = Masked(model.shape(), words=0.0, patches=0.6), torch.rand(4, 3, 32, 32)
    views = views_of(model, {"image": {"pixels": pixels}, "index": torch.arange(4)})
    hidden = draw_cells(pixels, (4, 4), 0.6, views.row_generator("patches"))
    # Behind the patch embedding the mask patch is one token in all hidden places.
    masked = objective.mask_patch(pixels, hidden, GREY)
    tokens = image.model.patch_embed(masked)
    token = image.model.patch_embed((objective.mask_patch.mask_token + GREY).repeat(1, 4, 4)[None])[0, 0]
    torch.testing.assert_close(tokens[hidden], token.expand(int(hidden.sum()), -1))
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    theirs = ViTForMaskedImageModeling(ViTConfig(image_size=32, patch_size=8, encoder_stride=8, **sizes))
    drawn = objective.patch_head(model.encode_one("image", {"pixels": masked}).tokens)
    theirs.decoder.forward = lambda _: F.fold(drawn.transpose(1, 2), 32, 8, stride=8)
    mean, deviation = (torch.tensor(numbers).view(3, 1, 1) for numbers in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    their_loss = theirs((pixels - mean) / deviation, bool_masked_pos=hidden).loss
    loss = objective(views).losses["masked_patches"]
    close(loss, their_loss)
    trained = [objective.mask_patch.mask_token, objective.patch_head.weight, image.model.patch_embed.proj.weight]
    for own, other in zip(torch.autograd.grad(loss, trained), torch.autograd.grad(their_loss, trained), strict=True):
        close(own, other)


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
    loss = objective(views_of(model, {"image": {"pixels": pixels}, "index": torch.arange(4)})).losses["mae"]
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
