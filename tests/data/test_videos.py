"""Videos in the forms that people keep them in, and on their way into a batch."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from stand_ins import TinyImage

from mmexp.augmentations.colour import Colour
from mmexp.augmentations.geometry import Geometry
from mmexp.data import videos
from mmexp.data.loading import Loading, PreparedSamples, Variation
from mmexp.data.table import table
from mmexp.data.videos import read_video
from mmexp.encoders.frames import FrameEncoder
from mmexp.errors import RequestError
from mmexp.spacing import middles


def grey(level: int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new("RGB", size, (level, level, level))


def animated(levels: list[int], form: str = "WEBP") -> bytes:
    out, frames = io.BytesIO(), [grey(level) for level in levels]
    frames[0].save(out, form, save_all=True, append_images=frames[1:], lossless=True, duration=50)
    return out.getvalue()


def levels(video: np.ndarray) -> list[int]:
    return video[:, 0, 0, 0].tolist()


def film(path, count: int) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for number in range(count):
            frame = av.VideoFrame.from_image(grey(20 * number, (32, 32)))
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


@pytest.mark.parametrize("form", ["WEBP", "PNG", "GIF"])
def test_the_middle_frames_of_equal_parts(form):
    content = animated([0, 30, 60, 90, 120, 150, 180, 210], form)
    assert levels(read_video(content, 4)) == [30, 90, 150, 210]
    assert levels(read_video(content, 20)) == [0, 30, 60, 90, 120, 150, 180, 210]
    assert read_video(content, 2).shape == (2, 8, 8, 3) and read_video(content, 2).dtype == np.uint8


def test_places_are_spread_evenly_and_none_is_seen_twice():
    assert middles(10, 5) == [1, 3, 5, 7, 9] and middles(3, 8) == [0, 1, 2] and middles(100, 1) == [50]
    assert all(len(set(middles(count, 8))) == min(count, 8) for count in range(1, 40))


def test_a_folder_of_frames_in_the_order_of_their_names(tmp_path):
    for number in (2, 0, 1):
        grey(50 * number).save(tmp_path / f"{number}.png")
    assert levels(read_video(tmp_path, 8)) == [0, 50, 100]
    grey(1, (4, 4)).save(tmp_path / "3.png")
    with pytest.raises(OSError, match="different sizes"):
        read_video(tmp_path, 8)


@pytest.mark.parametrize("suffix", ["mp4", "avi", "mkv"])
def test_a_film_by_pyav(tmp_path, suffix):
    film(tmp_path / f"a.{suffix}", 10)
    for stored in (tmp_path / f"a.{suffix}", (tmp_path / f"a.{suffix}").read_bytes()):
        seen = read_video(stored, 5)
        assert seen.shape == (5, 32, 32, 3) and np.allclose(levels(seen), [20, 60, 100, 140, 180], atol=6)


class Watched:
    """A film that counts the frames that are decoded."""

    def __init__(self, film, seen: list[int]):
        self.film, self.seen = film, seen

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.film.close()

    def __getattr__(self, name):
        return getattr(self.film, name)

    def decode(self, **streams):
        for frame in self.film.decode(**streams):
            self.seen.append(1)
            yield frame


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_film_is_decoded_once_and_its_file_not_read_as_a_whole(tmp_path, monkeypatch, suffix):
    path, seen = tmp_path / f"a.{suffix}", []
    film(path, 10)
    av = sys.modules["av"]
    opened = av.open
    monkeypatch.setattr(av, "open", lambda *arguments: Watched(opened(*arguments), seen))
    monkeypatch.setattr(Path, "read_bytes", lambda path: 1 / 0)
    read_video(path, 5)
    assert len(seen) == 10
    # One that says of itself what is not so is read a second time.
    monkeypatch.setattr(videos, "_said", lambda film: 12)
    assert np.allclose(levels(read_video(path, 5)), [20, 60, 100, 140, 180], atol=6)
    assert len(seen) == 30


def test_what_is_no_film(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no film" * 99)
    with pytest.raises(OSError, match="Invalid data"):
        read_video(tmp_path / "a.mp4", 5)


def test_without_pyav_films_are_refused_and_pictures_that_move_are_not(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert len(read_video(animated([0, 90]), 8)) == 2
    with pytest.raises(RequestError, match=r"pip install 'mmexp\[video\]'"):
        read_video(b"\0\0\0\x20ftypisom", 8)


def test_that_pyav_is_missing_is_not_remembered_of_a_film(tmp_path, monkeypatch):
    monkeypatch.setenv("MMEXP_CACHE", str(tmp_path / "cache"))
    film(tmp_path / "a.mp4", 4)
    path = written(tmp_path, {"b.webp": animated([0, 30])}, "a.mp4")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "av", None)
        with pytest.raises(RequestError, match=r"pip install 'mmexp\[video\]'"):
            table(path, COLUMNS, val_fraction=0, on_error="skip")
    assert len(table(path, COLUMNS, val_fraction=0).splits["train"]) == 2


COLUMNS = {"video": "clip", "text": "caption", "image": None}


def written(folder, clips: dict[str, bytes], *there: str) -> str:
    for name, content in clips.items():
        (folder / name).write_bytes(content)
    rows = [{"clip": name, "caption": f"say {name}"} for name in (*clips, *there)]
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(folder / "t.jsonl")


def test_a_table_of_clips(tmp_path, monkeypatch):
    monkeypatch.setenv("MMEXP_CACHE", str(tmp_path / "cache"))
    path = written(tmp_path, {"a.webp": animated([0, 30, 60, 90]), "b.gif": animated([9, 99])})
    source = table(path, COLUMNS, val_fraction=0, frames=2)
    train = source.splits["train"]
    assert list(source.modalities) == ["text", "video"]
    assert levels(train.read(0, "video")) == [30, 90] and levels(train.read(1, "video")) == [9, 99]
    before = train.stamp()
    (tmp_path / "a.webp").write_bytes(animated([1, 2, 3]))
    assert train.stamp() != before
    (tmp_path / "b.gif").write_bytes(b"GIF8 but no more")
    with pytest.raises(RequestError, match="line 2: the video cannot be decoded"):
        table(path, COLUMNS)
    (tmp_path / "b.gif").unlink()
    with pytest.raises(RequestError, match=r"line 2: there is no video '.*b.gif'"):
        table(path, COLUMNS)


def test_a_folder_of_films_has_a_row_for_each(tmp_path, monkeypatch):
    monkeypatch.setenv("MMEXP_CACHE", str(tmp_path / "cache"))
    for name in ("jump", "run"):
        (tmp_path / name).mkdir()
        film(tmp_path / name / "1.mp4", 4)
        (tmp_path / name / "1.wav").write_bytes(b"")
    source = table(str(tmp_path), {"video": "video", "text": "caption", "label": "label"}, val_fraction=0)
    assert source.classes == ["jump", "run"] and list(source.modalities) == ["video"]
    assert source.splits["train"].read(1, "video").shape == (4, 32, 32, 3)


class Clips:
    """Each row a clip of its own shades, the first one of two frames."""

    concepts = labels = np.arange(4)

    def __init__(self):
        self.read_rows: list[int] = []

    def __len__(self):
        return 4

    def read(self, row, modality, rng=None):
        self.read_rows.append(row)
        shade = np.random.default_rng(row).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
        return np.repeat(shade, 2 if row == 0 else 5, 0)


PLACES = [(row, 0) for row in range(4)]


def prepared(variation=None, samples=None, **loading) -> dict[str, torch.Tensor]:
    encoder = FrameEncoder(TinyImage(), frames=3, heads=2)
    return PreparedSamples(samples or Clips(), {"video": encoder}, Loading(**loading), variation)


def test_a_clip_is_decoded_once_where_they_fit_into_memory():
    for cache_bytes, times in ((10**6, 1), (4 * (3 * 192 + 3) - 1, 2)):
        samples = Clips()
        twice = prepared(samples=samples, cache_bytes=cache_bytes)
        first, second = (twice.__getitems__(PLACES)["video"] for _ in range(2))
        assert all(torch.equal(first[key], second[key]) for key in ("frames", "mask"))
        assert len(samples.read_rows) == 4 * times
    assert first["frames"].shape == (4, 3, 3, 8, 8) and first["mask"].sum(1).tolist() == [2, 3, 3, 3]


def test_pictures_are_changed_in_all_frames_of_a_video_alike():
    plain = prepared().__getitems__(PLACES)["video"]
    changed = prepared(Variation(1, [Geometry(0.5, 0.5), Colour(0.5)])).__getitems__(PLACES)["video"]
    real = plain["mask"].sum(1)
    for row, count in enumerate(real):
        # The frames of a row are equal, and so they must be when they were changed.
        assert (changed["frames"][row, :count] == changed["frames"][row, :1]).all()
        assert not torch.equal(changed["frames"][row, 0], plain["frames"][row, 0])
    assert torch.equal(changed["mask"], plain["mask"])


def test_the_strong_view_has_the_videos_too():
    samples = PreparedSamples(
        Clips(), {"video": FrameEncoder(TinyImage(), 3, heads=2)}, Loading(), strong=Variation(0, [Colour(0.9)])
    )
    batch = samples.__getitems__(PLACES)
    assert not torch.equal(batch["strong"]["video"]["frames"], batch["video"]["frames"])
