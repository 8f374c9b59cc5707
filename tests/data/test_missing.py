"""Rows that lack a modality: in tables of all forms, in batches, and in evaluation sets made so."""

import json
import tarfile
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from stand_ins import TinyImage, TinyText, tiny_audio

from mmexp import build
from mmexp.augmentations.eda import Eda
from mmexp.compose import compose
from mmexp.data.chosen import ChosenSamples, sources_of
from mmexp.data.emoji import emoji
from mmexp.data.loading import Loading, PreparedSamples
from mmexp.data.sequence import Joined
from mmexp.data.table import table
from mmexp.data.variation import Variation
from mmexp.data.without import measured_without
from mmexp.errors import RequestError
from mmexp.types import DataSource

COLUMNS = {"image": "image", "text": "caption"}
ROWS = [("0.png", "a red thing"), ("", "a green thing"), ("2.png", ""), ("3.png", "a red thing"), ("", "one more")]
ENCODERS = {"image": TinyImage(), "text": TinyText()}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMEXP_CACHE", str(tmp_path / "cache"))


def pictures(folder):
    for name in ("0.png", "2.png", "3.png"):
        Image.new("RGB", (8, 8), "red").save(folder / name)


def as_csv(folder):
    (folder / "t.csv").write_text("image,caption\n" + "\n".join(",".join(row) for row in ROWS))
    return "t.csv"


def as_json_lines(folder):
    rows = [{k: v for k, v in zip(("image", "caption"), row, strict=True) if v} for row in ROWS]
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return "t.jsonl"


def as_parquet(folder):
    columns = [[value or None for value in column] for column in zip(*ROWS, strict=True)]
    pq.write_table(pa.table(columns, ["image", "caption"]), folder / "t.parquet")
    return "t.parquet"


def as_tar(folder):
    with tarfile.open(folder / "t.tar", "w") as tar:
        for number, (picture, text) in enumerate(ROWS):
            parts = {"png": (folder / picture).read_bytes() if picture else b"", "txt": text.encode()}
            for suffix, content in parts.items():
                member = tarfile.TarInfo(f"{number}.{suffix}")
                member.size = len(content)
                if content:
                    tar.addfile(member, BytesIO(content))
    return "t.tar"


def read(folder, form=as_csv, **more):
    pictures(folder)
    return table(str(folder / form(folder)), COLUMNS, **{"val_fraction": 0, "missing": "keep", **more}).splits["train"]


@pytest.mark.parametrize("form", [as_csv, as_json_lines, as_parquet, as_tar])
def test_empty_cells_are_what_a_row_lacks(tmp_path, form):
    samples = read(tmp_path, form)
    assert samples.present["image"].tolist() == [True, False, True, True, False]
    assert samples.present["text"].tolist() == [True, True, False, True, True]
    # What two rows lack does not make them the same; equal captions are one text, and no row states its concept.
    assert samples.items["text"][0] == samples.items["text"][3] and samples.items["text"][2] == -1
    assert len(set(samples.concepts.tolist())) == 5
    assert samples.stamp() == samples.chosen([0, 2, 3]).stamp() or form is as_tar


def test_pictures_without_a_caption_in_a_folder(tmp_path):
    pictures(tmp_path)
    (tmp_path / "0.txt").write_text("a red thing")
    samples = table(str(tmp_path), COLUMNS, val_fraction=0, missing="keep").splits["train"]
    assert "image" not in samples.present
    assert samples.present["text"].tolist() == [True, False, False]


def test_by_default_an_empty_cell_is_a_mistake_and_the_key_is_named(tmp_path):
    with pytest.raises(
        RequestError, match=r"t.csv, line 3: .*no picture.*data.missing=keep learns from what they have\.$"
    ):
        read(tmp_path, missing="raise")


def test_a_picture_that_is_named_and_not_there_is_a_mistake_all_the_same(tmp_path):
    pictures(tmp_path)
    (tmp_path / "t.csv").write_text("image,caption\n0.png,a\nnone.png,b\n,c\n")
    with pytest.raises(RequestError, match=r"line 3: there is no picture '.*none.png'.*counts them\.$"):
        table(str(tmp_path / "t.csv"), COLUMNS, missing="keep")


def test_a_row_that_has_nothing_is_named_or_left_out(tmp_path):
    pictures(tmp_path)
    (tmp_path / "t.csv").write_text("image,caption\n0.png,a\n , \n,c\n")
    with pytest.raises(RequestError, match=r"t.csv, line 3: there is nothing in 'image' and 'caption'\."):
        table(str(tmp_path / "t.csv"), COLUMNS, missing="keep", val_fraction=0)
    source = table(str(tmp_path / "t.csv"), COLUMNS, missing="keep", val_fraction=0, on_error="skip")
    assert source.skipped == {"train": 1}
    assert source.splits["train"].present["image"].tolist() == [True, False]


def test_batches_hold_blanks_and_say_so(tmp_path, monkeypatch):
    samples = read(tmp_path)
    missing = {("image", row) for row in (1, 4)} | {("text", 2)}
    whole = samples.read
    monkeypatch.setattr(
        samples, "read", lambda row, name, *rng: whole(row, name, *rng) if (name, row) not in missing else 1 / 0
    )
    every = Variation(0, [Eda(share=1.0)])
    batch = PreparedSamples(samples, ENCODERS, Loading(), every).__getitems__([(row, 0) for row in range(5)])
    assert batch["present"]["image"].tolist() == [True, False, True, True, False]
    pixels = batch["image"]["pixels"]
    assert (pixels[[1, 4]] == 128).all() and not (pixels[0] == 128).all()
    assert batch["text"]["mask"].sum(1)[2] == 2  # the marks alone
    alone = PreparedSamples(samples, ENCODERS, Loading(), every).__getitems__([(0, 0), (3, 0)])
    length = alone["text"]["ids"].shape[1]
    assert torch.equal(batch["text"]["ids"][[0, 3], :length], alone["text"]["ids"])
    # A batch whose rows have it all says so, too: other processes may hold other rows.
    assert alone["present"]["image"].all()
    nobody = PreparedSamples(samples, ENCODERS, Loading()).__getitems__([(1, 0), (4, 0)])
    assert nobody["image"]["pixels"].shape == (2, 3, 8, 8) and not nobody["present"]["image"].any()


def test_batches_of_whole_rows_say_nothing():
    samples = emoji(styles=["noto"]).splits["val"]
    assert "present" not in PreparedSamples(samples, ENCODERS, Loading()).__getitems__([(0, 0)])


class Sounds:
    """Two rows, a sound and a text."""

    def __init__(self):
        self.concepts, self.labels = np.arange(2), np.zeros(2, dtype=np.int64)
        self.present = {"audio": np.array([True, False]), "text": np.array([False, True])}

    def __len__(self):
        return 2

    def read(self, row, modality, rng=None):
        assert self.present[modality][row]
        return (np.ones(4000, np.float32), 4000) if modality == "audio" else "words"

    def where(self, row):
        return f"row {row}"


def test_a_missing_sound_is_silence_and_what_encoders_do_not_read_is_nothing():
    encoders = {"audio": tiny_audio(), "text": TinyText()}
    batch = PreparedSamples(Sounds(), encoders, Loading()).__getitems__([(0, 0), (1, 0)])
    assert batch["audio"]["spectrogram"].shape == (2, 8, 48)
    assert batch["audio"]["mask"].sum(1).tolist() == [48, 1]
    with pytest.raises(RequestError, match=r"row 1: it has nothing to read, no audio\."):
        PreparedSamples(Sounds(), {"audio": tiny_audio()}, Loading())


def test_chosen_and_joined_rows_know_what_they_lack():
    some = ChosenSamples(Sounds(), [1])
    assert {name: there.tolist() for name, there in some.present.items()} == {"audio": [False]}
    assert Joined([some]).texts(0) == ["words"]
    both = Joined([some, ChosenSamples(Sounds(), [0])])
    assert {name: there.tolist() for name, there in both.present.items()} == {
        "audio": [False, True],
        "text": [True, False],
    }


def test_test_sets_are_measured_without_a_modality():
    source = measured_without(emoji(styles=["noto"]), ["image", "text"], ["image", "text"])
    names = [f"{split}_without_{name}" for split in ("test", "test_cross_style") for name in ("image", "text")]
    assert [name for name in source.splits if "without" in name] == names
    bare, whole = source.splits["test_without_image"], source.splits["test"]
    assert not bare.present["image"].any() and len(bare) == len(whole)
    assert bare.read(3, "text") == whole.read(3, "text") == bare.texts(3)[0]
    # What was computed of the whole set is found again.
    assert sources_of(bare) == sources_of(whole)


def test_rows_of_nothing_else_are_not_in_it():
    source = DataSource({"train": Sounds(), "val": Sounds()}, ("audio", "text"))
    rest = measured_without(source, ["audio"], source.modalities).splits["val_without_audio"]
    assert len(rest) == 1 and rest.where(0) == "row 1" and rest.read_as is None


@pytest.mark.parametrize(
    ("source", "asked", "message"),
    [
        (DataSource({"val": Sounds()}, ("audio", "text")), "txt", "the data has no 'txt'. Did you mean 'text'?"),
        (DataSource({"val": Sounds()}, ("audio",)), "audio", "without audio there is nothing to read"),
        (
            DataSource({"val": ChosenSamples(Sounds(), [1])}, ("audio", "text")),
            "text",
            "no row of val has anything to read but text",
        ),
        (DataSource({}, ("audio", "text"), tasks={"a": np.arange(2)}), "text", "tasks in sequence"),
    ],
)
def test_what_cannot_be_left_out_is_refused(source, asked, message):
    with pytest.raises(RequestError) as error:
        measured_without(source, [asked], source.modalities)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_what_no_encoder_reads_is_nothing_to_be_measured_by():
    source = DataSource({"val": Sounds()}, ("audio", "image", "text"))
    rest = measured_without(source, ["audio"], ["audio", "text"]).splits["val_without_audio"]
    assert len(rest) == 1 and rest.where(0) == "row 1"


def test_a_run_is_measured_without_what_its_encoders_read():
    silent = ["data=emoji_spoken", "data.styles=[blob]", "encoder=vit", "data.without=[audio]"]
    with pytest.raises(RequestError, match=r"no encoder reads 'audio'\. There is: image, text\."):
        build.data_source(compose([*silent, "~encoder.audio"]))
