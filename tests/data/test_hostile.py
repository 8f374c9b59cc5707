"""Whatever a stranger's table, archive or folder holds: a plain line with `raise`, left out and counted with `skip`."""

import io
import json
import struct
import tarfile
import wave
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmexp.data.pictures import read_picture
from mmexp.data.sounds import read_sound
from mmexp.data.table import table
from mmexp.errors import RequestError

COLUMNS = {"image": "image", "text": "caption"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMEXP_CACHE", str(tmp_path / "checked"))


def encoded(picture: Image.Image, form: str = "PNG", **more) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **more)
    return stream.getvalue()


def bomb(side: int) -> bytes:
    """Return a PNG of a few bytes that says it has so many pixels a side."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def noisy() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(256, size=(40, 30, 3), dtype=np.uint8))


WRONG = {
    "truncated.png": encoded(noisy())[:700],
    "truncated.jpg": encoded(noisy(), "JPEG")[:400],
    "nothing.png": b"",
    "text.jpg": b"<html>404</html>",
    "bomb.png": bomb(100_000),
    "large_bomb.png": bomb(14_000),  # below PIL's error, above its warning
    "header.png": encoded(noisy())[:20],
    "broken_chunk.png": encoded(noisy())[:60] + b"\xff" * 300,
}
RIGHT = {
    "one_pixel.png": encoded(Image.new("RGB", (1, 1), "red")),
    "long.png": encoded(Image.new("RGB", (1, 500), "red")),
    "deep.png": encoded(Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16))),
    "cmyk.jpg": encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"),
    "palette.png": encoded(noisy().quantize(16)),
    "palette_alpha.png": encoded(noisy().quantize(16), transparency=3),
    "alpha.png": encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 0))),
    "grey_alpha.png": encoded(Image.new("LA", (8, 8), (9, 0))),
    "bits.png": encoded(Image.new("1", (8, 8), 1)),
    "animated.gif": encoded(Image.new("P", (8, 8), 1), "GIF", save_all=True, append_images=[Image.new("P", (8, 8), 2)]),
    "animated.webp": encoded(noisy(), "WEBP", save_all=True, append_images=[noisy().rotate(9)]),
    "float.tiff": encoded(Image.fromarray(np.full((4, 4), 0.5, dtype=np.float32)), "TIFF"),
}


def rows_of(folder: Path, names, extra=()) -> str:
    rows = [{"image": name, "caption": f"picture {i}"} for i, name in enumerate(names)]
    (folder / "train.jsonl").write_text("\n".join([json.dumps(row) for row in rows] + list(extra)))
    return str(folder / "train.jsonl")


@pytest.mark.parametrize("name", WRONG)
def test_a_picture_that_cannot_be_read(name, tmp_path, capsys):
    (tmp_path / name).write_bytes(WRONG[name])
    (tmp_path / "good.png").write_bytes(RIGHT["one_pixel.png"])
    file = rows_of(tmp_path, ["good.png", name, "good.png"])
    with pytest.raises(
        RequestError, match=r"train.jsonl, line 2: the picture cannot be decoded: \S.*on_error=skip"
    ) as told:
        table(file, COLUMNS, val_fraction=0)
    assert "\n" not in str(told.value)
    source = table(file, COLUMNS, val_fraction=0, on_error="skip")
    assert (len(source.splits["train"]), source.skipped) == (2, {"train": 1})
    assert "1 of 3 rows left out. First: " in capsys.readouterr().out


@pytest.mark.parametrize("name", RIGHT)
def test_a_picture_of_an_unusual_kind_is_read(name):
    picture = read_picture(RIGHT[name])
    assert picture.mode == "RGB"
    if name == "deep.png":
        assert picture.getpixel((0, 0)) == (156, 156, 156)  # 40,000 of 65,535
    if name == "alpha.png":
        assert picture.getpixel((0, 0)) == (255, 255, 255)


def test_a_picture_lies_as_its_exif_says():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_picture(encoded(noisy(), "JPEG", exif=exif)).size == (40, 30)


def sound(samples: np.ndarray, rate: int = 8000, channels: int = 1) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return stream.getvalue()


BAD_SOUNDS = {
    "empty.wav": b"",
    "no_samples.wav": sound(np.zeros(0)),
    "cut.wav": sound(np.ones(800))[:30],
    "text.wav": b"no sound at all, but a text",
}


@pytest.mark.parametrize("name", BAD_SOUNDS)
def test_a_sound_that_cannot_be_read(name, tmp_path):
    (tmp_path / name).write_bytes(BAD_SOUNDS[name])
    (tmp_path / "good.wav").write_bytes(sound(np.zeros(800)))
    rows = [{"sound": file, "caption": f"sound {i}"} for i, file in enumerate(("good.wav", name))]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    columns = {"audio": "sound", "text": "caption"}
    with pytest.raises(RequestError, match="line 2: the sound"):
        table(str(tmp_path / "train.jsonl"), columns, val_fraction=0)
    source = table(str(tmp_path / "train.jsonl"), columns, val_fraction=0, on_error="skip")
    assert source.skipped == {"train": 1}


def test_silence_two_channels_and_any_rate_are_sounds(tmp_path):
    (tmp_path / "a.wav").write_bytes(sound(np.zeros(80)))
    assert not read_sound(tmp_path / "a.wav", 1.0)[0].any()
    both = np.stack([np.full(50, 0.5), np.full(50, -0.5)], 1).ravel()
    samples, rate = read_sound(sound(both, 44_100, 2), 1.0)
    assert (len(samples), rate) == (50, 44_100)
    assert abs(samples).max() < 1e-3


LINES = {
    "broken": b'{"image": "good.png", "caption": ',
    "no object": b"[1, 2]",
    "latin": '{"image": "good.png", "caption": "café"}'.encode("latin-1"),
    "deep": b"[" * 100_000,
    "empty caption": b'{"image": "good.png", "caption": "  "}',
    "address": b'{"image": "https://example.org/a.png", "caption": "far"}',
    "above": b'{"image": "../secret.png", "caption": "up"}',
    "elsewhere": b'{"image": "/etc/hostname", "caption": "up"}',
    "home": b'{"image": "~/a.png", "caption": "up"}',
    "a folder": b'{"image": ".", "caption": "folder"}',
    "null byte": b'{"image": "a\\u0000.png", "caption": "null"}',
    "a number": b'{"image": 7, "caption": "number"}',
    "long name": b'{"image": "' + b"x" * 5000 + b'.png", "caption": "long"}',
}


@pytest.mark.parametrize("kind", LINES)
def test_a_line_of_json_that_is_wrong(kind, tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for place in (folder / "good.png", tmp_path / "secret.png"):
        place.write_bytes(RIGHT["one_pixel.png"])
    good = b'{"image": "good.png", "caption": "good"}'
    file = folder / "train.jsonl"
    file.write_bytes(b"\n".join([good, LINES[kind], good]))
    with pytest.raises(RequestError, match="line 2: ") as told:
        table(str(file), COLUMNS, val_fraction=0)
    assert "\n" not in str(told.value) and len(str(told.value)) < 6000
    assert len(table(str(file), COLUMNS, val_fraction=0, on_error="skip").splits["train"]) == 2


def test_files_elsewhere_are_read_where_that_is_allowed(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "a.png").write_bytes(RIGHT["one_pixel.png"])
    file = rows_of(tmp_path / "set", ["../a.png", str(tmp_path / "a.png")])
    with pytest.raises(RequestError, match="files=anywhere"):
        table(file, COLUMNS, val_fraction=0)
    assert len(table(file, COLUMNS, val_fraction=0, files="anywhere").splits["train"]) == 2


CELLS = {"ragged": "b.png", "too long": "good.png,one,two,three", "latin": "good.png,caf\xe9", "empty": "good.png,"}


@pytest.mark.parametrize("kind", CELLS)
def test_a_line_of_csv_that_is_wrong(kind, tmp_path):
    (tmp_path / "good.png").write_bytes(RIGHT["one_pixel.png"])
    file = tmp_path / "train.csv"
    file.write_bytes(f"image,caption\ngood.png,good\n{CELLS[kind]}\ngood.png,good\n".encode("latin-1"))
    with pytest.raises(RequestError, match="line 3: "):
        table(str(file), COLUMNS, val_fraction=0)
    assert len(table(str(file), COLUMNS, val_fraction=0, on_error="skip").splits["train"]) == 2


def test_texts_of_all_scripts_and_repeated_ones_are_texts(tmp_path):
    captions = ["مرحبا بالعالم", "שלום", "👩‍👩‍👧 🏳️‍🌈", "a\u202eb", "word", "word", "ﷺ" * 300]
    (tmp_path / "a.png").write_bytes(RIGHT["one_pixel.png"])
    rows = [json.dumps({"image": "a.png", "caption": text}) for text in captions]
    (tmp_path / "train.jsonl").write_text("\n".join(rows))
    samples = table(str(tmp_path / "train.jsonl"), COLUMNS, val_fraction=0).splits["train"]
    assert [samples.read(row, "text") for row in range(len(captions))] == captions
    from mmexp.encoders.transformer import Transformer

    assert Transformer(dim=24, depth=1)(Transformer(dim=24, depth=1).prepare(captions)).pooled.isfinite().all()


def shard(path: Path, members) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            info.size = len(content or b"")
            tar.addfile(info, io.BytesIO(content or b""))


def test_a_tar_that_is_cut_in_half(tmp_path):
    shard(tmp_path / "a.tar", [m for i in range(6) for m in ((f"{i}.png", encoded(noisy())), (f"{i}.txt", b"text"))])
    content = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "half.tar").write_bytes(content[: len(content) // 2])
    columns = {"image": "image", "text": "caption"}
    with pytest.raises(RequestError, match=r"half.tar.*cut off|half.tar.*cannot be read"):
        table(str(tmp_path / "half.tar"), columns, val_fraction=0)
    source = table(str(tmp_path / "half.tar"), columns, val_fraction=0, on_error="skip")
    assert 2 <= len(source.splits["train"]) < 6
    assert source.skipped["train"] >= 1


def test_members_of_a_tar_reach_nothing_outside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture = RIGHT["one_pixel.png"]
    members = [("../../escape.png", picture), ("../../escape.txt", b"up"), ("/abs.png", picture), ("/abs.txt", b"abs")]
    members += [("link.png", None), ("link.txt", b"a link"), ("told.json", b'{"image": "/etc/passwd", "caption": "x"}')]
    members += [("list.json", b"[1]"), ("list.png", picture)]
    shard(tmp_path / "a.tar", members)
    with pytest.raises(RequestError):
        table("a.tar", COLUMNS, val_fraction=0)
    source = table("a.tar", COLUMNS, val_fraction=0, on_error="skip")
    assert [source.splits["train"].read(row, "text") for row in range(2)] == ["up", "abs"]
    assert len(source.splits["train"]) == 2, "a link is no picture, and a path in a tar lies nowhere"
    assert {path.name for path in tmp_path.iterdir()} <= {"a.tar", "checked"}


def test_a_caption_file_that_is_not_utf_8(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.png").write_bytes(RIGHT["one_pixel.png"])
    (folder / "a.txt").write_bytes(b"caf\xe9")
    (folder / "b.txt").write_bytes(b"tea")
    with pytest.raises(RequestError, match=r"a.png: the .txt beside it is not UTF-8"):
        table(str(folder), COLUMNS, val_fraction=0)
    assert len(table(str(folder), COLUMNS, val_fraction=0, on_error="skip").splits["train"]) == 1
