"""Any audio encoder of the transformers library, from a local folder or by its name on the hub."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mmexp.attention import fast_attention, masked_mean
from mmexp.encoders.audio_spectrogram_transformer import AudioSpectrogramTransformer
from mmexp.encoders.hub import from_hub, in_folder
from mmexp.encoders.sounds import raw
from mmexp.encoders.transformers_weights import part_report, pretrained_model
from mmexp.encoders.unused import retire_unused
from mmexp.errors import RequestError
from mmexp.state_dicts import LoadReport, used_names
from mmexp.types import Encoded, PositiveFloat, Prepared

# Dropped layers would have no gradient, and masks are drawn by numpy, which a resumed run could not repeat.
_AT_REST = {"layerdrop": 0.0, "encoder_layerdrop": 0.0, "apply_spec_augment": False}


def huggingface_audio(name: str, pretrained: bool = True, seconds: PositiveFloat = 5.0) -> nn.Module:
    """Return the encoder `name`: wav2vec 2.0, HuBERT, WavLM and their kin, Whisper, or AST.

    `pretrained=false` takes its architecture alone. Of a sound it hears the first `seconds`; an AST as many as its positions
    are for. Raises RequestError where there is no such model.
    """
    extractor, model, report = _load(name, pretrained)
    if model is None:
        return AudioSpectrogramTransformer(name, pretrained)
    first, length = extractor.model_input_names[0], round(seconds * extractor.sampling_rate)
    if first == "input_values" and hasattr(model, "_get_feat_extract_output_lengths"):
        return _checked(SampleEncoder(model, extractor, pretrained, length), report, name)
    if first == "input_features" and hasattr(extractor, "n_samples"):
        return _checked(WhisperEncoder(model, extractor, pretrained, length), report, name)
    raise RequestError(
        f"'{name}' hears sounds as '{model.config.model_type}' does, which is not known here. Choose one like wav2vec 2.0, "
        "HuBERT, WavLM, Whisper or AST."
    )


def _checked(encoder: Any, report: LoadReport | None, name: str) -> nn.Module:
    """Return an encoder with the report on its weights. Raises RequestError where some that it uses are missing."""
    encoder.weights_report = str(report or "")
    if report:
        report.require(f"'{name}'", used_names(encoder.model))
    return encoder


class _HuggingFaceSound(nn.Module):
    """What both kinds share: the model, its extractor, and clips of one length."""

    modality = "audio"

    def __init__(self, model: Any, extractor: Any, pretrained: bool, length: int):
        super().__init__()
        self.model, self.extractor, self.pretrained = model, extractor, pretrained
        self.rate, self.length = int(extractor.sampling_rate), length
        # The names of wav2vec 2.0 and its kin, and of Whisper. WavLM's attention takes weights, never calling its layers.
        attention = "" if model.config.model_type == "wavlm" else "q_proj|k_proj|v_proj|out_proj|"
        self.adapter_targets = rf"model\..*\.({attention}intermediate_dense|output_dense|fc1|fc2)"

    def settle(self) -> None:
        """Read `dim` off one clip; weights that did not take part are trained no more."""
        blank = {"samples": torch.linspace(-0.1, 0.1, self.length)[None]}
        self.dim = retire_unused(self, blank).pooled.shape[-1]

    def prepare(self, values: Any) -> Prepared:
        """Return `samples (B, T)` of sounds, each (samples (T,) float32, their rate in Hz)."""
        return {"samples": raw(values, self.rate, self.length)}

    def encoded(self, counts: Tensor, **inputs: Tensor | None) -> Encoded:
        """Return the model's tokens (B, N, D) of its `inputs`, of which `counts (B,)` are real, and their mean."""
        with fast_attention(counts.device, self.model.dtype):
            tokens = self.model(**inputs).last_hidden_state
        mask = torch.arange(tokens.shape[1], device=counts.device) < counts[:, None]
        return Encoded(tokens, masked_mean(tokens, mask), mask)


class SampleEncoder(_HuggingFaceSound):
    """Samples in. A model that was trained with a mask over what fills clips up gets one, others see the silence."""

    def __init__(self, model: Any, extractor: Any, pretrained: bool, length: int):
        super().__init__(model, extractor, pretrained, length)
        self.least = 1
        for width, stride in zip(reversed(model.config.conv_kernel), reversed(model.config.conv_stride), strict=True):
            self.least = (self.least - 1) * stride + width
        if length < self.least:
            raise RequestError(f"encoder.audio.seconds: {self.least} samples at {self.rate} Hz are the least it hears.")
        self.settle()

    def forward(self, prepared: Prepared) -> Encoded:
        """Encode `samples (B, T)`; exact zeros at the end are no part of a sound."""
        samples = prepared["samples"]
        lengths = _ends(samples).clamp_min(self.least)
        real = torch.arange(samples.shape[1], device=samples.device) < lengths[:, None]
        mask = real.long() if self.extractor.return_attention_mask else None
        seen = _normalised(samples, real) if self.extractor.do_normalize else samples
        counts = self.model._get_feat_extract_output_lengths(lengths)
        return self.encoded(counts, input_values=seen.to(self.model.dtype), attention_mask=mask)


class WhisperEncoder(_HuggingFaceSound):
    """The log-mel features of Whisper's own extractor in (arXiv:2212.04356), made in the loader; it fills clips up to 30 s.

    The encoder sees the silence, as it was trained; its tokens there are masked.
    """

    def __init__(self, model: Any, extractor: Any, pretrained: bool, length: int):
        super().__init__(model, extractor, pretrained, min(length, extractor.n_samples))
        self.settle()

    def spectrogram(self, samples: Tensor) -> Prepared:
        """Return `spectrogram (B, M, F)` of `samples (B, T)`, as the extractor makes it, and `mask (B, F)`."""
        made = self.extractor(list(samples.cpu().numpy()), sampling_rate=self.rate, return_tensors="pt")
        features = made["input_features"].to(samples.device)
        counts = (_ends(samples) / self.extractor.hop_length).ceil().clamp_min(1)
        return {
            "spectrogram": features,
            "mask": torch.arange(features.shape[2], device=samples.device) < counts[:, None],
        }

    def forward(self, prepared: Prepared) -> Encoded:
        """Encode `spectrogram (B, M, F)` with `mask (B, F)`, or `samples (B, T)`."""
        prepared = self.spectrogram(prepared["samples"]) if "samples" in prepared else prepared
        # A token is two frames.
        counts = (prepared["mask"].sum(1) + 1) // 2
        return self.encoded(counts, input_features=prepared["spectrogram"].to(self.model.dtype))


def _ends(samples: Tensor) -> Tensor:
    """Return (B,) where each sound ends: exact zeros after that are what `samples (B, T)` were filled up with."""
    places = torch.arange(1, samples.shape[1] + 1, device=samples.device)
    return (samples.ne(0) * places).amax(1)


def _normalised(samples: Tensor, real: Tensor) -> Tensor:
    """Return `samples (B, T)` with mean 0 and variance 1 over the `real` ones, as wav2vec 2.0 hears them, else zeros."""
    count = real.sum(1, keepdim=True)
    centred = (samples - (samples * real).sum(1, keepdim=True) / count) * real
    return centred / (centred.square().sum(1, keepdim=True) / count + 1e-7).sqrt()


def _load(name: str, pretrained: bool) -> tuple[Any, Any, LoadReport | None]:
    """Return the feature extractor, the encoder and the report on its weights; None for an AST, which has a class of its own."""
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

    wrong = f"'{name}' is neither a folder with an audio model nor to be had from the hub"
    with in_folder(wrong) if Path(name).is_dir() else from_hub(wrong):
        config = AutoConfig.from_pretrained(name)
        if config.model_type == "audio-spectrogram-transformer":
            return None, None, None
        for key, value in _AT_REST.items():
            if hasattr(config, key):
                setattr(config, key, value)
        extractor = AutoFeatureExtractor.from_pretrained(name)
        if pretrained:
            whole, report = pretrained_model(AutoModel, name, config=config)
        else:
            whole, report = AutoModel.from_config(config), None
    model = whole.get_encoder() if config.is_encoder_decoder else whole
    report = report and part_report(whole, model, report)
    return extractor, _with_plain_weights(model), report


def _with_plain_weights(model: nn.Module) -> nn.Module:
    """Multiply out what a weight is made of: a model with weight norms could not be sent to another process."""
    for module in model.modules():
        if parametrize.is_parametrized(module):
            for name in list(getattr(module, "parametrizations", {})):
                parametrize.remove_parametrizations(module, name)
            # What would rename old checkpoints' weights is a local function, which cannot be sent either.
            module._load_state_dict_pre_hooks.clear()
    return model
