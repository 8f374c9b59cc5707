"""Which patches of a spectrogram are hidden, and the loss against that of ViT-MAE."""

from types import SimpleNamespace

import pytest
import torch
from stand_ins import sounds_of, tiny_audio, views_of
from torch import nn

from mmexp.draws import RowGenerator
from mmexp.encoders.spectrogram import SpectrogramTransformer
from mmexp.errors import RequestError
from mmexp.fusion.none import NoFusion
from mmexp.model import Model
from mmexp.objectives.hiding import MaskPatch
from mmexp.objectives.masked_audio import MaskedAudio, hidden_cells, mean_of_real
from mmexp.shapes import ModelShape

GRID = (4, 10)


def cells(ratio: float, strategy: str, rows: int = 50) -> torch.Tensor:
    return hidden_cells(rows, GRID, ratio, strategy, RowGenerator(0, 0, torch.arange(rows), "")).view(rows, *GRID)


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.75, 1.0])
def test_random_patches_are_as_many_as_asked_for(ratio):
    hidden = cells(ratio, "random")
    assert set(hidden.sum((1, 2)).tolist()) == {round(40 * ratio)}
    assert ratio in (0, 1) or (hidden.float().mean(0) - ratio).abs().max() < 0.3


def test_time_hides_whole_columns_and_frequency_whole_rows():
    time, frequency = cells(0.3, "time"), cells(0.5, "frequency")
    assert torch.equal(time.any(1), time.all(1)) and set(time.any(1).sum(1).tolist()) == {3}
    assert torch.equal(frequency.any(2), frequency.all(2)) and set(frequency.any(2).sum(1).tolist()) == {2}
    assert len({str(row) for row in time.any(1).tolist()}) > 10


def test_both_hides_rows_and_columns_that_together_are_the_ratio():
    hidden = cells(0.75, "both")
    rows, columns = hidden.all(2), hidden.all(1)
    assert torch.equal(hidden, rows[:, :, None] | columns[:, None])
    assert set(rows.sum(1).tolist()) == {2} and set(columns.sum(1).tolist()) == {5}
    assert set(hidden.sum((1, 2)).tolist()) == {30}


def hide(spectrogram: torch.Tensor, mask: torch.Tensor, mask_patch: MaskPatch, cells: torch.Tensor) -> torch.Tensor:
    """Return `spectrogram (B, M, F)` with the mask patch, around the clip's mean, in the hidden cells."""
    return mask_patch(spectrogram[:, None], cells, mean_of_real(spectrogram, mask))[:, 0]


def test_hidden_patches_take_the_mask_patch_around_the_clips_mean_and_the_others_stay():
    spectrogram, mask = torch.rand(3, 8, 20), torch.arange(20).expand(3, -1) < torch.tensor([[20], [10], [5]])
    hidden = hidden_cells(3, GRID, 0.5, "random", RowGenerator(0, 0, torch.arange(3), ""))
    mask_patch = MaskPatch(1, (8, 20), GRID)
    changed = hide(spectrogram, mask, mask_patch, hidden)
    area = hidden.view(3, *GRID).repeat_interleave(2, 1).repeat_interleave(2, 2)
    means = torch.stack([spectrogram[row, :, :end].mean() for row, end in enumerate((20, 10, 5))])
    painted = means[:, None, None] + mask_patch.mask_token.repeat(1, *GRID)
    torch.testing.assert_close(changed, torch.where(area, painted, spectrogram))


def test_a_hidden_cell_is_the_encoders_token_of_that_place():
    encoder, spectrogram, mask_patch = tiny_audio(), torch.rand(1, 8, 48), MaskPatch(1, (8, 48), (2, 12))
    for place in (0, 5, 12, 23):
        hidden = torch.arange(24)[None] == place
        before, after = (
            encoder.embed(s[:, None]).flatten(2)
            for s in (spectrogram, hide(spectrogram, torch.ones(1, 48), mask_patch, hidden))
        )
        assert (before != after).any(1)[0].nonzero().flatten().tolist() == [place]


def objective_of(encoder, **options) -> tuple[Model, MaskedAudio]:
    torch.manual_seed(0)
    model = Model({"audio": encoder}, NoFusion({"audio": 12}))
    return model, MaskedAudio(model.shape(), **options)


def views(model, audio):
    return views_of(model, {"audio": audio, "index": torch.arange(len(audio["mask"]))})


class Given(nn.Module):
    """In the place of a part of another model: gives what is given, whatever goes in."""

    def __init__(self, **outputs):
        super().__init__()
        self.outputs = SimpleNamespace(**outputs)

    def forward(self, *_, **__):
        return self.outputs


def test_the_loss_agrees_with_that_of_vit_mae_in_value_and_gradient():
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    # 8 bands and 8 frames: a picture of one channel, as their loss wants it; loud, so that no deviation needs a floor.
    encoder = SpectrogramTransformer(rate=4000, seconds=0.1, mels=8, patch=4, dim=12, depth=1, heads=2)
    model, objective = objective_of(encoder)
    spectrogram = 100 * torch.rand(6, 8, 8, generator=torch.Generator().manual_seed(0))
    seen = views(model, {"spectrogram": spectrogram, "mask": torch.ones(6, 8, dtype=torch.bool)})
    hidden = hidden_cells(6, encoder.grid, 0.75, "random", seen.row_generator("masked_audio"))
    changed = {
        **seen.batch["audio"],
        "spectrogram": hide(spectrogram, seen.batch["audio"]["mask"], objective.mask_patch, hidden),
    }
    drawn = objective.head(model.encode_one("audio", changed).tokens)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    mae = ViTMAEForPreTraining(ViTMAEConfig(image_size=8, patch_size=4, num_channels=1, norm_pix_loss=True, **sizes))
    mae.vit = Given(last_hidden_state=None, ids_restore=None, mask=hidden.float(), hidden_states=None, attentions=None)
    mae.decoder = Given(logits=drawn)
    theirs = mae(pixel_values=spectrogram[:, None]).loss
    ours = objective(seen).losses["masked_audio"]
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6)
    parameters = [*objective.parameters(), *encoder.parameters()]
    for a, b in zip(torch.autograd.grad(ours, parameters), torch.autograd.grad(theirs, parameters), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_filled_up_silence_is_not_learned():
    model, objective = objective_of(tiny_audio(), ratio=1.0)
    nn.init.zeros_(objective.head.weight)
    nn.init.zeros_(objective.head.bias)
    audio = sounds_of(4)
    # In half of the rows the sound ends in the 25th of the 48 frames, which is in the seventh column of four.
    assert model.encode_one("audio", audio).mask.sum(1).tolist() == [14, 14, 24, 24]
    losses = []
    for frames in (slice(28, None), slice(27, None)):
        changed = audio["spectrogram"].clone()
        changed[:2, :, frames] = torch.rand(changed[:2, :, frames].shape, generator=torch.Generator().manual_seed(0))
        losses.append(objective(views(model, {**audio, "spectrogram": changed})).losses["masked_audio"].item())
    unchanged = objective(views(model, audio)).losses["masked_audio"].item()
    assert losses[0] == pytest.approx(unchanged, abs=1e-6)
    assert losses[1] != pytest.approx(unchanged, abs=1e-6)


@pytest.mark.parametrize("strategy", ["random", "time", "frequency", "both"])
def test_encoder_and_head_get_gradients(strategy):
    model, objective = objective_of(tiny_audio(), ratio=0.5, strategy=strategy)
    objective(views(model, sounds_of())).losses["masked_audio"].backward()
    for name, parameter in [*model.named_parameters(), *objective.named_parameters()]:
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_nothing_hidden_is_no_loss_and_a_curriculum_begins_so():
    model, objective = objective_of(tiny_audio(), ratio={"from": 0.0, "to": 0.8})
    seen = views(model, sounds_of())
    seen.progress = 0.0
    loss = objective(seen).losses["masked_audio"]
    assert loss.item() == 0
    loss.backward()
    seen.progress = 1.0
    assert objective(seen).losses["masked_audio"] > 0


def test_an_encoder_of_samples_has_nothing_to_hide():
    with pytest.raises(RequestError, match="has no spectrogram to hide"):
        MaskedAudio(ModelShape({"audio": 8}, None))
