"""Rows that fill as they are asked for: shared, checked, and never in the way where they cannot be."""

import errno
import json
import multiprocessing
import os
import pickle

import pytest
import torch
from PIL import Image

from mmexp.caching.rows import KeptRows
from mmexp.caching.store import Store
from mmexp.cli import main as _main
from mmexp.data.decoded import Decoded
from mmexp.errors import RequestError

SHAPE = (3, 4, 4)


def laid(folder, rows: int = 5, most: float = 1e9) -> KeptRows:
    return Store(folder, most).rows("key", {}, "pixels", rows, SHAPE)


def values(*numbers: int) -> dict[str, torch.Tensor]:
    return {"pixels": torch.stack([torch.full(SHAPE, number, dtype=torch.uint8) for number in numbers])}


def test_what_one_has_put_another_finds(tmp_path):
    first, second = laid(tmp_path), laid(tmp_path)
    assert first.missing([0, 3]) == [0, 3]
    first.put([3, 0], values(7, 0))
    assert second.missing([0, 3, 4]) == [4]
    assert torch.equal(second.take([0, 3])["pixels"], values(0, 7)["pixels"])
    assert torch.equal(pickle.loads(pickle.dumps(second)).take([3])["pixels"], values(7)["pixels"])


def _put(folder) -> None:
    laid(folder).put([2], values(9))
    os._exit(9)  # as one that is killed


def test_it_outlives_who_is_killed_and_what_was_torn_is_not_there(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_put, args=(tmp_path,))
    process.start()
    process.join()
    laid(tmp_path).put([1], values(4))
    with (tmp_path / "key" / "pixels.bin").open("r+b") as stream:
        stream.seek(48)
        stream.write(b"\x05")
    again = laid(tmp_path)
    assert again.missing([1, 2]) == [1]


def test_no_more_than_is_allowed_and_no_more_than_the_disk_has(tmp_path, monkeypatch):
    with pytest.raises(RequestError, match="max_bytes"):
        laid(tmp_path, most=10)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        laid(tmp_path)
    assert [path for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = []
    for number in range(12):
        Image.new("RGB", (20, 16), (20 * number, 0, 90)).save(f"{number}.jpg")
        rows.append({"image": f"{number}.jpg", "caption": f"picture {number}"})
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def train(monkeypatch, name: str, *more: str) -> None:
    small = ("data=table", "data.train=train.jsonl", "data.batch_size=5", "data.num_workers=0", "budget.epochs=2")
    tiny = ("encoder.image.options.depth=1", "encoder.text.depth=1", "evaluate=false", "fusion=none")
    words = ("objective=contrastive", "augmentation=none", "data.val_fraction=0.2", f"hydra.run.dir={name}", *more)
    monkeypatch.setattr("sys.argv", ["mmexp", "train", *small, *tiny, *words])
    assert _main() == 0


def test_a_second_run_decodes_no_picture_and_learns_the_same(pictures, monkeypatch):
    weights = []
    counted: list[int] = []
    decode = Decoded.decode

    def counting(self, rows):
        counted.extend(rows)
        return decode(self, rows)

    monkeypatch.setattr(Decoded, "decode", counting)
    for name in ("plain", "first", "second"):
        counted.clear()
        train(monkeypatch, name, *(["cache.enabled=false"] if name == "plain" else []))
        weights.append(torch.load(f"{name}/checkpoints/last.ckpt", weights_only=True)["state_dict"])
        if name == "first":
            assert set(counted) >= {0, 5, 9}
    # Two of them by the forward of two rows before the first step, the others as probes of what the files hold.
    assert len(counted) <= 2 + 8 + 8
    for other in weights[1:]:
        assert all(torch.equal(weights[0][key], other[key]) for key in weights[0])


def test_a_changed_picture_is_decoded_again_and_no_room_is_told(pictures, monkeypatch, capsys):
    train(monkeypatch, "first")
    entries = {path.parent.name for path in pictures.glob("outputs/cache/*/entry.json")}
    assert len(entries) == 2, "train and val"
    Image.new("RGB", (20, 16), "white").save("3.jpg")
    train(monkeypatch, "second")
    assert len({path.parent.name for path in pictures.glob("outputs/cache/*/entry.json")} - entries) in (1, 2)
    capsys.readouterr()
    train(monkeypatch, "little", "cache.max_bytes=100", "cache.directory=other")
    assert "cache: decoded pictures of train take" in capsys.readouterr().out
    (pictures / "file").write_text("")
    train(monkeypatch, "nowhere", "cache.directory=file/x")
    assert "are not kept in file/x" in capsys.readouterr().out
