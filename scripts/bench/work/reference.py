"""The reference work: pictures of 64 pixels with captions of 5 to 15 words, and a ViT-tiny/8 with a small text transformer.

A picture shows two shapes before a coloured ground, its caption names them. All is in open_clip's forms, a table and a
model directory, so that open_clip's own trainer and `mmexp train` start from the same weights on the same rows.
"""

import csv
import json
import random
from pathlib import Path

from PIL import Image, ImageDraw

SIDE = 64
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (235, 215, 50),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
    "orange": (240, 140, 30),
    "purple": (130, 50, 170),
}
SHAPES = ("circle", "square", "triangle", "cross")
SIZES = {"small": 9, "large": 14}
BEGINNINGS = ("", "a picture of ", "a drawing that shows ", "there is ")

MODEL = {
    "embed_dim": 192,
    "vision_cfg": {"image_size": SIDE, "patch_size": 8, "width": 192, "layers": 12, "head_width": 64},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 192, "heads": 3, "layers": 4},
}
PREPARED = {"mean": [0.4815, 0.4578, 0.4082], "std": [0.2686, 0.2613, 0.2758]}


def write_model(folder: Path, config: dict = MODEL) -> Path:
    """Write a model of open_clip with random weights, and return its directory."""
    import torch
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": PREPARED}))
    torch.manual_seed(0)
    save_file(CLIP(**config).state_dict(), folder / "open_clip_model.safetensors")
    return folder


def write_table(folder: Path, rows: int, seed: int = 0) -> Path:
    """Write `rows` different pictures and their captions, and return the table: `filepath,title`."""
    folder.mkdir(parents=True)
    rng = random.Random(seed)
    every = [(ground, *thing, *other) for ground in COLOURS for thing in _things() for other in _things()]
    seen = [one for one in every if len({one[0], one[2], one[5]}) == 3]
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filepath", "title"])
        for number, one in enumerate(rng.sample(seen, rows)):
            picture = folder / f"{number:05}.png"
            _draw(one, rng).save(picture)
            writer.writerow([picture, _caption(one, rng)])
    return folder / "rows.csv"


def labelled(table: Path) -> Path:
    """Write the table again with how many crosses each caption names, and return it."""
    with table.open() as file:
        rows = [{**row, "label": str(row["title"].count("cross"))} for row in csv.DictReader(file)]
    with table.with_name("labelled.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return Path(file.name)


def hold_out(table: Path, rows: int) -> tuple[Path, Path]:
    """Cut a table in two, and return what is left of it and the table of its last `rows` rows."""
    head, *lines = table.read_text().splitlines()
    parts = table.with_name("train.csv"), table.with_name("held_out.csv")
    for part, kept in zip(parts, (lines[:-rows], lines[-rows:]), strict=True):
        part.write_text("\n".join([head, *kept]) + "\n")
    return parts


def _things() -> list[tuple[str, str, str]]:
    return [(size, colour, shape) for size in SIZES for colour in COLOURS for shape in SHAPES]


def _caption(one: tuple[str, ...], rng: random.Random) -> str:
    ground, size, colour, shape, other_size, other_colour, other_shape = one
    text = f"{rng.choice(BEGINNINGS)}{size} {colour} {shape} {other_size} {other_colour} {other_shape}"
    return f"{text} on {ground}" if rng.random() < 0.5 else f"{text} before a {ground} ground"


def _draw(one: tuple[str, ...], rng: random.Random) -> Image.Image:
    ground, *things = one
    picture = Image.new("RGB", (SIDE, SIDE), COLOURS[ground])
    draw = ImageDraw.Draw(picture)
    for place, (size, colour, shape) in enumerate((things[:3], things[3:])):
        half = SIZES[size]
        x, y = 16 + 32 * place + rng.randint(-2, 2), rng.randint(16, 48)
        _SHAPES[shape](draw, x, y, half, COLOURS[colour])
    return picture


def _cross(draw: ImageDraw.ImageDraw, x: int, y: int, half: int, colour: tuple[int, int, int]) -> None:
    third = half // 3
    draw.rectangle((x - half, y - third, x + half, y + third), colour)
    draw.rectangle((x - third, y - half, x + third, y + half), colour)


_SHAPES = {
    "circle": lambda draw, x, y, half, colour: draw.ellipse((x - half, y - half, x + half, y + half), colour),
    "square": lambda draw, x, y, half, colour: draw.rectangle((x - half, y - half, x + half, y + half), colour),
    "triangle": lambda draw, x, y, half, colour: draw.polygon(
        [(x, y - half), (x - half, y + half), (x + half, y + half)], colour
    ),
    "cross": _cross,
}
