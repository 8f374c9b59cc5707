"""Options that a library takes and that no encoding survives: one plain line."""

import pytest

from mmexp.encoders.audio_cnn import AudioCnn
from mmexp.encoders.audio_spectrogram_transformer import AudioSpectrogramTransformer
from mmexp.encoders.timm_image import TimmImage
from mmexp.errors import RequestError

COATNET = {"block_type": ["C", "C", "T"], "depths": [1, 1, 1], "embed_dim": [48, 96, 192], "stem_width": [24, 32]}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: TimmImage("coatnet_0_rw_224", 72, options=COATNET), "cannot encode a picture of 72 pixels"),
        (
            lambda: TimmImage("coatnet_0_rw_224", 64, options={**COATNET, "embed_dim": [24, 24, 24]}),
            r"'coatnet_0_rw_224' with .*\[24, 24, 24\].* cannot encode",
        ),
        (lambda: TimmImage("resnet10t", 64, options={"channels": [48, 96]}), "cannot encode a picture of 64"),
        (lambda: TimmImage("resnet10t", 64, settings={"crop_pct": "x"}), "settings of 'resnet10t', {'crop_pct': 'x'}"),
        (lambda: TimmImage("resnet10t", 64, settings={"std": [1, 2]}), "settings of 'resnet10t'"),
        (lambda: AudioSpectrogramTransformer(None, options={"num_mel_bins": 8}), "no sound can be encoded"),
        (lambda: AudioSpectrogramTransformer(None, options={"num_mel_bins": "x"}), "encoder.audio.options, "),
        (lambda: AudioCnn("resnet10t", options={"channels": [48, 96]}), "cannot encode a sound: .*layer3"),
    ],
)
def test_one_line(make, said):
    with pytest.raises(RequestError, match=said) as refusal:
        make()
    assert "\n" not in str(refusal.value)


def test_the_way_of_cropping_counts_by_itself():
    plain, squashed = (TimmImage("resnet10t", 32, settings=s) for s in (None, {"crop_mode": "squash"}))
    assert (plain.transform.fit, squashed.transform.fit) == ("pad", "squash")
    assert plain.transform.scale == squashed.transform.scale == 32, "nothing is cut off"
    assert TimmImage("resnet10t", 32, settings={"crop_pct": 0.5}).transform.fit == "pad"
