"""Which runs of a sweep are finished, which go on, and which are to do."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmexp.errors import RequestError
from mmexp.runs import code
from mmexp.runs.code import code_of
from mmexp.runs.holding import Held, held, hold
from mmexp.runs.parents import digest, fingerprint
from mmexp.runs.state import DIED, clear, state_of
from mmexp.sweeps.book import Entry, entries_of, next_number, refuse_other_kind, write
from mmexp.sweeps.planning import Combination, claimed, plan


def combination(*overrides: str) -> Combination:
    config = dict(override.split("=") for override in overrides)
    return Combination(overrides, fingerprint(config), config)


def entry(number: int, one: Combination) -> Entry:
    return Entry(number, one.overrides, one.fingerprint)


def ran(directory: Path, number: int, one: Combination, checkpoint: bool = False, **facts) -> Entry:
    """Write a run as it would stand there, completed where `facts` say nothing else."""
    place = directory / str(number)
    (place / "checkpoints").mkdir(parents=True)
    run = {"status": "completed", "fingerprint": one.fingerprint, "code": code_of(one.config), "data_fingerprint": "d"}
    (place / "run.json").write_text(json.dumps(run | facts))
    if checkpoint:
        (place / "checkpoints" / "last.ckpt").touch()
    return entry(number, one)


def planned(directory, combinations, known, same_code=True, data="d"):
    return plan(directory, combinations, known, same_code, lambda config: data)


THREE = [combination(f"seed={seed}") for seed in range(3)]


def test_only_what_is_missing_is_to_do(tmp_path):
    known = [
        ran(tmp_path, 0, THREE[0]),
        ran(tmp_path, 1, THREE[1], checkpoint=True, status="running"),
        entry(2, THREE[2]),
    ]
    made = planned(tmp_path, THREE, known)
    assert made.counts == {"finished": 1, "from its checkpoint": 1, "to do": 1}
    assert [run.number for run in made.todo] == [1, 2]
    assert made.asked == [0, 1, 2]
    assert not made.new and not made.renumbered


@pytest.mark.parametrize(
    ("facts", "checkpoint", "state"),
    [
        ({"status": "interrupted"}, True, "from its checkpoint"),
        ({"status": "interrupted"}, False, "to do"),
        ({"status": "failed", "error": DIED}, True, "from its checkpoint"),
        ({"status": "failed", "error": "loss is nan"}, True, "to do"),
    ],
)
def test_a_run_that_was_broken_off_goes_on_and_one_that_failed_starts_afresh(tmp_path, facts, checkpoint, state):
    made = planned(tmp_path, THREE[:1], [ran(tmp_path, 0, THREE[0], checkpoint, **facts)])
    assert made.counts == {state: 1}
    assert [run.number for run in made.todo] == [0]


def test_new_combinations_get_new_numbers_and_the_old_ones_stay(tmp_path):
    known = [ran(tmp_path, number, one) for number, one in enumerate(THREE)]
    made = planned(tmp_path, [THREE[2], combination("seed=7")], known)
    assert made.asked == [2, 3] and made.new == [3]
    assert [one.number for one in made.entries] == [0, 1, 2, 3]


def test_changed_code_and_data_ask_again_under_new_numbers(tmp_path):
    known = [ran(tmp_path, 0, THREE[0], code="older")]
    made = planned(tmp_path, THREE[:1], known)
    assert made.renumbered == {"the code": [1]} and made.asked == [1]
    assert planned(tmp_path, THREE[:1], known, same_code=False).counts == {"finished": 1}
    made = planned(tmp_path, THREE[:1], known, data="other")
    assert made.renumbered == {"the code and the data": [1]}
    # Once that has run, it is the one that counts; and with the older code again, the first.
    known.append(ran(tmp_path, 1, THREE[0]))
    assert planned(tmp_path, THREE[:1], known).asked == [1]


def test_other_weights_behind_the_same_path_are_a_change(tmp_path):
    weights = tmp_path / "base.ckpt"
    weights.write_bytes(b"first")
    parents = [{"path": str(weights), "weights": digest(weights)}, {"path": "open_clip:name", "weights": None}]
    known = [ran(tmp_path, 0, THREE[0], parents=parents)]
    assert planned(tmp_path, THREE[:1], known).counts == {"finished": 1}
    weights.write_bytes(b"second")
    assert planned(tmp_path, THREE[:1], known).renumbered == {"the weights they start from": [1]}


def test_the_same_training_under_two_names_is_two_runs_and_other_words_find_it():
    both = [combination("hardware=a"), combination("hardware=b")]
    known = [entry(number, one) for number, one in enumerate(both)]
    assert claimed(both[::-1], known) == [[known[1]], [known[0]]]
    assert claimed([combination("hardware=c", "seed=0")], [entry(4, combination("seed=0"))])[0][0].number == 4
    # Of what other words find, one run is for one combination.
    assert [len(own) for own in claimed([combination("name=x"), combination("name=y")], known)] == [1, 1]


def test_what_another_process_works_on_is_not_to_do_from_a_checkpoint(tmp_path):
    known = [ran(tmp_path, 0, THREE[0], checkpoint=True, status="running")]
    with hold(tmp_path / "0"):
        assert planned(tmp_path, THREE[:1], known).counts == {"under way in another process": 1}


def test_the_book_comes_back_and_no_number_on_disk_is_taken(tmp_path):
    entries = [entry(number, one) for number, one in enumerate(THREE)]
    write(tmp_path, "mmexp train -m seed=0,1,2", "grid", 3, entries)
    assert entries_of(tmp_path) == entries
    assert next_number(tmp_path, entries) == 3
    (tmp_path / "11").mkdir()
    assert next_number(tmp_path, entries) == 12


HOLDER = "import sys, time; from pathlib import Path; from mmexp.runs.holding import hold\n"
HOLDER += "with hold(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def test_a_directory_is_free_once_its_holder_is_dead(tmp_path):
    assert not held(tmp_path)
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline() == "held\n"
    assert held(tmp_path)
    with pytest.raises(Held), hold(tmp_path, patience=0):
        pass
    holder.kill()
    holder.wait()
    assert not held(tmp_path)
    with hold(tmp_path, patience=0):
        assert held(tmp_path)
        assert held(tmp_path)  # looking does not let go
    assert not held(tmp_path)


def test_a_failed_run_leaves_nothing_to_the_next_attempt(tmp_path):
    ran(tmp_path, 0, THREE[0], checkpoint=True, status="failed", error="loss is nan")
    assert state_of(tmp_path / "0", THREE[0].fingerprint) == "failed"
    assert state_of(tmp_path / "0", THREE[1].fingerprint) == "new"
    clear(tmp_path / "0")
    assert not any((tmp_path / "0").iterdir())


def test_the_code_of_a_users_own_part_counts(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    own = {"fusion": {"_target_": "own_part_of_a_sweep.Fusion"}, "objective": [{"_target_": "mmexp.model.Model"}]}
    (tmp_path / "own_part_of_a_sweep.py").write_text("class Fusion: pass")
    before = code_of(own)
    assert before == code_of(own)
    (tmp_path / "own_part_of_a_sweep.py").write_text("class Fusion: other = 1")
    assert code_of(own) != before
    monkeypatch.setattr(code, "_package", lambda: "another")
    assert code_of({}) != before


def test_data_are_read_once_for_each_that_is_asked(monkeypatch):
    asked = []

    class Source:
        fingerprint = "f"

    from mmexp import build
    from mmexp.sweeps import grid

    monkeypatch.setattr(build, "data_source", lambda config: asked.append(config) or Source())
    monkeypatch.setattr(grid, "_data", {})
    for seed in (0, 1):
        assert grid.data_now({"data": {"a": 1}, "seed": seed, "encoder": {}}) == "f"
    assert len(asked) == 1
    for seed in (0, 1):
        grid.data_now({"data": {"a": 1, "shots": 2}, "seed": seed, "encoder": {}})
        grid.data_now({"data": {"a": 1, "fraction": 0.5}, "seed": seed, "encoder": {}})
    assert len(asked) == 5


def test_a_search_and_a_grid_do_not_share_a_name(tmp_path):
    refuse_other_kind(tmp_path, search=True)
    write(tmp_path, "mmexp train -m seed=0", "grid", 1, [])
    refuse_other_kind(tmp_path, search=False)
    with pytest.raises(RequestError, match="a grid of this name is there, and a search is asked for"):
        refuse_other_kind(tmp_path, search=True)
    (tmp_path / "sweep.json").write_text('{"search": {}}')
    refuse_other_kind(tmp_path, search=True)
    with pytest.raises(RequestError, match="a search of this name is there"):
        refuse_other_kind(tmp_path, search=False)
