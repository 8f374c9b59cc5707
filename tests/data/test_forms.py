"""Tables as spreadsheets, pandas and the library datasets write them, and those that are refused in a line."""

import base64
import io
import json
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mmexp.data.table import table
from mmexp.errors import RequestError

COLUMNS = {"image": "image", "text": "caption"}


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MMEXP_CACHE", str(tmp_path / "cache"))


def png(level: int) -> bytes:
    memory = io.BytesIO()
    Image.new("L", (4, 4), level).save(memory, "PNG")
    return memory.getvalue()


def captions(path: Path | str, **more) -> list[str]:
    samples = table(str(path), {"text": "caption"}, val_fraction=0, **more).splits["train"]
    return [samples.read(row, "text") for row in range(len(samples))]


def written(folder: Path, name: str, text: str, encoding: str = "utf-8") -> Path:
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


SIX = ['a 5" screen', '"open', "two", 'say "no', 'close"', "six"]


def test_quotes_are_literal_in_tsv(tmp_path):
    lines = ["id\tcaption", *(f"{i}\t{text}" for i, text in enumerate(SIX))]
    assert captions(written(tmp_path, "t.tsv", "\n".join(lines) + "\n")) == SIX
    assert captions(written(tmp_path, "w.tsv", "\r\n".join(lines))) == SIX


def test_a_tsv_in_which_all_quotes_are_of_a_spreadsheet_is_unquoted(tmp_path):
    file = written(tmp_path, "t.tsv", 'id\tcaption\n0\t"a ""red"" one"\n1\tplain\u2028one\n')
    assert captions(file) == ['a "red" one', "plain\u2028one"]


@pytest.mark.parametrize("rows", ['0,"open\n1,two\n2,three\n', '0,"open\n1,two\n2,"three"\n'])
def test_a_quote_that_is_not_closed_in_csv_names_its_line(tmp_path, rows):
    with pytest.raises(RequestError, match=r"t.csv, line 3: a quote opens in this row and is not closed"):
        captions(written(tmp_path, "t.csv", f"id,caption\n9,first\n{rows}"))


def test_rows_of_several_lines_are_noted(tmp_path, capsys):
    assert captions(written(tmp_path, "t.csv", 'id,caption\n0,"two\nlines"\n1,one\n')) == ["two\nlines", "one"]
    assert "1 rows span several lines, the first from line 2 to 3" in capsys.readouterr().out


@pytest.mark.parametrize(("by", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")])
def test_the_separator_is_found_and_told(tmp_path, capsys, by, name):
    rows = [f"{i}{by}red, green, {i}{by}1,5" for i in range(3)]
    file = written(tmp_path, "t.csv", "\n".join([f"id{by}caption{by}size", *rows]))
    assert captions(file) == [f"red, green, {i}" for i in range(3)]
    assert f"columns are separated by {name}" in capsys.readouterr().out
    assert captions(written(tmp_path, "one.csv", "caption\na; b\nc\n")) == ["a; b", "c"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
@pytest.mark.parametrize("form", ["t.csv", "t.tsv", "t.jsonl", "t.json"])
def test_utf_16_is_read(tmp_path, encoding, form):
    by = "\t" if form == "t.tsv" else ","
    rows = [{"id": i, "caption": f"a fünf {i} 🟨"} for i in range(3)]
    text = {
        "t.jsonl": "\n".join(json.dumps(row, ensure_ascii=False) for row in rows),
        "t.json": json.dumps(rows, ensure_ascii=False, indent=1),
    }.get(form, "\n".join([f"id{by}caption", *(f"{row['id']}{by}{row['caption']}" for row in rows)]))
    assert captions(written(tmp_path, form, text, encoding)) == [row["caption"] for row in rows]


def test_doubled_names_of_columns_are_refused(tmp_path):
    told = "2 columns are named 'caption'. Rename all but one."
    with pytest.raises(RequestError, match=rf"t.csv, line 1: {told}"):
        captions(written(tmp_path, "t.csv", "caption,id,caption\na,1,b\n"))
    doubled = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["caption", "caption"])
    pq.write_table(doubled, tmp_path / "t.parquet")
    with pytest.raises(RequestError, match=told):
        captions(tmp_path / "t.parquet")


def test_an_array_of_json(tmp_path):
    file = written(tmp_path, "t.json", json.dumps([{"caption": "a"}, {"caption": "b", "more": 1}], indent=2))
    assert captions(file) == ["a", "b"]
    assert captions(written(tmp_path, "t.jsonl", '[{"caption": "a"},\n{"caption": "b"}]')) == ["a", "b"]
    with pytest.raises(RequestError, match=r"t.json, line 2: not JSON"):
        captions(written(tmp_path, "t.json", '[{"caption": "a"},\n{"caption" "b"}]'))
    with pytest.raises(RequestError, match=r"row 1 \(counted from 0\): a row is an object"):
        captions(written(tmp_path, "t.json", '[{"caption": "a"}, 2]'))


def test_a_folder_of_parquet_shards(tmp_path):
    for shard in range(3):
        name = f"train-{shard:05}-of-00003.parquet"
        pq.write_table(pa.table({"caption": [f"{shard} {i}" for i in range(2)]}), tmp_path / name)
    expected = [f"{shard} {i}" for shard in range(3) for i in range(2)]
    assert captions(tmp_path) == expected
    assert captions(tmp_path / "train-{00000..00001}-of-00003.parquet") == expected[:4]
    pq.write_table(pa.table({"caption": ["t"]}), tmp_path / "test-00000-of-00001.parquet")
    with pytest.raises(
        RequestError, match=r"has the splits test and train. Name the files of one: '.*train\*.parquet'"
    ):
        captions(tmp_path)
    assert captions(tmp_path / "train*.parquet") == expected
    before = table(str(tmp_path / "train*.parquet"), {"text": "caption"}, val_fraction=0).fingerprint
    pq.write_table(pa.table({"caption": ["x", "y"]}), tmp_path / "train-00002-of-00003.parquet")
    assert table(str(tmp_path / "train*.parquet"), {"text": "caption"}, val_fraction=0).fingerprint != before


def test_data_sets_saved_to_disk_and_those_with_a_configuration(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    rows = {"image": [{"bytes": png(9 * i), "path": None} for i in range(3)], "caption": ["a", "b", "c"]}
    data = datasets.Dataset.from_dict(rows, features=features)
    data.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": data, "test": data.select([2])}).save_to_disk(str(tmp_path / "two"))
    samples = table(str(tmp_path / "one"), COLUMNS, val_fraction=0).splits["train"]
    assert [int(np.asarray(samples.read(row, "image"))[0, 0, 0]) for row in range(3)] == [0, 9, 18]
    assert captions(tmp_path / "two" / "test") == ["c"]
    with pytest.raises(RequestError, match=r"has the splits test, train. Name one: '.*two/train'"):
        captions(tmp_path / "two")
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *given, **more: asked.append((*given, more["split"])) or data)
    for path in ("hf://owner/name", "hf://owner/name:german", "hf://owner/name:german@test", "hf://owner/name@test"):
        captions(path)
    assert asked == [
        ("owner/name", None, "train"),
        ("owner/name", "german", "train"),
        ("owner/name", "german", "test"),
        ("owner/name", None, "test"),
    ]


def test_base64_cells(tmp_path):
    plain = base64.b64encode(png(7)).decode()
    rows = [plain, f"data:image/png;base64,{plain}", base64.encodebytes(png(7)).decode()]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps({"image": cell, "caption": "x"}) for cell in rows))
    samples = table(str(tmp_path / "t.jsonl"), COLUMNS, val_fraction=0).splits["train"]
    assert all(int(np.asarray(samples.read(row, "image"))[0, 0, 0]) == 7 for row in range(3))


def test_names_with_accents_and_backslashes_are_found(tmp_path):
    (tmp_path / "böden").mkdir()
    (tmp_path / "böden" / normalize("NFD", "grün.png")).write_bytes(png(1))
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "b.png").write_bytes(png(2))
    cells = [normalize("NFC", "böden/grün.png"), "plain\\b.png"]
    # Folders may be written either way, too; here the whole of the path is of one form.
    Path(tmp_path / "böden").rename(tmp_path / normalize("NFD", "böden"))
    rows = [json.dumps({"image": cell, "caption": "x"}) for cell in cells]
    (tmp_path / "t.jsonl").write_text("\n".join(rows))
    samples = table(str(tmp_path / "t.jsonl"), COLUMNS, val_fraction=0).splits["train"]
    assert [int(np.asarray(samples.read(row, "image"))[0, 0, 0]) for row in range(2)] == [1, 2]


def test_braces_in_a_path_that_is_no_pattern(tmp_path):
    (tmp_path / "run{1}").mkdir()
    assert captions(written(tmp_path / "run{1}", "{a,b}.csv", "caption\na\n")) == ["a"]
    with pytest.raises(RequestError, match=r"there is no file or folder '.*x\{1\}.csv', and its braces are no pattern"):
        captions(tmp_path / "x{1}.csv")
