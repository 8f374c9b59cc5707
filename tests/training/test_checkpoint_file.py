"""Checkpoints are whole or not there, and a run goes on from the newest that is whole."""

import errno
import io
import json
import os
import zipfile
from pathlib import Path

import pytest
import torch
from test_resume import left_by, same, train, train_until

from mmexp.runs.whole import damage, written
from mmexp.training import checkpoint_file
from mmexp.training.checkpoint_file import WholeCheckpoints


def test_a_file_is_read_back_and_told_from_one_that_was_changed(tmp_path):
    path = tmp_path / "runs" / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"step": 3, "weights": torch.arange(5000)}, path)
    assert damage(path) is None
    assert [one.name for one in path.parent.iterdir()] == ["last.ckpt"]
    content = path.read_bytes()
    for wrong in (
        content[:-40],
        content[:900],
        b"",
        content.replace(torch.arange(7, 12).numpy().tobytes(), b"\1" * 40),
    ):
        assert wrong != content
        path.write_bytes(wrong)
        assert damage(path)


class Full(io.FileIO):
    """A file on a disk that has room for so many bytes."""

    room = 2000

    def write(self, content) -> int:
        self.room -= len(content)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(content)


def test_a_full_disk_leaves_the_file_before(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"step": 1}, path)
    before = path.read_bytes()
    monkeypatch.setattr(Path, "open", lambda self, mode: Full(self, mode.replace("b", "")))
    with pytest.raises(OSError, match="No space left on device") as told:
        WholeCheckpoints().save_checkpoint({"weights": torch.rand(5000)}, path)
    assert told.value.filename == str(path)
    assert [one.name for one in tmp_path.iterdir()] == ["last.ckpt"] and path.read_bytes() == before


def test_what_cannot_be_read_back_does_not_take_the_place(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"step": 1}, path)
    monkeypatch.setattr(checkpoint_file, "write", lambda _, beside: beside.write_bytes(b"half"))
    with pytest.raises(OSError, match="could not be read back"):
        WholeCheckpoints().save_checkpoint({"step": 2}, path)
    assert torch.load(path)["step"] == 1


def inside_largest_record(file: Path) -> int:
    """Return a place within the data of the largest record: between records a checkpoint has padding, which is never read."""
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        largest = max(records, key=lambda record: record.file_size)
        # Its data end where the next record begins, or the directory.
        end = min(
            [one.header_offset for one in records if one.header_offset > largest.header_offset] or [archive.start_dir]
        )
    return end - largest.file_size // 2


@pytest.mark.parametrize("harm", ["cut", "emptied", "flipped", "removed"])
def test_a_broken_newest_one_falls_back_to_the_one_before_and_says_so(tmp_path, monkeypatch, capsys, harm):
    monkeypatch.chdir(tmp_path)
    train(monkeypatch, "hydra.run.dir=run")
    whole = left_by(Path("run").rename("whole"))
    train_until(monkeypatch, 13, "hydra.run.dir=run")
    last, content = Path("run/checkpoints/last.ckpt"), Path("run/checkpoints/last.ckpt").read_bytes()
    middle, within = len(content) // 2, inside_largest_record(last)
    flipped = content[:within] + bytes(255 - byte for byte in content[within : within + 9]) + content[within + 9 :]
    if harm == "removed":
        last.unlink()
    else:
        last.write_bytes({"cut": content[:middle], "emptied": b"", "flipped": flipped}[harm])
    capsys.readouterr()
    train(monkeypatch, "hydra.run.dir=run", "resume=auto")
    assert "going on from previous.ckpt, step 10" in capsys.readouterr().err
    resumed = left_by(Path("run"))
    assert all(same(whole[0][part], resumed[0][part]) for part in ("state_dict", "optimizer_states"))
    assert resumed[1:] == whole[1:]


def test_a_broken_one_never_takes_the_place_of_a_whole_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train_until(monkeypatch, 13, "hydra.run.dir=run")
    Path("run/checkpoints/last.ckpt").write_bytes(b"torn")
    train_until(monkeypatch, 14, "hydra.run.dir=run", "resume=auto")
    assert written(Path("run")) and not [file for file in written(Path("run")) if damage(file)]


def test_where_none_is_whole_it_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train(monkeypatch, "hydra.run.dir=run", "budget.steps=4")
    for file in written(Path("run")):
        file.write_bytes(b"torn")
    train(monkeypatch, "hydra.run.dir=run", "resume=auto", expect=2)
    assert "run/checkpoints is whole (last.ckpt: File is not a zip file)" in capsys.readouterr().err


def test_a_disk_that_is_full_ends_the_run_in_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    saved = WholeCheckpoints.save_checkpoint

    def full(self, checkpoint, path, storage_options=None):
        if checkpoint["global_step"] >= 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        saved(self, checkpoint, path, storage_options)

    with monkeypatch.context() as patched:
        patched.setattr(WholeCheckpoints, "save_checkpoint", full)
        train(monkeypatch, "hydra.run.dir=run", expect=1)
    told = capsys.readouterr().err
    assert "last.ckpt cannot be written: No space left on device" in told and "Traceback" not in told
    assert json.loads(Path("run/run.json").read_text())["status"] == "failed"
    assert torch.load("run/checkpoints/last.ckpt")["global_step"] == 4
    train(monkeypatch, "hydra.run.dir=run", "resume=auto")
    assert json.loads(Path("run/run.json").read_text())["status"] == "completed"
