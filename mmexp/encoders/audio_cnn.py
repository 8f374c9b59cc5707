"""A convolutional network on the log-mel spectrogram, as on a picture of one channel (PANNs, arXiv:1912.10211)."""

from typing import Any

import torch
from torch import Tensor

from mmexp.attention import masked_mean
from mmexp.encoders import timm_features
from mmexp.encoders.names import in_one_line
from mmexp.encoders.sound_encoder import SoundEncoder, blank_clip, frames_in
from mmexp.encoders.timm_image import create
from mmexp.encoders.unused import retire_unused
from mmexp.errors import RequestError
from mmexp.state_dicts import used_names
from mmexp.types import Encoded, PositiveFloat, PositiveInt, Prepared


class AudioCnn(SoundEncoder):
    """Timm's network `name` with `options` for its constructor; pooled as the mean of the cells in which something sounds.

    `pretrained` downloads timm's weights for pictures, whose first layer is summed over the colours (PSLA, arXiv:2102.01243).
    Raises RequestError for unknown names and options, and for sizes that do not go together.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool = False,
        rate: PositiveInt = 16000,
        seconds: PositiveFloat = 5.0,
        mels: PositiveInt = 64,
        options: dict[str, Any] | None = None,
    ):
        model, report = create(name, None, pretrained, None, {**(options or {}), "in_chans": 1})
        wrong = f"'{name}' with {options or {}} cannot encode a sound"
        with in_one_line(wrong):
            stride = _stride(model, name, mels)
        frames = frames_in(seconds, rate, stride)
        super().__init__(rate, mels, frames)
        self.model, self.stride, self.pretrained = model, stride, pretrained
        self.grid = (mels // stride, frames // stride)
        self.adapter_targets = timm_features.adapter_targets(model)
        # Convolutions are faster so, on CPU and GPU alike.
        model.train().to(memory_format=torch.channels_last)
        with in_one_line(wrong):
            self.dim = retire_unused(self, blank_clip(self)).pooled.shape[-1]
        self.weights_report = str(report or "")
        if report:
            report.require(f"timm's '{name}'", used_names(model))

    def forward(self, prepared: Prepared) -> Encoded:
        """Encode `spectrogram (B, M, F)` with `mask (B, F)`, or `samples (B, T)`."""
        prepared = self.spectrogram(prepared["samples"]) if "samples" in prepared else prepared
        frames = prepared["mask"]
        # Convolutions see beyond the end of a sound: there is the mean, whatever it was filled up with.
        seen = prepared["spectrogram"].masked_fill(~frames[:, None], 0.0)[:, None]
        cells = self.model.forward_features(seen.to(next(self.parameters()).dtype))
        mask = self.spread(frames.unflatten(1, (-1, self.stride)).any(2))
        tokens = cells.flatten(2).transpose(1, 2) * mask.unsqueeze(-1)
        return Encoded(tokens, masked_mean(tokens, mask), mask)


@torch.no_grad()
def _stride(model: Any, name: str, mels: int) -> int:
    """Return how many bands and frames a cell of the network's last map stands for."""
    try:
        cells: Tensor = model.eval().forward_features(torch.zeros(1, 1, mels, 4 * mels))
    except (RuntimeError, AssertionError) as error:
        raise RequestError(f"encoder.audio.name: '{name}' takes pictures of one size alone. Choose a CNN.") from error
    if cells.ndim != 4:
        raise RequestError(f"encoder.audio.name: '{name}' gives no map of bands and time. Choose a CNN.")
    stride, rest = divmod(mels, cells.shape[2])
    if rest or cells.shape[3] * stride != 4 * mels:
        raise RequestError(f"mels={mels} does not divide into the {cells.shape[2]} rows of the last map of '{name}'.")
    return stride
