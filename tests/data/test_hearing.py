"""Sounds on their way into a batch: decoded once, changed as waves and then as spectrograms; whole runs of three modalities."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from command_line import mmexp_here
from outside.parts import Squares
from PIL import Image
from stand_ins import TinyImage, TinyText, tiny_audio

from mmexp import build
from mmexp.augmentations.noise import Noise
from mmexp.augmentations.shift import Shift
from mmexp.augmentations.spec_augment import SpecAugment
from mmexp.compose import compose
from mmexp.data.loaders import evaluation_loader, train_loader
from mmexp.data.loading import Loading, PreparedSamples, Variation
from mmexp.data.supervision import supervision_of
from mmexp.tasks.views import StepViews

PLACES = [(row, 0) for row in range(8)]


class Tones(Squares):
    """Squares that sound: each row a tone of its own, 0.1 s long at least."""

    def __init__(self):
        super().__init__(4, 0)
        self.read_rows: list[int] = []

    def read(self, row, modality, rng=None):
        if modality != "audio":
            return super().read(row, modality, rng)
        self.read_rows.append(row)
        return np.sin((row + 1) * np.arange(400 + 100 * row) / 10).astype(np.float32), 4000


def heard(variation: Variation | None, samples=None, **loading) -> dict[str, torch.Tensor]:
    prepared = PreparedSamples(samples or Tones(), {"audio": tiny_audio()}, Loading(**loading), variation)
    return prepared.__getitems__(PLACES)["audio"]


def test_a_batch_holds_what_the_encoder_makes_of_the_samples():
    encoder = tiny_audio()
    sounds = encoder.prepare([Tones().read(row, "audio") for row in range(8)])
    expected = encoder.spectrogram(sounds["samples"])
    got = heard(None)
    assert got.keys() == expected.keys() and all(torch.equal(got[key], expected[key]) for key in got)


def test_each_sound_is_decoded_once_where_they_fit_into_memory():
    for cache_bytes, times in ((10**6, 1), (32 * 4 * 1980 - 1, 2)):
        samples = Tones()
        prepared = PreparedSamples(samples, {"audio": tiny_audio()}, Loading(cache_bytes=cache_bytes))
        first, second = (prepared.__getitems__(PLACES)["audio"]["spectrogram"] for _ in range(2))
        assert torch.equal(first, second) and len(samples.read_rows) == 8 * times


def test_waves_are_changed_before_and_spectrograms_after():
    encoder, plain = tiny_audio(), heard(None)
    waves = encoder.prepare([Tones().read(row, "audio") for row in range(8)])["samples"]
    for later in ([], [SpecAugment()]):
        # Whatever the order they are put in.
        variation = Variation(3, [*later, Noise(1.0), Shift()])
        expected = encoder.spectrogram(variation("audio", waves, PLACES))
        got = heard(variation)
        assert torch.equal(got["mask"], expected["mask"])
        assert torch.equal(got["spectrogram"], variation("spectrogram", expected["spectrogram"], PLACES))
        assert torch.equal(got["spectrogram"], expected["spectrogram"]) == (not later)
        assert not torch.equal(got["spectrogram"], plain["spectrogram"])


def test_noise_leaves_the_silence_behind_a_short_sound_and_a_shift_takes_the_mask_along():
    plain = heard(None)["mask"].sum(1)
    assert plain[0] == 10 and plain[-1] == 28
    assert torch.equal(heard(Variation(0, [Noise(1.0)]))["mask"].sum(1), plain)
    shifted = heard(Variation(0, [Shift(0.2)]))["mask"].sum(1)
    assert (shifted > plain).any() and (shifted < plain).any() and (shifted - plain).abs().max() <= 10


def test_the_number_of_workers_changes_nothing():
    encoders = {"image": TinyImage(), "text": TinyText(), "audio": tiny_audio()}
    variation = Variation(0, [Noise(1.0), Shift(), SpecAugment()])

    def epoch(workers: int) -> list[torch.Tensor]:
        loader = train_loader(Tones(), encoders, Loading(batch_size=8, num_workers=workers), variation, encoders)
        return [part["audio"]["spectrogram"] for batch in loader for part in (batch, batch["teacher"])]

    assert all(torch.equal(a, b) for a, b in zip(epoch(0), epoch(2), strict=True))


def test_evaluation_hears_everything_as_it_is():
    (batch,) = evaluation_loader(Tones(), {"audio": tiny_audio()}, Loading(batch_size=32))
    assert torch.equal(batch["audio"]["spectrogram"][:8], heard(None)["spectrogram"])


@pytest.fixture(scope="module")
def sounding_table(tmp_path_factory) -> Path:
    """Eight tones, each four times, with a square of its colour and its name."""
    folder, rows = tmp_path_factory.mktemp("sounding"), []
    for row in range(32):
        tone, rate = row % 8, (8000, 16000, 22050)[row % 3]
        times = np.arange(int(rate * (0.4 + row / 50))) / rate
        soundfile.write(folder / f"{row}.wav", 0.4 * np.sin(2 * np.pi * 300 * 1.4**tone * times), rate)
        Image.new("RGB", (8, 8), (30 * tone, 255 - 30 * tone, 128)).save(folder / f"{row}.png")
        rows.append({"image": f"{row}.png", "caption": f"tone {tone}", "sound": f"{row}.wav", "tone": str(tone)})
    (folder / "table.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


CLIPS = ("encoder.audio.seconds=0.6", "encoder.audio.dim=24", "encoder.audio.depth=1", "encoder.audio.mels=32")
SMALL = (*CLIPS, "encoder.text.dim=24", "encoder.text.depth=1", "encoder/image=cnn", "hardware.threads=1")
TABLE = ("data=table", "data.train=table.jsonl", "data.columns.audio=sound", "data.columns.concept=tone")


def test_three_modalities_learn_through_the_python_api(sounding_table, monkeypatch):
    monkeypatch.chdir(sounding_table)
    monkeypatch.setenv("MMEXP_CACHE", str(sounding_table / "cache"))
    augmentation = "augmentation=[noise,shift,spec_augment]"
    objective = "objective=[contrastive,masked_audio]"
    config = compose([*TABLE, *SMALL, objective, "fusion=none", augmentation, "data.val_fraction=0"])
    source = build.data_source(config)
    assert list(source.modalities) == ["image", "text", "audio"]
    assembled = build.assemble(config, list(source.modalities), supervision_of(source), {})
    encoders = assembled.model.encoders
    assert set(encoders.keys()) == {"image", "text", "audio"}
    loader = train_loader(source.splits["train"], encoders, Loading(batch_size=16), build.variation(config))
    parameters = [*assembled.model.parameters(), *(p for o in assembled.objectives.values() for p in o.parameters())]
    optimizer, history = torch.optim.Adam(parameters, lr=2e-3), []
    for epoch in range(15):
        for step, batch in enumerate(loader):
            views = StepViews(assembled.model, batch, 0, 2 * epoch + step, lambda tensor: tensor)
            losses = {k: v for o in assembled.objectives.values() for k, v in o(views).losses.items()}
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            history.append({name: loss.item() for name, loss in losses.items()})
    assert history[-1]["contrastive"] < 0.7 * history[0]["contrastive"]
    assert history[-1]["masked_audio"] < 0.95 * history[0]["masked_audio"]


def test_a_whole_run_with_every_new_objective(sounding_table):
    short = ("data.batch_size=8", "data.num_workers=0", "budget.steps=2", "hydra.run.dir=run")
    every = ("objective=[matching,masked_audio,autoencoder]", "augmentation=[noise,shift,spec_augment]")
    cache = str(sounding_table / "cache")
    done = mmexp_here("train", *TABLE, *SMALL, *short, *every, cwd=sounding_table, MMEXP_CACHE=cache)
    assert done.returncode == 0, done.stderr
    numbers = json.loads((sounding_table / "run" / "metrics.json").read_text())
    losses = ("masked_audio", "autoencoder_image", "autoencoder_text", "autoencoder_audio")
    assert all(numbers[f"val/loss_{name}"] > 0 for name in losses)


def test_pictures_and_words_alone_have_no_tower_for_sounds():
    config = compose(["fusion=none", "objective=contrastive"])
    assert set(build.model(config, ["image", "text"]).encoders.keys()) == {"image", "text"}
