"""Build the bundled emoji data from public npm packages: pictures in four artists' styles, labels and tags in all locales.

    python scripts/build_emoji.py                     # fetches the packages with npm
    python scripts/build_emoji.py --packages FOLDER   # takes them unpacked from FOLDER/<name>/package

Needs npm, and `pip install resvg-py` to draw the two styles that come as SVG. The output is deterministic.
"""

import argparse
import io
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from emoji_families import families, stable_fraction
from PIL import Image

ASSETS = Path(__file__).parents[1] / "mmexp" / "data" / "assets" / "emoji"
SIZE, QUALITY = 64, 75
PACKAGES = {
    "noto": "emoji-datasource-google@16.0.0",
    "fluent_3d": "@lobehub/fluent-emoji-3d@1.1.0",
    "fluent_flat": "@iconify-json/fluent-emoji-flat@1.2.6",
    "blob": "@iconify-json/noto-v1@1.2.5",
    "text": "emojibase-data@17.0.0",
}
# Of all families a tenth is for testing and a twentieth for validation; concepts of a family stay together.
TEST, VAL = 0.10, 0.15


def key(hexcode: str) -> str:
    """Return the form in which all packages agree: lower case, without the variation selector."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


def fetch(folder: Path, packages: Iterable[str]) -> None:
    """Fetch and unpack every one of `packages` below `folder`, as <name>/package."""
    for package in packages:
        packed = subprocess.run(
            ["npm", "pack", "--silent", package], cwd=folder, check=True, capture_output=True, text=True
        )
        archive = folder / packed.stdout.strip()
        with tarfile.open(archive) as tar:
            tar.extractall(folder / unpacked_name(package), filter="data")


def unpacked_name(package: str) -> str:
    """Return the folder of a package: `@scope/name@1.0` -> `scope-name-1.0`."""
    name, _, version = package.rpartition("@")
    return f"{name.lstrip('@').replace('/', '-')}-{version}"


def concepts(text: Path) -> list[dict[str, Any]]:
    """Return emojibase's English concepts without skin tones and components, in Unicode's order."""
    every = json.loads((text / "en" / "data.json").read_text())
    kept = [e for e in every if "group" in e and e["group"] != 2]
    return sorted(kept, key=lambda e: e["order"])


def from_files(folder: Path, suffix: str) -> dict[str, bytes]:
    """Return key -> picture file for a folder of files named by hexcode."""
    return {key(path.stem): path.read_bytes() for path in sorted(folder.glob(f"*{suffix}"))}


def from_svg(package: Path, labels: dict[str, str]) -> dict[str, bytes]:
    """Return key -> PNG of an iconify package, found by its code points or else by the concept's label."""
    import resvg_py

    icons = json.loads((package / "icons.json").read_text())
    named = {key(code): name for code, name in json.loads((package / "chars.json").read_text()).items()}
    aliases = {alias: entry["parent"] for alias, entry in icons["aliases"].items()}
    found = {}
    for code, label in labels.items():
        name = named.get(code) or slug(label)
        body = icons["icons"].get(aliases.get(name, name))
        if body:
            width = body.get("width", icons["width"])
            head = (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {width}" width="{SIZE}" height="{SIZE}">'
            )
            found[code] = bytes(resvg_py.svg_to_bytes(svg_string=f"{head}{body['body']}</svg>"))
    return found


def slug(label: str) -> str:
    """Return iconify's name of a label: `face with hand over mouth` -> `face-with-hand-over-mouth`."""
    plain = label.lower().replace("’", "").replace(":", "").replace(",", "").replace("“", "").replace("”", "")
    return "-".join(plain.replace(".", "").replace("(", "").replace(")", "").split())


def small(picture: bytes) -> bytes:
    """Return a picture as 64x64 WebP on white."""
    image = Image.open(io.BytesIO(picture)).convert("RGBA").resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    white = Image.new("RGBA", image.size, "white")
    out = io.BytesIO()
    Image.alpha_composite(white, image).convert("RGB").save(out, "WEBP", quality=QUALITY, method=6)
    return out.getvalue()


def split_of(family: str) -> str:
    """Return the split of a whole family."""
    place = stable_fraction("split", family)
    return "test" if place < TEST else "val" if place < VAL else "train"


def rows(styles: dict[str, dict[str, bytes]], family: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Yield a row for each picture. Of a train concept with two styles or more, one is held out for the cross-style test."""
    for code, name in family.items():
        there = [style for style in styles if code in styles[style]]
        held = there[int(stable_fraction("style", code) * len(there))] if len(there) > 1 else None
        for style in there:
            split = split_of(name)
            if split == "train" and style == held:
                split = "test_cross_style"
            yield {"hexcode": code, "style": style, "split": split, "webp": small(styles[style][code])}


def write(table: list[dict[str, Any]], file: Path) -> None:
    """Write a table as small as it gets."""
    pq.write_table(
        pa.Table.from_pylist(table),
        file,
        compression="zstd",
        compression_level=19,
        use_dictionary=False,
        write_statistics=False,
    )


def write_text(text: Path, codes: set[str]) -> None:
    """Write text/<locale>.parquet: hexcode, label, tags."""
    for folder in sorted(path for path in text.iterdir() if (path / "data.json").is_file()):
        entries = {key(e["hexcode"]): e for e in json.loads((folder / "data.json").read_text())}
        table = [
            {"hexcode": code, "label": e["label"], "tags": e.get("tags", [])}
            for code, e in entries.items()
            if code in codes and e.get("label")
        ]
        write(table, ASSETS / "text" / f"{folder.name}.parquet")


def build(packages: Path) -> None:
    """Write all assets from unpacked packages."""
    (ASSETS / "text").mkdir(parents=True, exist_ok=True)
    at = {style: packages / unpacked_name(package) / "package" for style, package in PACKAGES.items()}
    every = concepts(at["text"])
    labels = {key(e["hexcode"]): e["label"] for e in every}
    styles = {
        "noto": from_files(at["noto"] / "img" / "google" / "64", ".png"),
        "fluent_3d": from_files(at["fluent_3d"] / "assets", ".webp"),
        "fluent_flat": from_svg(at["fluent_flat"], labels),
        "blob": from_svg(at["blob"], labels),
    }
    family = families([(key(e["hexcode"]), e["label"]) for e in every])
    pictures = list(rows(styles, family))
    write(pictures, ASSETS / "pictures.parquet")
    messages = json.loads((at["text"] / "en" / "messages.json").read_text())
    names = {kind: {m["order"]: m["message"] for m in messages[kind]} for kind in ("groups", "subgroups")}
    kinds = [
        {
            "hexcode": key(e["hexcode"]),
            "family": family[key(e["hexcode"])],
            "group": names["groups"][e["group"]],
            "subgroup": names["subgroups"][e["subgroup"]],
        }
        for e in every
    ]
    write(kinds, ASSETS / "concepts.parquet")
    write_text(at["text"], set(labels))
    counts = {
        split: sum(row["split"] == split for row in pictures) for split in ("train", "val", "test", "test_cross_style")
    }
    print(f"{len(every)} concepts, {len(set(family.values()))} families, pictures {counts}")
    print({style: sum(row["style"] == style for row in pictures) for style in styles})


def main(description: str, packages: Iterable[str], build: Callable[[Path], None]) -> None:
    """Build from the folder that the command line names, or else from the packages, fetched for it."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, help="where the packages lie unpacked; else they are fetched")
    if unpacked := parser.parse_args().packages:
        build(unpacked)
        return
    with tempfile.TemporaryDirectory() as temporary:
        fetch(Path(temporary), packages)
        build(Path(temporary))


if __name__ == "__main__":
    main(str(__doc__), PACKAGES.values(), build)
