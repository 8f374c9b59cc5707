"""Sounds in all forms become one channel of samples; broken, empty and missing ones are told or left out."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from mmexp.data.sounds import read_sound
from mmexp.data.table import table
from mmexp.errors import RequestError

COLUMNS = {"image": None, "text": "caption", "audio": "sound", "label": None, "concept": None}
RATE = 8000


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMEXP_CACHE", str(tmp_path / "cache"))


def tone(hertz: float, seconds: float = 0.5) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(RATE * seconds)) / RATE)


def wav(samples: np.ndarray, form: str = "WAV", subtype: str | None = None) -> bytes:
    memory = io.BytesIO()
    soundfile.write(memory, samples, RATE, format=form, subtype=subtype)
    return memory.getvalue()


def write(folder: Path, contents: list[bytes]) -> str:
    for number, content in enumerate(contents):
        (folder / f"{number}.wav").write_bytes(content)
    rows = [{"sound": f"{number}.wav", "caption": f"sound {number}"} for number in range(len(contents))]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(folder / "train.jsonl")


def only(path: str, **more):
    source = table(path, {**COLUMNS, **more}, val_fraction=0)
    assert source.modalities == [kind for kind in ("image", "text", "audio") if {**COLUMNS, **more}[kind]]
    return source.splits["train"]


def test_a_table_of_sounds(tmp_path):
    samples = only(write(tmp_path, [wav(tone(300)), wav(tone(400))]))
    assert len(samples) == 2 and samples.concepts.tolist() == [0, 1]
    for row, hertz in enumerate((300, 400)):
        heard, rate = samples.read(row, "audio")
        assert rate == RATE and heard.dtype == np.float32
        assert np.allclose(heard, tone(hertz), atol=1e-4)


@pytest.mark.parametrize(
    ("form", "subtype", "apart"), [("FLAC", None, 1e-4), ("WAV", "FLOAT", 1e-7), ("OGG", None, 0.2)]
)
def test_the_usual_forms(form, subtype, apart):
    heard, _ = read_sound(wav(tone(300), form, subtype), 10)
    assert np.abs(heard - tone(300)).max() < apart


def test_channels_are_averaged():
    both = np.stack([tone(300), tone(400)], 1)
    assert np.allclose(read_sound(wav(both), 10)[0], both.mean(1), atol=1e-4)


def test_no_more_than_so_many_seconds_are_read(tmp_path):
    path = write(tmp_path, [wav(tone(300, 2.0))])
    samples = table(path, COLUMNS, val_fraction=0, seconds=0.25).splits["train"]
    assert np.allclose(samples.read(0, "audio")[0], tone(300, 0.25), atol=1e-4)


BROKEN = {
    "no sound at all": b"RIFF and then nothing",
    "cut in its head": wav(tone(300))[:20],
    "empty": b"",
    "no samples": wav(tone(300, 0)),
    "not a number": wav(np.full(100, np.nan), subtype="FLOAT"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_sound_is_named_by_file_and_line_or_left_out(what, tmp_path, capsys):
    path = write(tmp_path, [wav(tone(300)), BROKEN[what], wav(tone(400))])
    with pytest.raises(RequestError, match=r"train.jsonl, line 2: the sound cannot be decoded: \w"):
        table(path, COLUMNS)
    source = table(path, COLUMNS, on_error="skip", val_fraction=0)
    assert len(source.splits["train"]) == 2 and source.skipped == {"train": 1}
    assert "1 of 3 rows left out" in capsys.readouterr().out


def test_a_missing_sound(tmp_path):
    path = write(tmp_path, [wav(tone(300))])
    (tmp_path / "0.wav").unlink()
    with pytest.raises(RequestError, match=r"line 1: there is no sound '.*0.wav'"):
        table(path, COLUMNS)


def test_a_sound_that_breaks_after_the_check_is_named(tmp_path):
    samples = only(write(tmp_path, [wav(tone(300))]))
    (tmp_path / "0.wav").write_bytes(b"")
    with pytest.raises(RequestError, match="line 1: the sound cannot be decoded"):
        samples.read(0, "audio")


def test_no_modality_at_all(tmp_path):
    with pytest.raises(RequestError, match="no modality is there"):
        table(write(tmp_path, [wav(tone(300))]), {"audio": None, "label": "caption"})


def test_rows_that_share_a_sound_hold_the_same_item(tmp_path):
    write(tmp_path, [wav(tone(300)), wav(tone(400))])
    rows = [{"sound": f"{number}.wav", "caption": text} for number, text in ((0, "a"), (1, "b"), (0, "c"))]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    samples = only(str(tmp_path / "train.jsonl"))
    assert samples.items["audio"].tolist() == [0, 1, 0] and samples.concepts.tolist() == [0, 1, 2]


def test_sounds_as_bytes_in_parquet(tmp_path):
    cells = [{"bytes": wav(tone(hertz)), "path": None} for hertz in (300, 400)]
    pq.write_table(pa.table({"sound": cells, "caption": ["a", "b"]}), tmp_path / "t.parquet")
    assert np.allclose(only(str(tmp_path / "t.parquet")).read(1, "audio")[0], tone(400), atol=1e-4)


def test_sounds_in_a_tar(tmp_path):
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        for name, content in (("a.wav", wav(tone(300))), ("a.txt", b"low")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    samples = only(str(tmp_path / "t.tar"), audio="audio")
    assert np.allclose(samples.read(0, "audio")[0], tone(300), atol=1e-4) and samples.read(0, "text") == "low"


def test_a_folder_of_sounds_has_labels_of_its_folders(tmp_path):
    for name, hertz in (("high", 400), ("low", 300)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.wav").write_bytes(wav(tone(hertz)))
    source = table(str(tmp_path), {**COLUMNS, "audio": "audio", "label": "label"}, val_fraction=0)
    assert source.classes == ["high", "low"]
    assert np.allclose(source.splits["train"].read(1, "audio")[0], tone(300), atol=1e-4)


def test_in_a_folder_of_pictures_the_sound_of_the_same_name_is_in_its_row(tmp_path):
    from PIL import Image

    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    for name in ("a", "b"):
        (tmp_path / f"{name}.wav").write_bytes(wav(tone(300)))
    samples = only(str(tmp_path), image="image", audio="audio", text=None)
    assert len(samples) == 1 and samples.read(0, "audio")[1] == RATE


def test_a_folder_whose_metadata_name_sounds(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav(tone(300)))
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "a.wav", "caption": "low"}))
    assert only(str(tmp_path), audio="audio").read(0, "audio")[1] == RATE
