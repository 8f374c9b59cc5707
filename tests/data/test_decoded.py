"""A picture that several rows show is decoded and held once; memory is shared only where workers share it."""

import numpy as np
import pytest
import torch
from PIL import Image
from stand_ins import TinyImage

from mmexp.caching.settings import CacheSettings
from mmexp.data import decoded, decoding
from mmexp.data.loading import Loading, PreparedSamples
from mmexp.data.table import table
from mmexp.pictures_kept import keep_pictures

COLUMNS = {"image": "image", "text": "caption"}


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Three pictures of five captions each, a row a caption, in mixed order."""
    monkeypatch.setenv("MMEXP_CACHE", str(tmp_path / "checked"))
    for picture in range(3):
        Image.new("L", (8, 8), 40 * picture).save(tmp_path / f"{picture}.png")
    rows = [f"{(7 * row) % 3}.png,caption {row}" for row in range(15)]
    (tmp_path / "t.csv").write_text("\n".join(["image,caption", *rows]))
    return table(str(tmp_path / "t.csv"), COLUMNS, val_fraction=0)


@pytest.mark.parametrize("held", ["in memory", "on disk", "nowhere"])
def test_one_row_a_caption_decodes_each_picture_once(source, monkeypatch, tmp_path, held):
    read = []
    own = decoding.read_picture
    monkeypatch.setattr(decoding, "read_picture", lambda stored: read.append(stored) or own(stored))
    loading = Loading(cache_bytes=0) if held == "nowhere" else Loading()
    samples = PreparedSamples(source.splits["train"], {"image": TinyImage()}, loading)
    if held == "on disk":
        keep_pictures(CacheSettings(directory=str(tmp_path / "cache")), {"train": samples}, source)
        read.clear()
    levels = [40 * ((7 * row) % 3) for row in range(15)]
    for _ in range(1 if held == "nowhere" else 3):
        pixels = samples.inputs([(row, -1) for row in range(15)], ["image"])["image"]["pixels"]
        assert pixels.reshape(15, -1)[:, 0].tolist() == levels
    assert len(read) == 3
    assert samples.readers["image"].items == 3


def test_checking_decodes_a_file_once_and_names_each_of_its_rows(tmp_path, monkeypatch):
    monkeypatch.setenv("MMEXP_CACHE", str(tmp_path / "checked"))
    (tmp_path / "0.png").write_bytes(b"no picture")
    Image.new("L", (8, 8)).save(tmp_path / "1.png")
    (tmp_path / "t.csv").write_text("image,caption\n0.png,a\n1.png,b\n0.png,c\n1.png,d\n")
    found = table(str(tmp_path / "t.csv"), COLUMNS, val_fraction=0, on_error="skip")
    assert found.skipped == {"train": 2} and len(found.splits["train"]) == 2


@pytest.mark.parametrize(("workers", "free", "shared"), [(0, 0, False), (2, 10**9, True), (2, 10, False)])
def test_memory_is_shared_only_with_workers_and_where_there_is_room(source, monkeypatch, capsys, workers, free, shared):
    monkeypatch.setattr(decoded, "shared_memory_free", lambda: free)
    samples = PreparedSamples(source.splits["train"], {"image": TinyImage()}, Loading(num_workers=workers))
    held = samples.readers["image"].held
    assert held.values["pixels"].is_shared() is shared and held.there.is_shared() is shared
    told = capsys.readouterr().out
    assert ("/dev/shm has 0 MB free: each worker keeps its own" in told) is (workers > 0 and not shared)
    assert torch.equal(held.there, torch.zeros(3, dtype=torch.bool))


def test_rows_without_items_are_held_each(source):
    samples = source.splits["train"]
    samples.items = {}
    first, slot = decoded._distinct(samples, "image")
    assert np.array_equal(first, np.arange(15)) and np.array_equal(slot, np.arange(15))
