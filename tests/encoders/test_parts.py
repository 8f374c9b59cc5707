"""What encoders can tell and leave out: parts of pictures, edges of words."""

import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from mmexp.encoders.open_clip_image import OpenClipImage
from mmexp.encoders.timm_image import TimmImage
from mmexp.encoders.tokens import word_edges
from mmexp.encoders.transformer import Transformer

SMALL = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
ENCODERS = {
    "class token": lambda: TimmImage("vit_tiny_patch16_224", 32, options=SMALL),
    "stem": lambda: TimmImage(
        "vit_tiny_patch16_224",
        32,
        stem=[8, 16, 24],
        options={**SMALL, "class_token": False, "global_pool": "avg"},
    ),
    "registers": lambda: TimmImage("vit_tiny_patch16_224", 32, options={**SMALL, "reg_tokens": 2}),
    "no embedding of the class": lambda: TimmImage(
        "vit_tiny_patch16_224", 32, options={**SMALL, "no_embed_class": True}
    ),
    "open_clip": lambda: OpenClipImage("ViT-S-32-alt"),
}


@pytest.fixture(scope="module", params=ENCODERS)
def encoder(request):
    torch.manual_seed(0)
    return ENCODERS[request.param]().eval()


def some_of(encoder, count: int):
    """Return pictures, and places of their patches in no order."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(2, 3, encoder.image_size, encoder.image_size, generator=generator)
    return pixels, torch.rand(2, encoder.grid[0] * encoder.grid[1], generator=generator).argsort(1)[:, :count]


def test_all_patches_are_the_whole_picture(encoder):
    assert encoder.sees_parts
    pixels, order = some_of(encoder, encoder.grid[0] * encoder.grid[1])
    with torch.no_grad():
        whole, parts = encoder({"pixels": pixels}), encoder.encode_visible({"pixels": pixels}, order)
    expected = whole.tokens.gather(1, order[..., None].expand_as(whole.tokens))
    torch.testing.assert_close(parts.tokens, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(parts.pooled, whole.pooled, atol=1e-5, rtol=1e-4)


def test_hidden_patches_leave_no_trace(encoder):
    pixels, keep = some_of(encoder, 3)
    size = encoder.image_size // encoder.grid[0]
    hidden = torch.ones(2, encoder.grid[0] * encoder.grid[1]).scatter_(1, keep, 0.0).view(2, 1, *encoder.grid)
    area = hidden.repeat_interleave(size, 2).repeat_interleave(size, 3) > 0
    with torch.no_grad():
        one = encoder.encode_visible({"pixels": pixels}, keep)
        other = encoder.encode_visible({"pixels": torch.where(area, 1 - pixels, pixels)}, keep)
    assert one.tokens.shape == (2, 3, encoder.dim) and one.mask.all()
    assert torch.equal(one.tokens, other.tokens)


def test_fewer_patches_cost_less():
    from torch.utils.flop_counter import FlopCounterMode

    encoder = ENCODERS["class token"]()
    costs = []
    for count in (4, 16):
        with FlopCounterMode(display=False) as counter:
            encoder.encode_visible(*some_inputs(encoder, count))
        costs.append(counter.get_total_flops())
    assert costs[0] < 0.5 * costs[1]


def some_inputs(encoder, count):
    pixels, keep = some_of(encoder, count)
    return {"pixels": pixels}, keep


@pytest.mark.parametrize("name", ["resnet10t", "swin_tiny_patch4_window7_224"])
def test_others_see_pictures_whole(name):
    assert not TimmImage(name, 224).sees_parts


def test_byte_level_pieces_begin_with_a_space():
    encoder = Transformer(dim=12, depth=1, heads=1)
    begins, ends = encoder.word_edges
    ids = encoder.prepare(["a photographically unreal cat"])["ids"][0, 1:-1]
    assert begins[ids].sum() == 4 and not ends.any()
    assert len(ids) > 4


def test_clips_pieces_end_with_a_mark():
    tokenizer = SimpleTokenizer()
    begins, ends = word_edges(list(tokenizer.encoder), 49408)
    ids = torch.tensor(tokenizer.encode("a photographically unreal cat"))
    assert ends[ids].sum() == 4 and len(ids) > 4 and not begins[:49408].any()


@pytest.mark.parametrize(
    ("pieces", "begins"),
    [
        (["[PAD]", "cat", "##s", "##ing"], [True, True, False, False]),
        (["<s>", "▁cat", "s", "ing"], [False, True, False, False]),
    ],
    ids=["WordPiece", "SentencePiece"],
)
def test_pieces_tell_where_words_begin(pieces, begins):
    assert word_edges(pieces, 4)[0].tolist() == begins
    # Ids beyond the vocabulary are words of their own.
    assert word_edges(pieces, 5)[:, 4].all()


def test_a_vocabulary_of_letters_tells_nothing():
    assert word_edges([chr(i) for i in range(256)], 256) is None
