"""Where answers come from, on models of which it is known."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from mmexp.encoders.timm_image import TimmImage
from mmexp.encoders.transformer import Transformer
from mmexp.fusion.bottleneck import BottleneckFusion
from mmexp.fusion.early import EarlyFusion
from mmexp.fusion.xattn import CrossAttentionFusion
from mmexp.judging.attending import between, recording, rollout
from mmexp.judging.looking import GRADIENT, ROLLOUT, look
from mmexp.judging.said import Judged
from mmexp.model import Model
from mmexp.objectives.classify import Classify
from mmexp.objectives.contrastive import Contrastive
from mmexp.runs.looks import shown_looks
from mmexp.runs.space import space_of

VIT = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}


class Rows:
    concepts = np.arange(3)
    labels = np.arange(3)

    def __len__(self) -> int:
        return 3

    def read(self, row: int, modality: str, rng: object = None) -> object:
        noise = np.random.default_rng(row).integers(256, size=(32, 32, 3), dtype=np.uint8)
        return Image.fromarray(noise) if modality == "image" else f"a grinning face {'again ' * row}"


def judged(fusion: type | None = CrossAttentionFusion, classes: int = 3, **options: int) -> Judged:
    torch.manual_seed(0)
    towers = {"image": TimmImage("vit_tiny_patch16_224", 32, options=VIT), "text": Transformer(24, 2, 2)}
    model = Model(towers, fusion({"image": 24, "text": 24}, 24, **options))
    heads = {"classify": Classify(model.shape(classes))} if classes else {"contrastive": Contrastive(model.shape())}
    return Judged("own", model.eval(), heads)


def test_rollout_multiplies_layers_with_half_of_each_going_by_the_residual():
    first = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]])
    last = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    # By hand: (first + I) / 2 = [[1, 0], [1/4, 3/4]], (last + I) / 2 = [[1/2, 1/2], [0, 1]], their product below.
    whole = torch.tensor([[0.625, 0.375], [0.25, 0.75]])
    both, class_token = torch.tensor([[True, True]]), torch.tensor([[True, False]])
    assert torch.allclose(rollout([first, last], both), whole.mean(0)[None])
    assert torch.allclose(rollout([first, last], class_token), whole[:1])
    # A single query takes what had reached its tokens before.
    assert torch.allclose(rollout([first, last[:, :1]], both), torch.tensor([[0.25, 0.75]]))
    assert rollout([first, torch.ones(4, 2, 2)], both) is None and rollout([], both) is None


def test_what_is_recorded_is_what_was_attended_and_changes_nothing():
    own = judged()
    attended, towers = (
        own.model.encoders,
        {"text": own.model.encoders["text"].prepare(["a face", "one more face, again"])},
    )
    plain = attended["text"](towers["text"]).pooled
    with recording(own.model) as recorder:
        watched = attended["text"](towers["text"]).pooled
        attended["text"](towers["text"])
    assert torch.allclose(plain, watched, atol=1e-6)
    assert len(recorder.calls["text"]) == 2  # layers: the second time is not another one
    mask = towers["text"]["mask"]
    for shares in recorder.calls["text"]:
        assert torch.allclose(shares.sum(-1), torch.ones(mask.shape), atol=1e-5)
        assert shares.masked_select(~mask[:, None].expand_as(shares)).abs().max() < 1e-6
    assert F.scaled_dot_product_attention is not recorder.attend


def test_layers_of_others_are_recorded_as_they_say_themselves():
    torch.manual_seed(0)
    layer, tokens = nn.MultiheadAttention(8, 2, batch_first=True), torch.randn(3, 5, 8)

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.layer(tokens, tokens, tokens, need_weights=False)[0]

    model = Model({"image": Encoder()}, nn.Identity())
    with recording(model) as recorder:
        model.encoders["image"](tokens)
    assert torch.allclose(recorder.calls["image"][0], layer(tokens, tokens, tokens)[1], atol=1e-6)


@pytest.mark.parametrize("fusion", [CrossAttentionFusion, EarlyFusion])
def test_of_each_word_it_is_told_what_it_saw_of_the_picture(fusion):
    looks = look(judged(fusion, **({"heads": 2})), Rows(), [2, 0])
    assert [one.words for one in looks] == [["a", "grinning", "face", "again", "again"], ["a", "grinning", "face"]]
    for one in looks:
        assert one.seen.shape == (len(one.words), 4, 4) and one.seen.min() >= 0
        assert one.pixels.shape == (3, 32, 32) and one.label in range(3)
        assert set(one.over_picture) == set(one.over_words) == {ROLLOUT, GRADIENT}
        assert one.over_picture[ROLLOUT].shape == (4, 4) and one.over_picture[GRADIENT].shape == (8, 8)
    if fusion is CrossAttentionFusion:
        # All that a word sees there is of the picture.
        assert looks[0].seen.flatten(1).sum(1) == pytest.approx(1, abs=1e-4)


def test_what_only_passes_through_a_bottleneck_saw_nothing_directly():
    assert all(one.seen is None for one in look(judged(BottleneckFusion, heads=2), Rows(), [0]))
    assert between([torch.ones(1, 4, 4)], {"text": 4, "image": 4}, {}, "text", "image") is None


def test_a_gradient_is_that_of_the_score_and_leaves_none_behind():
    own = judged()
    head = own.heads["classify"].head
    with torch.no_grad():
        # Of the fused encoding only one class is ever said, and the words have no part in it.
        head.weight.zero_()
        head.bias.copy_(torch.tensor([0.0, 9.0, 0.0]))
    one = look(own, Rows(), [1])[0]
    assert one.label == 1 and one.score == pytest.approx(9.0)
    assert one.over_picture[GRADIENT].abs().max() == 0 and one.over_words[GRADIENT].abs().max() == 0
    assert all(parameter.grad is None for parameter in own.model.parameters())


def test_without_classes_the_pair_is_explained_and_without_a_common_space_nothing():
    own = judged(classes=0)
    one = look(own, Rows(), [1])[0]
    assert one.label is None and -1 <= one.score <= 1 and one.over_words[GRADIENT].max() > 0
    assert look(Judged("", own.model, {}), Rows(), [0, 1]) == []


def test_the_page_shows_heat_words_and_what_each_word_saw():
    seen = shown_looks(look(judged(), Rows(), [2]), ["one", "two", "three"])
    assert seen[0].said in ("one", "two", "three") and seen[0].picture.size == (32, 32)
    assert [one.text for one in seen[0].over_picture] == [ROLLOUT, GRADIENT]
    assert max(weight for _, weight in seen[0].over_words[ROLLOUT]) == 1
    assert [one.text for one in seen[0].by_word] == ["a", "grinning", "face", "again", "again"]


def test_a_common_space_is_drawn_where_rows_have_two_modalities():
    torch.manual_seed(0)
    image = F.normalize(torch.randn(40, 8), dim=1)
    vectors = {"image": image, "text": F.normalize(image + 0.1 * torch.randn(40, 8), dim=1)}
    space = space_of("test", vectors, {"text": torch.arange(40) < 30})
    assert [chart["title"] for chart in space.charts] == ["principal components", "image and text"]
    assert all("<svg" in chart["svg"] and "var(--s1)" in chart["svg"] for chart in space.charts)
    assert space.numbers["image_text_alignment"] < 0.3
    assert space_of("test", {"image": image}, {}) is None
    assert space_of("test", vectors, {"text": torch.zeros(40)}) is None
