"""The pictures of many runs on one page."""

import json
from pathlib import Path

from mmexp.comparison.galleries import galleries_of
from mmexp.comparison.types import Run


def run_with(directory: Path, name: str, picture: str) -> Run:
    """Return a run whose 8 queries retrieved 8 pictures; the first is the same in all runs."""
    keys = ["shared", *(f"{name}-{place}" for place in range(1, 8))]
    queries = [{"text": key, "picture": None, "retrieved": [{"text": "", "picture": key}]} for key in keys]
    (directory / name).mkdir()
    gallery = {"retrieval": {"text to image, test": queries}, "pictures": dict.fromkeys(keys, picture)}
    (directory / name / "gallery.json").write_text(json.dumps(gallery))
    return Run(name, directory / name, {}, {}, {})


def test_equal_pictures_stand_once(tmp_path: Path):
    runs = [run_with(tmp_path, name, "data:,small") for name in "ab"]
    told = galleries_of([*runs, Run("without", tmp_path, {}, {}, {}), Run("elsewhere", None, {}, {}, {})])
    assert list(told["galleries"]) == ["a", "b"] and len(told["pictures"]) == 15


def test_of_many_pictures_every_run_keeps_the_same_first_queries(tmp_path: Path):
    told = galleries_of([run_with(tmp_path, name, "x" * 300_000) for name in "abc"])  # 22 pictures, 6.6 MB
    kept = {
        name: [query["text"] for query in blocks["text to image, test"]] for name, blocks in told["galleries"].items()
    }
    assert kept["a"] == ["shared", "a-1", "a-2", "a-3"] and kept["c"] == ["shared", "c-1", "c-2", "c-3"]
    assert set(told["pictures"]) == {key for keys in kept.values() for key in keys}
