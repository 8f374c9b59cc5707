"""Tiny towers of every kind, and two steps of training."""

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image
from stand_ins import sounds_of, tiny_audio
from torch import nn

from mmexp.encoders.huggingface_text import HuggingFaceText
from mmexp.encoders.open_clip_image import OpenClipImage
from mmexp.encoders.open_clip_text import OpenClipText
from mmexp.encoders.timm_image import TimmImage
from mmexp.encoders.transformer import Transformer
from mmexp.fusion.none import NoFusion
from mmexp.model import Model
from mmexp.tasks.base import Task

CAPTIONS = ["a red cat", "the moon and the cat sits on", "down", "a moon looks red"]


def words_tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    marks = ["[PAD]", "[MASK]", "[BOS]", "[EOS]", "[UNK]"]
    words = sorted({word for caption in CAPTIONS for word in caption.split()})
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*marks, *words])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 2), ("[EOS]", 3)]
    )
    return tokenizer


def save_transformers(folder: Path, model: Any) -> str:
    """Save a model of the transformers library with the tokenizer of CAPTIONS."""
    from transformers import PreTrainedTokenizerFast

    model.save_pretrained(folder)
    marks = {"pad_token": "[PAD]", "mask_token": "[MASK]", "cls_token": "[BOS]", "sep_token": "[EOS]"}
    PreTrainedTokenizerFast(
        tokenizer_object=words_tokenizer(), unk_token="[UNK]", model_max_length=32, **marks
    ).save_pretrained(folder)
    return str(folder)


def bert(folder: Path) -> str:
    from transformers import BertConfig, BertModel

    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    chance = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return save_transformers(folder, BertModel(BertConfig(vocab_size=24, max_position_embeddings=32, **size, **chance)))


def gpt(folder: Path) -> str:
    from transformers import GPT2Config, GPT2Model

    return save_transformers(
        folder, GPT2Model(GPT2Config(vocab_size=24, n_positions=32, n_embd=32, n_layer=2, n_head=2))
    )


def open_clip_config(folder: Path) -> str:
    vision = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
    text = {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
    config = {"model_cfg": {"embed_dim": 48, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"


VIT = {"patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2}
SWIN = {
    "patch_size": 4,
    "window_size": 4,
    "embed_dim": 16,
    "depths": [1, 2],
    "num_heads": [2, 2],
    "drop_path_rate": 0.0,
}
TIMM = {
    "vit": partial(TimmImage, "vit_tiny_patch16_224", 32, options=VIT),
    "swin": partial(TimmImage, "swin_tiny_patch4_window7_224", 32, options=SWIN),
    "cnn": partial(TimmImage, "resnet10t", 32, options={"channels": [8, 8, 16, 16]}),
    "convnext": partial(TimmImage, "convnext_atto", 32, options={"dims": [8, 8, 16, 16], "depths": [1, 1, 2, 1]}),
    # Rotary positions of a fixed number of patches.
    "eva": partial(TimmImage, "eva02_tiny_patch14_224", 28, options={"embed_dim": 24, "depth": 2, "num_heads": 2}),
}
TEXTS = {"transformer": None, "bert": bert, "gpt": gpt}
KINDS = (*TIMM, "open_clip_image", *TEXTS, "open_clip_text", "spectrogram")


def tower(kind: str, folder: Path) -> Any:
    """Return a tower of a kind, whose weights are as if it had learned: none of them zero."""
    torch.manual_seed(0)
    made = _tower(kind, folder)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return made


def _tower(kind: str, folder: Path) -> Any:
    if kind == "spectrogram":
        return tiny_audio()
    if kind in TIMM:
        return TIMM[kind]()
    if kind == "transformer":
        file = folder / "tokenizer.json"
        words_tokenizer().save(str(file))
        return Transformer(dim=24, depth=2, heads=2, context_length=32, tokenizer=str(file))
    if kind in TEXTS:
        return HuggingFaceText(TEXTS[kind](folder))
    makes = {"open_clip_image": OpenClipImage, "open_clip_text": OpenClipText}
    return makes[kind](open_clip_config(folder))


def prepared(encoder: Any, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    if encoder.modality == "text":
        return encoder.prepare(CAPTIONS)
    if encoder.modality == "audio":
        return sounds_of(4, seed)
    size = encoder.image_size
    pixels = torch.randint(256, (4, size, size, 3), generator=generator, dtype=torch.uint8)
    return encoder.prepare([Image.fromarray(picture.numpy()) for picture in pixels])


def model_of(encoder: Any) -> Model:
    return Model({encoder.modality: encoder}, NoFusion({}))


def two_steps(model: Model, lr: float = 1e-2) -> tuple[list[float], set[str]]:
    """Train towards fixed random vectors; return the losses, and the names of the parameters that had a gradient but zero."""
    (modality,) = model.encoders
    model.train()
    Task.on_train_start(SimpleNamespace(model=model))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    losses, moved = [], set()
    wanted: Any = None
    for _ in range(2):
        encoded = model.encode({modality: prepared(model.encoders[modality])})[modality]
        if wanted is None:
            generator = torch.Generator().manual_seed(1)
            wanted = [torch.randn(x.shape, generator=generator) for x in (encoded.pooled, encoded.tokens)]
        loss = nn.functional.mse_loss(encoded.pooled, wanted[0]) + nn.functional.mse_loss(encoded.tokens, wanted[1])
        optimizer.zero_grad()
        loss.backward()
        moved |= {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        optimizer.step()
        losses.append(loss.item())
    return losses, moved
