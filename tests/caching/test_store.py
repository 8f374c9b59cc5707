"""Artefacts: what was written comes back, one that is torn or damaged is never seen, and the oldest make room."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from mmexp.caching import store as store_module
from mmexp.caching.entry import Entry
from mmexp.caching.store import Store
from mmexp.errors import RequestError

ROWS, LONGEST, DIM = 13, 5, 3


def batches(seed: int = 0):
    """Return batches of 4 rows, each row with a number of real places of its own."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, LONGEST + 1, (ROWS,), generator=generator)
    for rows in torch.arange(ROWS).split(4):
        longest = int(lengths[rows].max())
        mask = torch.arange(longest)[None] < lengths[rows, None]
        tokens = torch.randn(len(rows), longest, DIM, generator=generator) * mask[..., None]
        yield {
            "tokens": tokens,
            "mask": mask,
            "pooled": tokens.sum(1),
            "text/ids": rows[:, None] + 1,
            "text/mask": mask[:, :1],
        }


def filled(folder: Path, key: str = "one", dtype: torch.dtype = torch.float32, **store) -> Entry:
    return Store(folder, store.get("max_bytes", 1e9)).obtain(key, {}, dtype, batches)


def whole() -> dict[str, torch.Tensor]:
    """Return all rows, padded to the longest of them."""
    every = list(batches())
    pad = [torch.nn.functional.pad(b["tokens"], (0, 0, 0, LONGEST - b["tokens"].shape[1])) for b in every]
    return {"tokens": torch.cat(pad), "pooled": torch.cat([b["pooled"] for b in every])}


def test_rows_come_back_in_any_order_filled_up_to_the_longest_of_them(tmp_path):
    entry = filled(tmp_path)
    rows = [12, 0, 7, 7, 3]
    read, expected = entry.read(rows), whole()
    longest = read["tokens"].shape[1]
    assert torch.equal(read["tokens"], expected["tokens"][rows][:, :longest])
    assert not expected["tokens"][rows][:, longest:].any()
    assert torch.equal(read["mask"], read["tokens"].abs().sum(-1) > 0)
    assert torch.equal(read["pooled"], expected["pooled"][rows])
    assert read["text/ids"].flatten().tolist() == [13, 1, 8, 8, 4]


@pytest.mark.parametrize(("dtype", "precision"), [(torch.float16, 2**-11), (torch.bfloat16, 2**-8)])
def test_half_precision_takes_half_the_bytes_and_comes_back_as_fp32(tmp_path, dtype, precision):
    entry, full = filled(tmp_path, dtype=dtype), filled(tmp_path, "full")
    assert entry.arrays["pooled"].size * 2 == full.arrays["pooled"].size
    read = entry.read(range(ROWS))["pooled"]
    assert read.dtype == torch.float32
    torch.testing.assert_close(read, whole()["pooled"], rtol=precision, atol=1e-6)
    assert not torch.equal(read, whole()["pooled"])


def test_what_is_there_is_not_computed_again(tmp_path):
    filled(tmp_path)

    def never():
        raise AssertionError("computed again")

    assert Store(tmp_path, 1e9).obtain("one", {}, torch.float32, never).rows == ROWS


@pytest.mark.parametrize("harm", ["flipped", "shorter", "gone", "no manifest", "half a manifest"])
def test_a_damaged_artefact_is_told_removed_and_computed_again(tmp_path, capsys, monkeypatch, harm):
    entry = filled(tmp_path)
    monkeypatch.setattr(store_module, "_verified", {})  # as in another process
    file, manifest = entry.folder / "pooled.bin", entry.folder / "entry.json"
    if harm == "flipped":
        content = bytearray(file.read_bytes())
        content[5] ^= 1
        file.write_bytes(content)
    elif harm == "shorter":
        file.write_bytes(file.read_bytes()[:-4])
    elif harm == "gone":
        file.unlink()
    elif harm == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text(manifest.read_text()[:50])
    assert Store(tmp_path, 1e9).find("one") is None
    assert "is damaged" in capsys.readouterr().out
    again = filled(tmp_path)
    assert torch.equal(again.read(range(ROWS))["pooled"], whole()["pooled"])


def _slowly(folder: Path, log: Path, pause: float) -> None:
    def slow():
        for batch in batches():
            with log.open("a") as stream:
                stream.write(f"{os.getpid()}\n")
            time.sleep(pause)
            yield batch

    entry = Store(folder, 1e9).obtain("one", {}, torch.float32, slow)
    assert torch.equal(entry.read(range(ROWS))["pooled"], whole()["pooled"])


def _start(*arguments) -> multiprocessing.Process:
    process = multiprocessing.get_context("spawn").Process(target=_slowly, args=arguments)
    process.start()
    return process


def test_a_writer_that_is_killed_leaves_nothing_that_is_read(tmp_path):
    folder, log = tmp_path / "cache", tmp_path / "log"
    writer = _start(folder, log, 30.0)
    while not (log.is_file() and list(folder.glob(".one-*"))):
        assert writer.is_alive()
        time.sleep(0.05)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert list(folder.glob(".one-*")), "it was killed while it wrote"
    assert Store(folder, 1e9).find("one") is None
    assert Store(folder, 1e9).entries() == []
    assert torch.equal(filled(folder).read(range(ROWS))["pooled"], whole()["pooled"])
    assert not list(folder.glob(".one-*")), "what it left is cleared away"


def test_of_two_writers_at_once_one_computes_and_both_read_the_same(tmp_path):
    log = tmp_path / "log"
    writers = [_start(tmp_path / "cache", log, 0.3) for _ in range(2)]
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert len(set(log.read_text().split())) == 1


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    def failing():
        yield next(batches())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Store(tmp_path, 1e9).obtain("one", {}, torch.float32, failing)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_what_was_not_used_for_the_longest_time_makes_room(tmp_path):
    size = filled(tmp_path, "a").size
    for name in ("b", "c"):
        filled(tmp_path, name)
    for i, name in enumerate("bca"):  # b was used first, a last
        os.utime(tmp_path / name, (1e9 + i, 1e9 + i))
    Store(tmp_path, 3 * size).make_room(size, [])
    assert [entry.key for entry in Store(tmp_path, 0).entries()] == ["a", "c"]
    Store(tmp_path, 2 * size).make_room(size, ["c"])
    assert [entry.key for entry in Store(tmp_path, 0).entries()] == ["c"]


def test_what_a_run_needs_itself_is_not_removed_for_it(tmp_path):
    size = filled(tmp_path, "a").size
    with pytest.raises(RequestError, match=r"cache.max_bytes=.*fewer variation.views"):
        Store(tmp_path, 1.5 * size).make_room(size, ["a"])
    assert Store(tmp_path, 0).entries()


def test_a_folder_that_cannot_be_written_to_is_told_in_a_line(tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(RequestError, match=r"cache.directory=.*cache.enabled=false"):
        filled(tmp_path / "cache")


def test_another_process_opens_its_own_maps(tmp_path):
    import pickle

    entry = filled(tmp_path)
    entry.read([0])
    assert len(pickle.dumps(entry)) < 2000 < entry.size * 10
    assert torch.equal(pickle.loads(pickle.dumps(entry)).read([1])["pooled"], entry.read([1])["pooled"])


def test_numbers_that_the_type_on_disk_cannot_hold_are_refused(tmp_path):
    large = torch.tensor([[1.0, 7e4]])
    with pytest.raises(RequestError, match=r"cache.dtype=float16: .* is 7e\+04, and float16 ends at 6.55e\+04"):
        Store(tmp_path, 1e9).obtain("k", {}, torch.float16, lambda: [{"pooled": large}])
    assert not list(tmp_path.glob("[!.]*"))
    Store(tmp_path, 1e9).obtain("k", {}, torch.bfloat16, lambda: [{"pooled": large}])
