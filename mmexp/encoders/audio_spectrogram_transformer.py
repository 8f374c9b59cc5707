"""The Audio Spectrogram Transformer (AST, arXiv:2104.01778) of the transformers library."""

from pathlib import Path
from typing import Any

from torch import Tensor

from mmexp.attention import fast_attention
from mmexp.encoders.hub import from_hub, in_folder
from mmexp.encoders.names import in_one_line
from mmexp.encoders.sound_encoder import SoundEncoder, blank_clip
from mmexp.encoders.sounds import MEAN, STD
from mmexp.encoders.transformers_weights import pretrained_model
from mmexp.encoders.unused import retire_unused
from mmexp.errors import RequestError, nearest
from mmexp.state_dicts import LoadReport, used_names
from mmexp.types import Encoded, Prepared

RATE = 16000


class AudioSpectrogramTransformer(SoundEncoder):
    """The model `name`, a local folder or a name on the hub, or one of random weights by `options`, those of ASTConfig.

    `pretrained=false` takes its architecture alone; without a name nothing is asked of the hub. It hears as many seconds as
    its positions are for. As it was trained, it sees the silence that fills up a shorter sound; its tokens there are masked.
    Pooled as it pools: the mean of the two class tokens. Raises RequestError where there is no such model.
    """

    adapter_targets = r"model\.layers\.\d+\..*(q_proj|k_proj|v_proj|o_proj|fc1|fc2)"

    def __init__(self, name: str | None = None, pretrained: bool = True, options: dict[str, Any] | None = None):
        model, mean, deviation, report = _load(name, pretrained, options or {})
        super().__init__(RATE, model.config.num_mel_bins, model.config.max_length)
        self.model, self.pretrained = model, pretrained and name is not None
        self.mean, self.deviation = mean, deviation
        with in_one_line(f"encoder.audio.options: with {options or {}} no sound can be encoded"):
            self.grid = tuple(model.embeddings.get_shape(model.config))
            # Of patches that overlap none can be hidden alone: then there is no spectrogram to take apart.
            sizes = (model.config.num_mel_bins, model.config.max_length)
            if any(size % cells for size, cells in zip(sizes, self.grid, strict=True)):
                self.spectrogram_size = None
            self.dim = retire_unused(self, blank_clip(self)).pooled.shape[-1]
        self.weights_report = str(report or "")
        if report:
            report.require(f"'{name}'", used_names(self.model))

    def spectrogram(self, samples: Tensor) -> Prepared:
        """Return `spectrogram (B, M, F)` of `samples (B, T)`, normalised as the model's own feature extractor does."""
        prepared = super().spectrogram(samples)
        logs = prepared["spectrogram"] * (2 * STD) + MEAN
        # Its extractor fills up with zeros behind the logarithm.
        logs = logs.masked_fill(~prepared["mask"][:, None], 0.0)
        return {**prepared, "spectrogram": (logs - self.mean) / (2 * self.deviation)}

    def forward(self, prepared: Prepared) -> Encoded:
        """Encode `spectrogram (B, M, F)` with `mask (B, F)`, or `samples (B, T)`."""
        prepared = self.spectrogram(prepared["samples"]) if "samples" in prepared else prepared
        seen = prepared["spectrogram"].transpose(1, 2).to(self.model.dtype)
        with fast_attention(seen.device, self.model.dtype):
            out = self.model(seen)
        columns = prepared["mask"][:, :: self.model.config.time_stride][:, : self.grid[1]]
        return Encoded(out.last_hidden_state[:, 2:], out.pooler_output, self.spread(columns))


def _load(name: str | None, pretrained: bool, options: dict[str, Any]) -> tuple[Any, float, float, LoadReport | None]:
    """Return the model, mean and deviation of the logarithms as its extractor has them, and the report on its weights."""
    from transformers import ASTConfig, ASTModel, AutoFeatureExtractor

    # The library takes any name for a setting.
    known = ASTConfig().to_dict()
    if unknown := next((key for key in options if key not in known), None):
        raise RequestError(f"encoder.audio.options: '{unknown}' is no setting of an AST.{nearest(unknown, known)}")
    if name is None:
        with in_one_line(f"encoder.audio.options, {options}"):
            return ASTModel(ASTConfig(**options)), MEAN, STD, None
    wrong = f"'{name}' is neither a folder with an AST nor to be had from the hub"
    with in_folder(wrong) if Path(name).is_dir() else from_hub(wrong):
        config = ASTConfig.from_pretrained(name, **options)
        extractor = AutoFeatureExtractor.from_pretrained(name)
        model, report = pretrained_model(ASTModel, name, config=config) if pretrained else (ASTModel(config), None)
    return model, extractor.mean, extractor.std, report
