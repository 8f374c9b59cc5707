"""A sound, however it is stored, as one channel of samples."""

import io

import numpy as np

from mmexp.data.stored import Slice, Stored


def read_sound(stored: Stored, seconds: float) -> tuple[np.ndarray, int]:
    """Decode the first `seconds` of a sound: samples (T,) float32 from -1 to 1, the mean of its channels, and their rate in Hz.

    WAV, FLAC, OGG, MP3 and whatever else libsndfile knows. Raises OSError where it is missing, empty or cannot be decoded.
    """
    import soundfile

    content = stored.read_bytes() if isinstance(stored, Slice) else stored
    try:
        with (
            io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file,
            soundfile.SoundFile(file) as sound,
        ):
            rate = sound.samplerate
            samples = sound.read(round(seconds * rate), dtype="float32", always_2d=True).mean(1)
    except soundfile.LibsndfileError as error:
        raise OSError(error.error_string) from error
    if not len(samples):
        raise OSError("it has no samples")
    if not np.isfinite(samples).all():
        raise OSError("it has samples that are no numbers")
    return samples, rate
