"""A column that holds nothing is refused in a line, whatever it was to be."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmexp.data.table import table
from mmexp.errors import RequestError

COLUMNS = {"image": "image", "text": "caption"}


def written(folder, **cells) -> str:
    rows = [{"image": f"{row}.png", "caption": f"text {row}", **cells} for row in range(4)]
    for row in range(4):
        Image.new("L", (4, 4), row).save(folder / f"{row}.png")
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(folder / "t.jsonl")


@pytest.mark.parametrize("cell", [None, "", "  ", float("nan")])
@pytest.mark.parametrize("name", ["target", "label", "image"])
def test_a_column_without_a_cell_is_refused(tmp_path, monkeypatch, name, cell):
    if name == "image" and cell != cell:
        pytest.skip("a number is no picture")
    monkeypatch.setenv("MMEXP_CACHE", str(tmp_path / "cache"))
    path = written(tmp_path, **{name: cell})
    with pytest.raises(
        RequestError, match=rf"t.jsonl': column '{name}' \(data.columns.{name}\) is empty in every row of train"
    ):
        table(path, {**COLUMNS, name: name}, missing="keep", val_fraction=0)


def test_targets_of_some_rows_may_be_empty(tmp_path, monkeypatch):
    monkeypatch.setenv("MMEXP_CACHE", str(tmp_path / "cache"))
    path = written(tmp_path)
    rows = [
        json.loads(line) | {"target": cell}
        for line, cell in zip(Path(path).read_text().splitlines(), [" ", "1.5", None, 2], strict=True)
    ]
    (tmp_path / "u.jsonl").write_text("\n".join(map(json.dumps, rows)))
    numbers = table(str(tmp_path / "u.jsonl"), {**COLUMNS, "target": "target"}, val_fraction=0).splits["train"].number
    np.testing.assert_array_equal(numbers, np.array([np.nan, 1.5, np.nan, 2], np.float32))
