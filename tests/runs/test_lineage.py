"""Which runs came from which, from records made by hand: directories that moved, two parents, parents that are gone."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mmexp.errors import RequestError
from mmexp.runs.chain_table import chain_table
from mmexp.runs.lineage import changes, family
from mmexp.runs.lineage_tree import as_json, family_tree
from mmexp.runs.parents import fingerprint, parent

R10 = "test/text_to_image_r10"


def run(
    directory: Path, r10: float, *parents: dict[str, Any], data: str = "d", weights: bytes = b"", **metrics
) -> Path:
    """Write a run's records as training leaves them; its configuration is as its name."""
    (directory / "checkpoints").mkdir(parents=True)
    (directory / "checkpoints" / "best.ckpt").write_bytes(weights or directory.name.encode())
    facts = {
        "status": "completed",
        "choices": {"task": "pretrain", "adapter": "full"},
        "parameters": {"total": 1000, "trainable": 1000},
        "fingerprint": fingerprint({"seed": directory.name}),
        "data_fingerprint": data,
        "parents": list(parents),
    }
    (directory / "run.json").write_text(json.dumps(facts))
    (directory / "metrics.json").write_text(json.dumps({R10: r10, "test/loss": 2.0, **metrics}))
    return directory


def drawn(path: Path) -> str:
    out = io.StringIO()
    Console(width=200, file=out).print(family_tree(family([path])))
    return out.getvalue()


def linked(path: Path) -> dict[str, list[str | None]]:
    return {
        Path(told["path"]).name: [one["found"] and Path(one["found"]).name for one in told["parents"]]
        for told in as_json(family([path]))
    }


def test_a_fingerprint_is_of_what_is_trained_not_of_where():
    one = {"seed": 0, "name": "a", "hardware": {"devices": 1}, "resume": None, "optimizer": {"lr": 0.1}}
    assert fingerprint(one) == fingerprint(one | {"name": "b", "resume": "auto", "hardware": {}})
    assert fingerprint(one) != fingerprint(one | {"optimizer": {"lr": 0.2}})


def test_each_run_hangs_below_its_parent_with_what_changed(tmp_path):
    teacher = run(tmp_path / "teacher", 0.5)
    student = run(tmp_path / "student", 0.4, parent("teacher", str(teacher)))
    run(tmp_path / "tuned", 0.45, parent("init_from", str(student)))
    lines = [line for line in drawn(tmp_path).splitlines() if "/" in line and "pretrain" in line]
    assert [line.split("/")[-1].split()[0] for line in lines] == ["teacher", "student", "tuned"]
    assert [line.index(str(tmp_path)) for line in lines] == [4, 8, 12]
    text = drawn(tmp_path)
    assert "text → image R@10 40.0\N{NO-BREAK SPACE}% (−10.0)" in text and "45.0\N{NO-BREAK SPACE}% (+5.0)" in text
    assert "loss" not in text


def test_of_two_parents_the_first_is_above_and_both_are_told(tmp_path):
    teacher, base = run(tmp_path / "teacher", 0.5), run(tmp_path / "base", 0.3)
    run(tmp_path / "both", 0.4, parent("init_from", str(base)), parent("teacher", str(teacher)))
    assert linked(tmp_path)["both"] == ["base", "teacher"]
    text = drawn(tmp_path)
    assert text.count("both  pretrain") == 1
    assert f"weights of {base}" in text and f"teacher {teacher}" in text
    assert "(+10.0)" in text


def test_a_moved_parent_is_found_by_fingerprint_and_weights(tmp_path):
    first = run(tmp_path / "old" / "x", 0.5, weights=b"one")
    run(tmp_path / "old" / "y", 0.5, parent("teacher", str(first)))
    run(tmp_path / "new" / "x", 0.5, weights=b"another seed of the machine")  # the same request, other weights
    (tmp_path / "old").rename(tmp_path / "moved")
    (child,) = [run for run in family([tmp_path]) if run.directory.name == "y"]
    assert child.origins[0].run.directory == tmp_path / "moved" / "x"
    (tmp_path / "moved" / "x" / "checkpoints" / "best.ckpt").write_bytes(b"trained on")
    assert linked(tmp_path)["y"] == [None]
    assert f"{first}  not found here (weights {child.origins[0].weights})" in drawn(tmp_path)


def test_a_checkpoint_as_parent_is_its_run(tmp_path):
    first = run(tmp_path / "first", 0.5)
    run(tmp_path / "second", 0.5, parent("init_from", str(first / "checkpoints" / "best.ckpt")))
    assert linked(tmp_path)["second"] == ["first"]
    first.rename(tmp_path / "moved")
    assert linked(tmp_path)["second"] == ["moved"]


def test_a_parent_that_was_trained_anew_in_its_place_is_no_parent_and_makes_no_cycle(tmp_path):
    a = run(tmp_path / "a", 0.5)
    b = run(tmp_path / "b", 0.5, parent("init_from", str(a)))
    # a is trained anew, from its own child: another request, so another fingerprint.
    facts = json.loads((a / "run.json").read_text())
    facts |= {"fingerprint": fingerprint({"init_from": "b"}), "parents": [parent("init_from", str(b))]}
    (a / "run.json").write_text(json.dumps(facts))
    assert linked(tmp_path) == {"a": ["b"], "b": [None]}
    assert drawn(tmp_path).count("pretrain, full") == 2


def test_two_runs_trained_anew_from_each_other_make_no_cycle(tmp_path):
    a = run(tmp_path / "a", 0.5, weights=b"a0")
    b = run(tmp_path / "b", 0.5, parent("init_from", str(a)), weights=b"b0")
    told = {place: json.loads((place / "run.json").read_text()) for place in (a, b)}
    # Now a from b, then b from a, each in its old place with the same request as then.
    for place, other in ((a, b), (b, a)):
        (place / "run.json").write_text(json.dumps(told[place] | {"parents": [parent("init_from", str(other))]}))
        (place / "checkpoints" / "best.ckpt").write_bytes(place.name.encode() + b"1")
    assert linked(tmp_path) == {"a": [None], "b": ["a"]}
    assert "b  not below" in drawn(tmp_path)
    for place in (a, b):
        (place / "checkpoints" / "best.ckpt").unlink()
    assert linked(tmp_path) == {"a": ["b"], "b": [None]}
    assert drawn(tmp_path).count("pretrain, full") == 2


def test_on_other_data_the_change_is_from_the_loaded_weights(tmp_path):
    base = run(tmp_path / "base", 0.5)
    run(tmp_path / "tuned", 0.4, parent("init_from", str(base)), data="other", **{f"start/{R10}": 0.1})
    run(tmp_path / "taught", 0.4, parent("teacher", str(base)), data="other")
    found = {run.directory.name: changes(run, [R10]) for run in family([tmp_path])}
    assert found == {"base": {}, "tuned": {R10: pytest.approx(0.3)}, "taught": {}}


def test_records_of_bare_paths_and_unfinished_runs_are_drawn(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "run.json").write_text(json.dumps({"status": "failed", "parents": ["gone/y"]}))
    text = drawn(tmp_path)
    assert "gone/y  not found here" in text and "failed" in text


def test_a_wrong_path_is_told(tmp_path):
    (tmp_path / "outputs").mkdir()
    with pytest.raises(RequestError, match=r"output': no such directory\. Did you mean 'outputs'\?"):
        family([tmp_path / "output"])
    with pytest.raises(RequestError, match="holds no run"):
        family([tmp_path / "outputs"])


def test_the_table_of_a_chain_tells_quality_and_cost(tmp_path):
    def stage(name: str, r10: float, **more: float) -> dict[str, Any]:
        return {
            "stage": name,
            "metrics": {R10: r10, "test_cross_style/text_to_image_r10": 0.75, "test/loss": 3.0, **more},
            "parameters": {"total": 5_000_000, "trainable": 40_000},
            "latency_ms": {"image": {"p50": 1.25, "p95": 2.5}},
            "rows_per_second": 1234.5,
            "megabytes": 3.456,
            "wall_seconds": 61.2,
        }

    out = io.StringIO()
    Console(width=100, file=out).print(chain_table([stage("a", 0.5), stage("b", 0.25, **{f"start/{R10}": 0.125})]))
    text = out.getvalue()
    for part in ("50.0", "was 12.5", "75.0", "5,000,000", "40,000", "1.25 / 2.50", "1,234", "3.46", "61"):
        assert part in text, part
    assert "loss" not in text
