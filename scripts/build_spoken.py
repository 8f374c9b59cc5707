"""Build the sounds of `data=emoji_spoken` in mmexp/data/assets/emoji: every English label, spoken by espeak-ng.

    python scripts/build_spoken.py

Needs espeak-ng (`apt-get install espeak-ng`; built with 1.51). The sounds are the same each time, the bytes but for the serial
numbers of the Ogg streams.
"""

import io
import subprocess
from concurrent.futures import ThreadPoolExecutor
from math import gcd

import numpy as np
import pyarrow.parquet as pq
import soundfile
from build_emoji import ASSETS, write
from scipy.signal import resample_poly

# Voices of espeak-ng with words a minute. The last one speaks the training concepts alone, and only to be measured by.
VOICES = {
    "american": ("en-us", 175),
    "received": ("en-gb-x-rp+f2", 160),
    "scottish": ("en-gb-scotland+m3", 190),
    "caribbean": ("en-029+f4", 175),
}
HELD_OUT = "caribbean"
RATE = 16000
COMPRESSION = 0.99  # about 8.5 kbit/s
SILENT, MARGIN = 0.01, 0.02  # level and seconds: what is cut off at both ends, and what of it stays


def spoken(text: str, voice: str) -> bytes:
    """Return a text as mono Opus of 16 kHz, without the silence around it."""
    name, speed = VOICES[voice]
    command = ["espeak-ng", "-v", name, "-s", str(speed), "--stdout", text]
    wave = subprocess.run(command, capture_output=True, check=True).stdout
    samples, rate = soundfile.read(io.BytesIO(wave), dtype="float32")
    common = gcd(RATE, rate)
    samples = resample_poly(samples, RATE // common, rate // common)
    loud, margin = np.flatnonzero(np.abs(samples) > SILENT), round(MARGIN * RATE)
    samples = samples[max(0, loud[0] - margin) : loud[-1] + margin]
    out = io.BytesIO()
    soundfile.write(out, samples, RATE, format="OGG", subtype="OPUS", compression_level=COMPRESSION)
    return out.getvalue()


def build() -> None:
    """Write speech.parquet, a row for each concept and voice, voice after voice."""
    labels = {row["hexcode"]: row["label"] for row in pq.read_table(ASSETS / "text" / "en.parquet").to_pylist()}
    pictures = pq.read_table(ASSETS / "pictures.parquet", columns=["hexcode", "split"]).to_pylist()
    trained = {row["hexcode"] for row in pictures if row["split"] == "train"}
    drawn = dict.fromkeys(row["hexcode"] for row in pictures)
    wanted = [(code, voice) for voice in VOICES for code in drawn if voice != HELD_OUT or code in trained]
    with ThreadPoolExecutor() as pool:
        sounds = pool.map(lambda one: spoken(labels[one[0]], one[1]), wanted)
        rows = [{"hexcode": c, "voice": v, "ogg": ogg} for (c, v), ogg in zip(wanted, sounds, strict=True)]
    write(rows, ASSETS / "speech.parquet")
    print(f"{len(rows)} sounds of {len(drawn)} concepts, {sum(len(row['ogg']) for row in rows) / 1e6:.1f} MB")


if __name__ == "__main__":
    build()
