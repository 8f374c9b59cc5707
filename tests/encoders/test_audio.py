"""Audio encoders against the libraries that they stand on, on small random models: input, output, masks, gradients."""

import copy
import pickle
import re

import numpy as np
import pytest
import torch
import transformers
from stand_ins import tiny_audio, views_of
from torch import nn

from mmexp.adapters.lora import Lora
from mmexp.encoders.audio_cnn import AudioCnn
from mmexp.encoders.audio_spectrogram_transformer import AudioSpectrogramTransformer
from mmexp.encoders.huggingface_audio import huggingface_audio
from mmexp.errors import RequestError
from mmexp.fusion.none import NoFusion
from mmexp.model import Model
from mmexp.objectives.masked_audio import MaskedAudio

LAYERS = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
CONVOLUTIONS = {"conv_dim": [16, 16], "conv_stride": [5, 4], "conv_kernel": [10, 8], "num_feat_extract_layers": 2}
POSITIONS = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
AST = {**LAYERS, "num_mel_bins": 32, "max_length": 96}
WHISPER = {"d_model": 24, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_layers": 1}
KINDS = ("wav2vec2", "hubert", "wavlm", "whisper", "ast", "ast from scratch", "cnn")


def saved(kind: str, folder) -> str:
    """Save a small random model with its feature extractor; return where."""
    torch.manual_seed(0)
    if kind == "ast":
        model = transformers.ASTModel(transformers.ASTConfig(**AST))
        extractor = transformers.ASTFeatureExtractor(num_mel_bins=32, max_length=96, mean=-6.8, std=5.6)
    elif kind == "whisper":
        # A second: 100 frames, 50 tokens.
        sizes = {**WHISPER, "vocab_size": 64, "max_source_positions": 50, "max_target_positions": 8}
        marks = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 1)
        model = transformers.WhisperModel(transformers.WhisperConfig(**sizes, **marks))
        extractor = transformers.WhisperFeatureExtractor(chunk_length=1)
    else:
        names = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM"}
        # One is trained with a mask over silence, the others are not.
        masks = kind == "hubert"
        config = getattr(transformers, f"{names[kind]}Config")(
            **LAYERS, **CONVOLUTIONS, **POSITIONS, feat_extract_norm="layer" if masks else "group", layerdrop=0.5
        )
        model = getattr(transformers, f"{names[kind]}Model")(config)
        extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=masks)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module", params=KINDS)
def encoder(request, tmp_path_factory):
    torch.manual_seed(0)
    if request.param == "cnn":
        options = {"channels": [8, 8, 16, 16], "output_stride": 16}
        return AudioCnn("resnet10t", seconds=1.0, mels=32, options=options)
    if request.param == "ast from scratch":
        return AudioSpectrogramTransformer(options=AST)
    return huggingface_audio(saved(request.param, tmp_path_factory.mktemp(request.param)), seconds=0.9)


def sounds(*seconds: float, rate: int = 16000) -> list[tuple[np.ndarray, int]]:
    rng = np.random.default_rng(0)
    return [(0.1 * rng.standard_normal(int(s * rate)).astype(np.float32), rate) for s in seconds]


def made(encoder, samples):
    return encoder.spectrogram(samples) if hasattr(encoder, "spectrogram") else {"samples": samples}


def test_the_form_of_what_it_gives(encoder):
    samples = encoder.prepare(sounds(2.0, 0.5, 0.3))["samples"]
    assert samples.shape == (3, encoder.length)
    prepared = made(encoder, samples)
    with torch.no_grad():
        encoded = encoder.eval()(prepared)
        again = encoder({"samples": samples})
    assert encoded.pooled.shape == (3, encoder.dim) and encoded.tokens.shape == (*encoded.mask.shape, encoder.dim)
    assert torch.equal(again.pooled, encoded.pooled)
    counts = encoded.mask.sum(1)
    assert counts[0] > counts[1] > counts[2] > 0
    # Half a second is about that share of the clip's tokens, with those that it only touches.
    rows = getattr(encoder, "grid", (1,))[0]
    # Whisper's extractor fills clips up to a length of its own.
    whole = getattr(getattr(encoder, "extractor", None), "n_samples", encoder.length)
    columns = 0.5 * 16000 / whole * encoded.mask.shape[1] / rows
    assert columns - 1 < counts[1] / rows < columns + 1
    if hasattr(encoder, "grid"):
        assert encoder.grid[0] * encoder.grid[1] == encoded.mask.shape[1]
    if getattr(encoder, "spectrogram_size", None):
        assert prepared["spectrogram"].shape[1:] == encoder.spectrogram_size


def test_every_weight_that_is_trained_has_a_gradient(encoder):
    encoder.train()
    encoded = encoder(made(encoder, encoder.prepare(sounds(2.0, 0.5))["samples"]))
    (encoded.tokens.square().sum() + encoded.pooled.square().sum()).backward()
    assert not [name for name, p in encoder.named_parameters() if p.grad is None]
    encoder.zero_grad()


def test_lora_finds_layers_that_learn(encoder):
    layers = [name for name, m in encoder.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert sum(bool(re.fullmatch(encoder.adapter_targets, name)) for name in layers) >= 4
    model = Model({"audio": copy.deepcopy(encoder)}, NoFusion({}))
    Lora(rank=2).apply("encoders.audio", model.encoders["audio"])
    prepared = made(encoder, encoder.prepare(sounds(2.0, 0.5))["samples"])
    model.encode({"audio": prepared})["audio"].pooled.square().sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    assert sum("lora_B" in name for name, p in model.named_parameters() if p.grad is not None) >= 4


def test_what_training_draws_is_drawn_by_torch(encoder):
    prepared = made(encoder, encoder.prepare(sounds(2.0, 0.5))["samples"])
    encoder.train()
    before = np.random.get_state()[1].copy()
    torch.manual_seed(0)
    first = encoder(prepared).pooled
    torch.manual_seed(0)
    torch.testing.assert_close(encoder(prepared).pooled, first)
    assert (np.random.get_state()[1] == before).all(), "a resumed run could not draw this again"


def test_encoders_travel_to_workers(encoder):
    again = pickle.loads(pickle.dumps(encoder))
    values = sounds(0.5)
    samples = encoder.prepare(values)["samples"]
    assert torch.equal(again.prepare(values)["samples"], samples)
    one, other = made(encoder, samples), made(again, samples)
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm"])
def test_samples_are_encoded_as_transformers_does(kind, tmp_path):
    name = saved(kind, tmp_path)
    encoder = huggingface_audio(name, seconds=0.9).eval()
    values = sounds(0.9, 0.4)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(name)
    model = transformers.AutoModel.from_pretrained(name).eval()
    # Each by itself, then filled up with zeros.
    alone = [extractor(v, sampling_rate=16000, return_tensors="pt")["input_values"][0] for v, _ in values]
    inputs = {"input_values": nn.utils.rnn.pad_sequence(alone, batch_first=True)}
    if extractor.return_attention_mask:
        inputs["attention_mask"] = nn.utils.rnn.pad_sequence(
            [torch.ones(len(v)) for v in alone], batch_first=True
        ).long()
    with torch.no_grad():
        ours = encoder(encoder.prepare(values))
        theirs = model(**inputs).last_hidden_state
    torch.testing.assert_close(ours.tokens[ours.mask], theirs[ours.mask], atol=1e-4, rtol=1e-3)
    lengths = model._get_feat_extract_output_lengths(torch.tensor([14400, 6400]))
    assert ours.mask.sum(1).tolist() == lengths.tolist()
    # The mean of what is real alone.
    torch.testing.assert_close(ours.pooled[1], theirs[1, : lengths[1]].mean(0), atol=1e-4, rtol=1e-3)


def test_whisper_hears_what_its_own_extractor_makes(tmp_path):
    name = saved("whisper", tmp_path)
    encoder = huggingface_audio(name, seconds=30).eval()
    assert encoder.length == 16000, "no more than it can hear"
    values = sounds(1.0, 0.4)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(name)
    model = transformers.AutoModel.from_pretrained(name).get_encoder().eval()
    inputs = extractor([v for v, _ in values], sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        ours, theirs = encoder(encoder.prepare(values)), model(**inputs).last_hidden_state
    torch.testing.assert_close(ours.tokens, theirs)
    assert ours.mask.sum(1).tolist() == [50, 20]


@pytest.mark.filterwarnings("ignore:At least one mel filter")
def test_ast_hears_what_its_own_extractor_makes(tmp_path):
    name = saved("ast", tmp_path)
    encoder = huggingface_audio(name)
    assert isinstance(encoder, AudioSpectrogramTransformer) and encoder.pretrained
    values = sounds(encoder.length / 16000, 0.4)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(name)
    inputs = extractor([v for v, _ in values], sampling_rate=16000, return_tensors="pt")["input_values"]
    ours = encoder.spectrogram(encoder.prepare(values)["samples"])
    torch.testing.assert_close(ours["spectrogram"][0].T, inputs[0], atol=3e-4, rtol=1e-3)
    # But for the frames that the end of a short sound lies in, its filling is the extractor's own.
    torch.testing.assert_close(ours["spectrogram"][1, :, :38].T, inputs[1, :38], atol=3e-4, rtol=1e-3)
    torch.testing.assert_close(ours["spectrogram"][1, :, 40:].T, inputs[1, 40:], atol=3e-4, rtol=1e-3)
    model = transformers.ASTModel.from_pretrained(name).eval()
    with torch.no_grad():
        torch.testing.assert_close(
            encoder.eval()(ours).pooled, model(ours["spectrogram"].transpose(1, 2)).pooler_output
        )


def test_only_patches_that_do_not_overlap_can_be_hidden():
    overlapping = Model({"audio": AudioSpectrogramTransformer(options=AST)}, NoFusion({}))
    with pytest.raises(RequestError, match="no spectrogram to hide"):
        MaskedAudio(overlapping.shape())
    apart = {**AST, "patch_size": 16, "frequency_stride": 16, "time_stride": 16}
    model = Model({"audio": AudioSpectrogramTransformer(options=apart)}, NoFusion({}))
    sounding = {"audio": made(model.encoders["audio"], model.encoders["audio"].prepare(sounds(2.0, 0.5))["samples"])}
    loss = MaskedAudio(model.shape())(views_of(model, {**sounding, "index": torch.arange(2)})).losses["masked_audio"]
    assert loss > 0


def test_what_fills_a_clip_up_changes_nothing_of_a_cnn():
    encoder = AudioCnn("resnet10t", seconds=1.0, mels=32, options={"channels": [8] * 4, "output_stride": 16}).eval()
    prepared = encoder.spectrogram(encoder.prepare(sounds(0.4))["samples"])
    louder = {**prepared, "spectrogram": prepared["spectrogram"].clone()}
    louder["spectrogram"][~prepared["mask"][:, None].expand_as(louder["spectrogram"])] = 5.0
    encoded, again = encoder(prepared), encoder(louder)
    assert torch.equal(encoded.pooled, again.pooled)
    assert not encoded.tokens[~encoded.mask].any()
    torch.testing.assert_close(encoded.pooled[0], encoded.tokens[0][encoded.mask[0]].mean(0))


def test_a_cnn_hears_what_the_small_transformer_hears():
    other = tiny_audio()
    sizes = {"rate": 4000, "seconds": 0.5, "mels": 8}
    encoder = AudioCnn("resnet10t", **sizes, options={"channels": [8] * 4, "output_stride": 8})
    samples = torch.randn(2, encoder.length)
    bands, frames = encoder.spectrogram_size
    assert (
        torch.equal(encoder.spectrogram(samples)["spectrogram"], other.log_mel(samples))
        and frames % 8 == bands % 8 == 0
    )


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda folder: AudioCnn("resnet10"), "Did you mean 'resnet10t'"),
        (lambda folder: AudioCnn("vit_tiny_patch16_224"), "Choose a CNN"),
        (lambda folder: AudioCnn("resnet10t", mels=72), "mels=72 does not divide"),
        (lambda folder: AudioCnn("resnet10t", seconds=0.1), "seconds=0.1 is less than"),
        (lambda folder: AudioSpectrogramTransformer(options={"hidden_size": 10}), "encoder.audio.options"),
        (lambda folder: AudioSpectrogramTransformer(options={"hidden_sise": 12}), "Did you mean 'hidden_size'"),
        (lambda folder: huggingface_audio(str(folder)), "neither a folder with an audio model"),
        (lambda folder: AudioSpectrogramTransformer(str(folder)), "neither a folder with an AST"),
        (lambda folder: huggingface_audio(saved("hubert", folder), seconds=0.001), "the least it hears"),
    ],
)
def test_mistakes_are_answered(build, said, tmp_path):
    with pytest.raises(RequestError, match=re.escape(said)) as caught:
        build(tmp_path)
    assert "\n" not in str(caught.value)
