"""A small table of colours, seen, told and heard, with all that an objective may want to learn from."""

import json
from colorsys import hsv_to_rgb
from pathlib import Path

import numpy as np

COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "violet", "pink")
ROWS, RATE, SIZE = 16, 16000, 32


def write_table(folder: Path) -> Path:
    """Write pictures, sounds and clips of colours below `folder`; return the table of JSON lines that names them."""
    lines = [json.dumps(_row(folder, number)) for number in range(ROWS)]
    table = folder / "colours.jsonl"
    table.write_text("\n".join(lines) + "\n")
    return table


def _row(folder: Path, number: int) -> dict[str, str | float]:
    place = number % len(COLOURS)
    hue, light = place / len(COLOURS), 0.6 + 0.4 * number / ROWS
    colour = np.array(hsv_to_rgb(hue, 1.0, light)) * 255
    names = {kind: f"{number}.{ending}" for kind, ending in (("image", "png"), ("audio", "wav"), ("video", "gif"))}
    _draw(folder / names["image"], folder / names["video"], colour)
    _play(folder / names["audio"], 200 * 2**hue, light / 2)
    name = COLOURS[place]
    return {
        **names,
        "text": f"a {name} square",
        "label": name,
        "labels": f"{name}|{'warm' if place < len(COLOURS) // 2 else 'cold'}",
        "number": hue,
    }


def _draw(picture: Path, clip: Path, colour: np.ndarray) -> None:
    from PIL import Image

    frames = []
    for corner in (4, 8, 12):
        pixels = np.full((SIZE, SIZE, 3), 255, np.uint8)
        pixels[corner : corner + 16, corner : corner + 16] = colour
        frames.append(Image.fromarray(pixels))
    frames[0].save(picture)
    frames[0].save(clip, save_all=True, append_images=frames[1:], duration=100)


def _play(sound: Path, hertz: float, loudness: float) -> None:
    import soundfile

    seconds = np.arange(RATE // 2) / RATE
    soundfile.write(sound, loudness * np.sin(2 * np.pi * hertz * seconds), RATE)
