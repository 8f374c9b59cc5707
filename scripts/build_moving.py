"""Build the clips of `data=emoji_moving` in mmexp/data/assets/emoji from Microsoft's animated emoji.

    python scripts/build_moving.py                  # fetches four packages, 730 MB
    python scripts/build_moving.py --packages FOLDER   # takes them unpacked from FOLDER/<name>/package

Needs npm. The output is deterministic.
"""

import io
from pathlib import Path

import pyarrow.parquet as pq
from build_emoji import ASSETS, SIZE, key, main, unpacked_name, write
from PIL import Image

from mmexp.spacing import middles

FRAMES, QUALITY = 8, 75
PACKAGES = [f"@lobehub/fluent-emoji-anim-{part}@1.0.0" for part in (1, 2, 3, 4)]


def frames(animation: Path) -> list[Image.Image]:
    """Return the middle frames of `FRAMES` equal parts of an animation, 64x64 on white; none where nothing moves."""
    with Image.open(animation) as opened:
        count = getattr(opened, "n_frames", 1)
        if count < FRAMES:
            return []
        found = []
        for place in middles(count, FRAMES):
            opened.seek(place)
            frame = opened.convert("RGBA").resize((SIZE, SIZE), Image.Resampling.LANCZOS)
            found.append(Image.alpha_composite(Image.new("RGBA", frame.size, "white"), frame).convert("RGB"))
    return found


def clip(found: list[Image.Image]) -> bytes:
    """Return frames as one animated WebP."""
    out = io.BytesIO()
    found[0].save(
        out, "WEBP", save_all=True, append_images=found[1:], quality=QUALITY, method=6, minimize_size=True, duration=125
    )
    return out.getvalue()


def build(packages: Path) -> None:
    """Write clips.parquet, in the order of the concepts, from unpacked packages."""
    folders = [packages / unpacked_name(package) / "package" / "assets" for package in PACKAGES]
    files = {key(file.stem): file for folder in folders for file in sorted(folder.glob("*.webp"))}
    codes = pq.read_table(ASSETS / "concepts.parquet")["hexcode"].to_pylist()
    moving = {code: frames(files[code]) for code in codes if code in files}
    clips = [{"hexcode": code, "webp": clip(found)} for code, found in moving.items() if found]
    write(clips, ASSETS / "clips.parquet")
    print(f"{len(clips)} of {len(codes)} concepts move")


if __name__ == "__main__":
    main(str(__doc__), PACKAGES, build)
