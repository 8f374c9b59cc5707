"""Captions that are cut are counted, and reported before a run begins."""

import json

from PIL import Image

from mmexp.encoders.transformer import Transformer
from mmexp.truncation import Truncated, truncated


def test_cut_captions_and_those_alike_behind_the_cut_are_counted():
    encoder = Transformer(dim=12, depth=1, heads=3, context_length=6)
    captions = [
        "a cat",
        "one two three four five six seven",
        "one two three four five six eight",
        "red blue green sun moon sea",
    ]
    lengths = [len(encoder.tokenizer.encode(caption).ids) for caption in captions]
    assert [length > 6 for length in lengths] == [False, True, True, True]
    assert truncated(encoder, captions) == Truncated(cut=3, captions=4, alike=2, length=6)
    assert encoder.cut == 0, "what training cuts is counted apart"


def opening(mmexp, folder, table: str, *data: str) -> str:
    """Write 12 pictures beside a table, train a step, and return what is printed."""
    for number in range(12):
        Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(folder / f"{number}.png")
    towers = ("encoder=cnn", "encoder.image.options.channels=[8,8,8,8]", "encoder.text.dim=12", "encoder.text.depth=1")
    data = ("data=table", f"data.train={table}", *data, "data.batch_size=4", "data.num_workers=0")
    step = ("fusion=none", "objective=contrastive", "budget.steps=1", "evaluate=false")
    status, out, err = mmexp("train", *towers, *data, *step, "encoder.text.context_length=10")
    assert status == 0, err
    return out


def test_captions_of_a_list_count_one_by_one(mmexp, tmp_path):
    rows = [{"image": f"{i}.png", "caption": [f"a {i}", "many words of a small thing " * 3]} for i in range(12)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert "captions cut: 12 of 24 captions of train are longer" in opening(
        mmexp, tmp_path, "t.jsonl", "data.val_fraction=0"
    )


def test_a_run_reports_them(mmexp, tmp_path):
    long = "a small thing of which much is written "
    lines = ["image,caption", *(f"{number}.png,{long * (number % 3)}number {number}" for number in range(12))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    assert (
        "captions cut: 8 of 12 captions of train are longer than encoder.text.context_length=10 tokens; 8 of them differ"
        in opening(mmexp, tmp_path, "t.csv", "data.val=t.csv")
    )
