"""Sounds small enough for a page."""

import base64
import io
from math import ceil, gcd

import numpy as np

RATE, SECONDS = 16000, 4  # of what a page plays


def audible(sound: tuple[np.ndarray, int]) -> str:
    """Return the first seconds of `sound`, samples (T,) and their rate, as a data URI of Ogg Opus: about 2 kB a second."""
    import soundfile
    from scipy.signal import resample_poly

    samples, rate = sound
    common = gcd(RATE, rate)
    heard = resample_poly(samples[: ceil(SECONDS * rate)], RATE // common, rate // common)
    out = io.BytesIO()
    soundfile.write(out, heard, RATE, format="OGG", subtype="OPUS", compression_level=0.97)
    return f"data:audio/ogg;base64,{base64.b64encode(out.getvalue()).decode()}"
