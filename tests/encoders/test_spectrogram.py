"""The spectrogram against transformers' AST, resampling against the formula of a tone, and what padding may not change."""

import numpy as np
import pytest
import torch
from stand_ins import tiny_audio
from transformers import ASTFeatureExtractor
from transformers.audio_utils import mel_filter_bank

from mmexp.encoders.sounds import LogMel, clip, mel_filters
from mmexp.encoders.spectrogram import SpectrogramTransformer
from mmexp.errors import RequestError


def noise(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(rows, length, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return tiny_audio().eval()


@pytest.mark.parametrize(("rate", "bands", "points"), [(16000, 64, 512), (16000, 40, 512), (22050, 64, 1024)])
def test_mel_filters_agree_with_transformers(rate, bands, points):
    sizes = {"num_frequency_bins": points // 2 + 1, "num_mel_filters": bands, "sampling_rate": rate}
    limits = {"min_frequency": 20, "max_frequency": rate / 2}
    theirs = mel_filter_bank(**sizes, **limits, mel_scale="kaldi", triangularize_in_mel_space=True)
    assert np.allclose(mel_filters(rate, bands, points).numpy(), theirs, atol=1e-6)


@pytest.mark.filterwarnings("ignore:At least one mel filter")
def test_the_spectrogram_agrees_with_that_of_ast():
    samples = noise(2, 16000)
    ours = LogMel(16000, 128)(samples)
    extract = ASTFeatureExtractor(max_length=ours.shape[2])
    theirs = extract(list(samples.numpy()), sampling_rate=16000, return_tensors="pt")["input_values"]
    assert ours.shape == (2, 128, 98)
    assert torch.allclose(ours, theirs.transpose(1, 2), atol=2e-4)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_a_tone_stays_that_tone_at_another_rate(rate):
    heard = clip(np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32), rate, 16000, 8000)
    expected = np.sin(2 * np.pi * 440 * np.arange(8000) / 16000)
    assert heard.dtype == np.float32 and heard.shape == (8000,)
    assert np.abs(heard - expected)[100:-100].max() < 5e-3


def test_tones_too_high_for_the_rate_do_not_fold_down():
    high = np.sin(2 * np.pi * 15000 * np.arange(44100) / 44100).astype(np.float32)
    assert np.abs(clip(high, 44100, 16000, 16000)[100:-100]).max() < 0.02


def test_short_sounds_are_filled_up_and_long_ones_cut(encoder):
    samples = encoder.prepare([(np.ones(5, np.float32), 4000), (np.ones(9000, np.float32), 4000)])["samples"]
    assert samples.shape == (2, encoder.length)
    assert samples[0].sum() == 5 and samples[1].sum() == encoder.length


def test_the_form_of_what_it_gives(encoder):
    prepared = encoder.spectrogram(noise(3, encoder.length))
    assert prepared["spectrogram"].shape == (3, *encoder.spectrogram_size) == (3, 8, 48)
    encoded = encoder(prepared)
    assert encoder.grid == (2, 12)
    assert encoded.tokens.shape == (3, 24, 12) and encoded.pooled.shape == (3, 12) and encoded.mask.all()
    from_samples = encoder({"samples": noise(3, encoder.length)})
    assert torch.equal(from_samples.pooled, encoded.pooled)


def test_tokens_are_row_by_row_from_the_lowest_band(encoder):
    blank = torch.zeros(1, 8, 48)
    blank[0, 4:, 8:12] = 1.0
    lit = encoder.embed(blank[:, None]).flatten(2) != encoder.embed(torch.zeros(1, 1, 8, 48)).flatten(2)
    assert lit.any(1)[0].nonzero().flatten().tolist() == [12 + 2]
    low = torch.sin(2 * torch.pi * 200 * torch.arange(encoder.length) / 4000)[None]
    bands = encoder.spectrogram(low)["spectrogram"][0].mean(1)
    assert bands.argmax() < 3


def test_tokens_of_filled_up_silence_are_masked_and_change_nothing(encoder):
    samples = noise(2, encoder.length)
    samples[0, 400:] = 0
    prepared = encoder.spectrogram(samples)
    # Ten frames of 40 samples begin before the silence; they are in three of the columns of four.
    assert prepared["mask"].sum(1).tolist() == [10, 48]
    encoded = encoder(prepared)
    assert encoded.mask[0].view(2, 12).nonzero()[:, 1].tolist() == [0, 1, 2] * 2
    louder = prepared["spectrogram"].clone()
    louder[0, :, 12:] = 5.0
    again = encoder({**prepared, "spectrogram": louder})
    assert torch.equal(again.pooled, encoded.pooled) and not encoded.tokens[0][~encoded.mask[0]].any()


def test_silence_has_an_encoding(encoder):
    encoded = encoder({"samples": torch.zeros(1, encoder.length)})
    assert encoded.mask.sum() == 2 and encoded.pooled.isfinite().all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dim": 10, "heads": 3}, "dim=10 does not divide"),
        ({"mels": 20, "patch": 16}, "mels=20 does not divide into patches of 16"),
        ({"seconds": 0.1}, "seconds=0.1 is less than a column of 16 frames"),
    ],
)
def test_sizes_that_do_not_go_together(wrong, message):
    with pytest.raises(RequestError, match=message):
        SpectrogramTransformer(**{"dim": 12, "heads": 2, "depth": 1, **wrong})
