"""A second text or picture is a modality under a name of its own: from the table's column to the metrics' names."""

import json

import pytest
from command_line import mmexp_here
from PIL import Image

from mmexp import build
from mmexp.compose import compose, resolved
from mmexp.data.loading import Loading, PreparedSamples
from mmexp.errors import RequestError
from mmexp.needs import check_needs
from mmexp.shapes import Supervision

TITLE = ("+data.columns.title=title", "+encoder/text@encoder.title=transformer")
BACK = ("+data.columns.back=back", "+encoder/image@encoder.back=cnn")
TABLE = ("data=table", "data.train=table.jsonl", "data.num_workers=0")
DUAL = ("fusion=none", "objective=contrastive")
SMALL = (
    *("encoder=cnn", "encoder.image.image_size=32", "encoder.text.dim=24", "encoder.text.depth=1"),
    *("hardware.threads=1", "budget.steps=2", "data.batch_size=8", "hydra.run.dir=run"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sixteen squares, each with its back in another colour, a caption and a title."""
    here, rows = tmp_path_factory.mktemp("named"), []
    for row in range(16):
        Image.new("RGB", (8, 8), (15 * row, 200, 90)).save(here / f"{row}.png")
        Image.new("RGB", (8, 8), (90, 255 - 15 * row, 9)).save(here / f"back{row}.png")
        rows.append({"image": f"{row}.png", "caption": f"say {row}", "title": f"name {row}", "back": f"back{row}.png"})
    (here / "table.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return here


@pytest.fixture
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MMEXP_CACHE", str(folder / "cache"))


def configuration(*more: str):
    return resolved(compose([*TABLE, *DUAL, *more]))[0]


def test_the_kind_is_the_encoders_and_the_name_the_keys(inside):
    config = configuration(*TITLE, *BACK)
    source = build.data_source(config)
    assert list(source.modalities) == ["image", "text", "back", "title"]
    train = source.splits["train"]
    assert train.read(0, "title") == "name 0" and train.read(0, "text") == "say 0"
    assert train.read(1, "back").getpixel((0, 0)) == (90, 240, 9)
    encoders = build.model(config, list(source.modalities)).encoders
    batch = PreparedSamples(train, encoders, Loading()).__getitems__([(0, -1), (1, -1)])
    assert batch["title"]["ids"].shape[0] == 2 and batch["back"]["pixels"].shape == (2, 3, 64, 64)
    assert batch["back"]["pixels"][1, :, 0, 0].tolist() == [90, 240, 9]


def test_pictures_of_two_names_are_varied_each_by_itself(inside):
    config = configuration(
        BACK[1], "+data.columns.back=image", "augmentation=geometry", "augmentation.geometry.crop=0.2"
    )
    source = build.data_source(config)
    for row in range(16):
        Image.effect_noise((64, 64), 90).convert("RGB").save(f"{row}.png")
    encoders = {name: build.make(config["encoder"]["back"]) for name in ("image", "back")}
    batch = PreparedSamples(source.splits["train"], encoders, Loading(), build.variation(config)).__getitems__([(0, 0)])
    assert not batch["image"]["pixels"].equal(batch["back"]["pixels"])


@pytest.mark.parametrize(
    ("further", "directions"),
    [
        (TITLE, {"title_to_image", "image_to_title", "title_to_text", "text_to_title"}),
        (BACK, {"back_to_image", "image_to_back", "back_to_text", "text_to_back"}),
    ],
    ids=["texts", "pictures"],
)
def test_a_run_of_two_texts_or_two_pictures(folder, further, directions):
    cache = {"MMEXP_CACHE": str(folder / "cache")}
    done = mmexp_here(
        "train", *TABLE, *SMALL, *further, "objective=[contrastive,matching]", "fusion=concat", cwd=folder, **cache
    )
    assert done.returncode == 0, done.stderr
    numbers = json.loads((folder / "run" / "metrics.json").read_text())
    assert {f"val/{way}_r1" for way in directions | {"image_to_text", "text_to_image"}} <= set(numbers)
    facts = json.loads((folder / "run" / "run.json").read_text())
    assert facts["choices"][further[1].removeprefix("+").partition("=")[0]] in ("transformer", "cnn")
    assert not any("audio" in name or "video" in name for name in facts["choices"])
    again = mmexp_here("train", *TABLE, *SMALL, *further, *DUAL, "init_from=run", "train=false", cwd=folder, **cache)
    assert again.returncode == 0 and "fresh" not in again.stdout, again.stdout + again.stderr


def test_the_plan_names_them(folder):
    done = mmexp_here("plan", *TABLE, *SMALL, *TITLE, *DUAL, cwd=folder, MMEXP_CACHE=str(folder / "cache"))
    assert done.returncode == 0 and "encoder title" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (TITLE[:1], r"'data.columns.title' is not a key.* \+encoder/text@encoder.title="),
        (("+data.columns.titel=title", TITLE[1]), "'data.columns.titel' .* Did you mean 'title'"),
        (("+data.columns.title=name", TITLE[1]), r"no column 'name' \(data.columns.title\)"),
    ],
)
def test_a_column_without_an_encoder(inside, more, message):
    with pytest.raises(RequestError, match=message):
        build.data_source(configuration(*more))


def test_a_column_that_is_not_added(inside):
    with pytest.raises(
        RequestError, match=r"no key 'title'.* \+data.columns.title=COLUMN \+encoder/text@encoder.title="
    ):
        configuration("data.columns.title=title")


def test_an_encoder_without_a_column(inside):
    config = configuration(TITLE[1])
    with pytest.raises(RequestError, match=r"encoder.title has nothing to read.* \+data.columns.title=COLUMN"):
        build.model(config, list(build.data_source(config).modalities))


def test_names_that_mean_something_else(inside):
    for name in ("label", "fused", "type"):
        config = configuration(f"+encoder/text@encoder.{name}=transformer")
        with pytest.raises(RequestError, match=f"encoder.{name}: this name has another meaning"):
            build.model(config, ["image", "text", name])
    config = configuration()
    config["encoder"]["image"] = config["encoder"]["text"]
    with pytest.raises(RequestError, match=r"encoder.image is an encoder of text"):
        build.model(config, ["image"])


def test_what_works_on_words_wants_the_modality_named_text(inside):
    config = configuration(*TITLE, "data.columns.text=null", "objective=caption")
    built = build.model(config, ["image", "title"])
    with pytest.raises(RequestError, match=r"wants 'text', .* Give 'title' that name"):
        check_needs(config, built, Supervision())
