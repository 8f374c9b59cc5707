"""Data that changed has another fingerprint, whatever its sizes and times say; a copy elsewhere has the same."""

import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from PIL import Image
from stand_ins import TinyImage

from mmexp.caching.settings import CacheSettings
from mmexp.data import contents
from mmexp.data.loading import Loading, PreparedSamples
from mmexp.data.table import table
from mmexp.pictures_kept import keep_pictures
from mmexp.sweeps.grid import _data, data_now

COLUMNS = {"image": "image", "text": "caption"}


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MMEXP_CACHE", str(tmp_path / "cache"))


def bmp(level: int) -> bytes:
    """A picture whose size in bytes does not depend on what it shows."""
    memory = io.BytesIO()
    Image.new("RGB", (4, 4), (level,) * 3).save(memory, "BMP")
    return memory.getvalue()


def as_tar(folder: Path, levels: list[int]) -> str:
    with tarfile.open(folder / "t.tar", "w") as tar:
        for row, level in enumerate(levels):
            for name, content in ((f"{row}.bmp", bmp(level)), (f"{row}.txt", b"text %d" % row)):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return str(folder / "t.tar")


def as_csv(folder: Path, levels: list[int]) -> str:
    for row, level in enumerate(levels):
        (folder / f"{row}.bmp").write_bytes(bmp(level))
    lines = [f"{row}.bmp,text {row}" for row in range(len(levels))]
    (folder / "t.csv").write_text("\n".join(["image,caption", *lines]) + "\n")
    return str(folder / "t.csv")


def as_folder(folder: Path, levels: list[int]) -> str:
    (folder / "f").mkdir(exist_ok=True)
    for row, level in enumerate(levels):
        (folder / "f" / f"{row}.bmp").write_bytes(bmp(level))
        (folder / "f" / f"{row}.txt").write_text(f"text {row}")
    return str(folder / "f")


FORMS = [as_tar, as_csv, as_folder]


def rewritten(folder: Path, form, levels: list[int]) -> str:
    """Write the data again, in files of the same size, and put their old times back."""
    times = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    path = form(folder, levels)
    for file, was in times.items():
        if file.exists():
            assert file.stat().st_size == was.st_size
            os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
    return path


@pytest.mark.parametrize("form", FORMS)
def test_files_rewritten_at_their_size_and_time_change_the_fingerprint_and_cached_pictures(form, tmp_path):
    folder, settings = tmp_path / "data", CacheSettings(directory=str(tmp_path / "pictures"))
    folder.mkdir()

    def read(path: str):
        source = table(path, COLUMNS, val_fraction=0)
        samples = PreparedSamples(source.splits["train"], {"image": TinyImage(image_size=4)}, Loading())
        keep_pictures(settings, {"train": samples}, source)
        pixels = samples.inputs([(row, -1) for row in range(3)], ["image"])["image"]["pixels"]
        return source.fingerprint, pixels.reshape(3, -1)[:, 0].tolist()

    path = form(folder, [10, 20, 30])
    first = read(path)
    assert first[1] == [10, 20, 30] and read(path) == first
    # A row between those by which inputs are probed elsewhere: all of the bytes count.
    changed = read(rewritten(folder, form, [10, 21, 30]))
    assert changed[1] == [10, 21, 30] and changed[0] != first[0]
    assert read(rewritten(folder, form, [10, 20, 30])) == first


@pytest.mark.parametrize("form", FORMS)
def test_a_copy_elsewhere_is_the_same_data(form, tmp_path):
    (tmp_path / "here").mkdir()
    here = form(tmp_path / "here", [1, 2, 3])
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    there = str(tmp_path / "there" / Path(here).name)
    assert table(here, COLUMNS, val_fraction=0).fingerprint == table(there, COLUMNS, val_fraction=0).fingerprint


def test_a_sweep_sees_that_a_tar_was_rewritten(tmp_path):
    data = {"_target_": "mmexp.data.table.table", "columns": COLUMNS, "train": as_tar(tmp_path, [1, 2, 3])}
    config = {"data": data, "seed": 0, "encoder": {}}
    _data.clear()
    before = data_now(config)
    rewritten(tmp_path, as_tar, [1, 2, 4])
    _data.clear()  # another process
    assert data_now(config) != before


def test_bytes_are_read_once_for_as_long_as_files_stay_as_they_are(tmp_path, monkeypatch):
    read: list[Path] = []
    own = contents._digest
    monkeypatch.setattr(contents, "_digest", lambda file: read.append(file) or own(file))
    path = as_csv(tmp_path, [1, 2, 3])
    first = table(path, COLUMNS, val_fraction=0).fingerprint
    assert len(read) == 4  # the table and its three pictures
    assert table(path, COLUMNS, val_fraction=0).fingerprint == first and len(read) == 4


def test_a_cache_that_cannot_be_written_changes_nothing(tmp_path, monkeypatch):
    path = as_csv(tmp_path, [1, 2, 3])
    first = table(path, COLUMNS, val_fraction=0).fingerprint
    (tmp_path / "no folder").write_text("")
    monkeypatch.setenv("MMEXP_CACHE", str(tmp_path / "no folder"))
    assert table(path, COLUMNS, val_fraction=0).fingerprint == first
