"""The bundled emoji that speak and move."""

import numpy as np
import pytest

from mmexp.data.emoji import emoji
from mmexp.data.emoji_moving import FRAMES, emoji_moving
from mmexp.data.emoji_spoken import HELD_OUT, emoji_spoken


@pytest.fixture(scope="module")
def spoken():
    return emoji_spoken()


def test_the_spoken_emoji_have_the_rows_of_the_emoji(spoken):
    silent = emoji()
    assert list(spoken.modalities) == ["image", "text", "audio"] and spoken.fingerprint != silent.fingerprint
    for name, samples in silent.splits.items():
        assert len(spoken.splits[name]) == len(samples)
        assert np.array_equal(spoken.splits[name].concepts, samples.concepts)
        assert spoken.splits[name].read(3, "text") == samples.read(3, "text")


def test_sounds_are_short_speech_at_16_khz(spoken):
    for samples in spoken.splits.values():
        for row in range(0, len(samples), 97):
            wave, rate = samples.read(row, "audio")
            assert rate == 16000 and 0.1 < len(wave) / rate < 5 and 0.05 < np.abs(wave).max() <= 1.2


def test_longer_labels_last_longer(spoken):
    heard = spoken.splits["test_cross_voice"]
    labels = {row: heard.read(row, "text").partition(":")[0] for row in range(0, len(heard), 20)}
    letters, lasts = zip(
        # Of a flag the word alone stands before the colon, and more is spoken.
        *((len(label), len(heard.read(row, "audio")[0])) for row, label in labels.items() if label != "flag"),
        strict=True,
    )
    assert np.corrcoef(letters, lasts)[0, 1] > 0.6


def test_one_voice_is_heard_in_its_test_alone(spoken):
    heard = {name: set(samples.voices) for name, samples in spoken.splits.items()}
    assert heard.pop("test_cross_voice") == {HELD_OUT}
    assert len(heard["train"]) == 3 and not any(HELD_OUT in voices for voices in heard.values())
    train, crossed = spoken.splits["train"], spoken.splits["test_cross_voice"]
    assert sorted(crossed.concepts) == sorted(set(train.concepts)) and HELD_OUT in crossed.where(0)


def test_a_concept_has_several_voices_and_a_style_too(spoken):
    train = spoken.splits["train"]
    by_code, by_style = {}, {}
    for row, (code, voice) in enumerate(zip(train.codes, train.voices, strict=True)):
        by_code.setdefault(code, []).append(voice)
        by_style.setdefault(train.samples.styles[row], set()).add(voice)
    assert all(len(set(voices)) > 1 for voices in by_code.values() if len(voices) > 2)
    assert all(len(voices) == 3 for voices in by_style.values())


def test_texts_of_another_language_and_other_labels():
    source = emoji_spoken("fr", ["noto"], "subgroup")
    assert source.splits["train"].read(0, "text").startswith("visage") and len(source.classes) > 50
    assert emoji_spoken(label="tags").splits["train"].targets is not None


def test_the_moving_emoji_move():
    source = emoji_moving(styles=["noto", "blob"])
    assert list(source.modalities) == ["image", "text", "video"]
    assert set(source.splits) == {"train", "val", "test", "test_cross_style"}
    train = source.splits["train"]
    clips = [train.read(row, "video") for row in range(0, len(train), 29)]
    assert all(clip.shape == (FRAMES, 64, 64, 3) for clip in clips)
    assert all((clip != clip[:1]).any() for clip in clips)
    assert train.read(0, "image").size == (64, 64) and train.read(0, "text").startswith("grinning face")


def test_the_still_picture_shows_what_moves():
    source = emoji_moving(styles=["fluent_3d"])
    rows = range(0, len(source.splits["train"]), 40)
    means = [
        (np.asarray(source.splits["train"].read(row, "image")).mean((0, 1)), source.splits["train"].read(row, "video"))
        for row in rows
    ]
    stills, clips = np.array([s for s, _ in means]), np.array([c.mean((0, 1, 2)) for _, c in means])
    nearest = np.square(stills[:, None] - clips[None]).sum(-1).argmin(1)
    assert (nearest == np.arange(len(rows))).mean() > 0.6


def test_no_concept_of_a_test_moves_in_training():
    splits = emoji_moving().splits
    assert not set(splits["test"].concepts) & set(splits["train"].concepts)
    assert set(splits["test_cross_style"].concepts) <= set(splits["train"].concepts)
