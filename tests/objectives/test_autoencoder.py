"""What is made from one vector: against losses computed in another way, and that it can be learned, also across modalities."""

import pytest
import torch
from stand_ins import TinyImage, TinyText, batch_of, sounds_of, tiny_audio, views_of
from torch import nn
from torch.nn import functional as F

from mmexp.errors import RequestError
from mmexp.fusion.concat import ConcatFusion
from mmexp.fusion.none import NoFusion
from mmexp.model import Model
from mmexp.objectives.autoencoder import Autoencoder
from mmexp.shapes import ModelShape

DIMS = {"image": 16, "text": 12, "audio": 12}


def whole_batch() -> dict:
    return {**batch_of(), "audio": sounds_of()}


def model_of(fusion=ConcatFusion) -> Model:
    torch.manual_seed(0)
    options = {} if fusion is NoFusion else {"dim": 8, "hidden": 8}
    return Model({"image": TinyImage(), "text": TinyText(), "audio": tiny_audio()}, fusion(DIMS, **options))


def made(objective: Autoencoder, name: str, pooled: torch.Tensor, places: int) -> torch.Tensor:
    """Return what the decoder makes (B, N, width), a row and a place at a time."""
    decoder = objective.decoders[name]
    layers = nn.Sequential(nn.GELU(), decoder.middle, nn.GELU(), decoder.leave)
    each = [[layers(decoder.enter(row) + decoder.places[place]) for place in range(places)] for row in pooled]
    return torch.stack([torch.stack(row) for row in each])


@pytest.fixture
def taught():
    model, batch = model_of(), whole_batch()
    objective = Autoencoder(model.shape())
    return objective, batch, model.fuse(model.encode(batch)).pooled, objective(views_of(model, batch)).losses


def test_words_are_compared_at_the_real_places_alone(taught):
    objective, batch, pooled, losses = taught
    ids, mask = batch["text"]["ids"], batch["text"]["mask"]
    logits = made(objective, "text", pooled, ids.shape[1])
    assert logits.shape[-1] == TinyText.vocab_size
    wanted = F.cross_entropy(logits.transpose(1, 2), ids.masked_fill(~mask, -100), ignore_index=-100)
    assert losses["autoencoder_text"].item() == pytest.approx(wanted.item(), abs=1e-6)


def test_pictures_are_compared_in_pixels(taught):
    objective, batch, pooled, losses = taught
    drawn = F.fold(made(objective, "image", pooled, 4).transpose(1, 2), (8, 8), kernel_size=4, stride=4)
    pixels = batch["image"]["pixels"].float() / 255 * 2 - 1
    assert losses["autoencoder_image"].item() == pytest.approx((drawn - pixels).square().mean().item(), abs=1e-6)


def test_spectrograms_are_compared_where_they_are_real(taught):
    objective, batch, pooled, losses = taught
    drawn = F.fold(made(objective, "audio", pooled, 24).transpose(1, 2), (8, 48), kernel_size=4, stride=4)[:, 0]
    # Of half the rows the sound ends in the seventh of twelve columns of four frames.
    real = torch.ones(8, 8, 48, dtype=torch.bool)
    real[:4, :, 28:] = False
    wanted = (drawn - batch["audio"]["spectrogram"])[real].square().mean()
    assert losses["autoencoder_audio"].item() == pytest.approx(wanted.item(), abs=1e-6)


@pytest.mark.parametrize("source", ["fused", "image", "text", "audio"])
def test_the_source_alone_and_all_decoders_learn(source):
    model = model_of()
    objective = Autoencoder(model.shape(), source=source)
    sum(objective(views_of(model, whole_batch())).losses.values()).backward()
    for name, parameter in [*model.named_parameters(), *objective.named_parameters()]:
        learns = source == "fused" or name.startswith(("decoders", f"encoders.{source}."))
        assert (parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)) == learns, name


def test_only_the_targets_are_made_and_only_of_what_is_there():
    model = model_of(NoFusion)
    objective = Autoencoder(model.shape(), source="image", targets=["text", "audio"])
    assert set(objective.decoders) == {"text", "audio"}
    batch = whole_batch()
    assert set(objective(views_of(model, batch)).losses) == {"autoencoder_text", "autoencoder_audio"}
    del batch["audio"]
    assert set(objective(views_of(model, batch)).losses) == {"autoencoder_text"}
    del batch["image"]
    assert not objective(views_of(model, batch)).losses


def test_a_target_that_the_model_does_not_have():
    with pytest.raises(RequestError, match=r"'texts' in targets is no modality of this model. Did you mean 'text'"):
        Autoencoder(model_of().shape(), targets=["texts"])


@pytest.mark.parametrize("modality", ["image", "text", "audio"])
def test_an_encoder_that_does_not_say_what_it_reads(modality):
    with pytest.raises(RequestError, match=f"this {modality} encoder does not say"):
        Autoencoder(ModelShape({modality: 8}, 8))


def test_words_and_sounds_are_learned_from_the_picture():
    model, batch = model_of(NoFusion), whole_batch()
    objective = Autoencoder(model.shape(), source="image", targets=["text", "audio"], hidden=64)
    optimizer = torch.optim.Adam([*model.encoders["image"].parameters(), *objective.parameters()], lr=2e-2)
    for _ in range(80):
        losses = objective(views_of(model, batch)).losses
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    ids, mask = batch["text"]["ids"], batch["text"]["mask"]
    words = objective.decoders["text"](model.encode(batch)["image"].pooled, mask).argmax(-1)
    assert (words == ids[mask]).float().mean() > 0.95
    spectrogram = batch["audio"]["spectrogram"]
    assert losses["autoencoder_audio"] < 0.5 * spectrogram.var()
