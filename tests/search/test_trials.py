"""Asking, telling, and going on, alone and with others."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from optuna.trial import TrialState

from mmexp.sweeps.searching import run_all
from mmexp.sweeps.study import open_storage
from search.searches import GRID, LINE, launch, report, take, trials

TESTS = Path(__file__).parents[1]


def states(search) -> list[str]:
    return [trial.state.name for trial in search.study.get_trials()]


def chosen(search) -> list[tuple]:
    return [tuple(trial.params.values()) for trial in search.study.get_trials()]


def run(search, jobs: int = 1) -> None:
    run_all(search, jobs, lambda planned: launch(search, planned), lambda _: None)


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_a_search_runs_as_many_as_asked_and_none_twice(tmp_path, sampler):
    search = trials(tmp_path, sampler=sampler, most=24, in_memory=True)
    run(search, jobs=5)
    assert states(search) == ["COMPLETE"] * 24
    assert len(set(chosen(search))) == GRID.combinations() == 24
    assert search.study.best_params == {"a": "4", "b": "1"}


def test_tpe_finds_what_chance_does_not(tmp_path):
    reached = {}
    for sampler in ("tpe", "random"):
        search = trials(tmp_path / sampler, LINE, sampler=sampler, most=40, in_memory=True)
        run(search)
        reached[sampler] = sum(trial.value > -0.25 for trial in search.study.get_trials())
    assert reached["tpe"] > 2 * reached["random"]


def test_a_value_is_that_of_the_best_validation(tmp_path):
    for direction, best in (("maximize", 3.0), ("minimize", 1.0)):
        (tmp_path / direction).mkdir()
        search = trials(tmp_path / direction, direction=direction)
        take(search)
        for done, value in ((10, 1.0), (50, float("nan")), (60, 3.0), (100, 2.0)):
            report(search, 0, value, done)
        search.tell([{"number": "0", "status": "completed"}])
        assert search.study.best_value == best


def test_ends_are_told_as_they_were(tmp_path):
    search = trials(tmp_path)
    take(search, 5)
    for number in range(3):
        report(search, number, 1.0)
    rows = [
        {"number": "0", "status": "completed"},
        {"number": "1", "status": "completed", "stopped": "pruned at step 4: val/score 1"},
        {"number": "2", "status": "failed", "error": "non-finite loss"},
        {"number": "3", "status": "completed"},
        {"number": "4", "status": "interrupted"},
    ]
    search.tell(rows)
    search.tell(rows)
    assert states(search) == ["COMPLETE", "PRUNED", "FAIL", "FAIL", "RUNNING"]


def test_what_was_broken_off_is_run_again_under_its_number(tmp_path):
    first = trials(tmp_path, most=3)
    planned, claims = take(first, 2)
    nothing, _ = take(first, 1)
    assert nothing[0].number == 2, "what is under way is not taken twice"
    claims.close()
    # The first run had ended, and only its search had not: that is told, and not run again.
    report(first, 0, 0.5)
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "run.json").write_text(json.dumps({"status": "completed"}))
    again, _ = take(trials(tmp_path, most=3), 3)
    assert again == [planned[1]]
    assert states(first)[0] == "COMPLETE"


def test_a_search_that_was_broken_off_goes_on_as_it_would_have(tmp_path):
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole = trials(tmp_path / "whole", LINE, most=9)
    run(whole)
    run(trials(tmp_path / "broken", LINE, most=5))
    rest = trials(tmp_path / "broken", LINE, most=9)
    run(rest)
    assert chosen(rest) == chosen(whole)


def test_one_that_died_while_it_asked_leaves_no_gap(tmp_path):
    search = trials(tmp_path, most=2)
    search.study._storage.create_new_trial(search.study._study_id)
    run(search)
    assert states(search) == ["COMPLETE"] * 2
    assert len(set(chosen(search))) == 2


def test_of_another_machine_nothing_is_taken(tmp_path):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    here, there = (trials(tmp_path, most=2, alone=False, directory=tmp_path / name) for name in ("here", "there"))
    ((one,), _held), ((other,), _other) = take(here), take(there)
    assert {one.number, other.number} == {0, 1}
    _held.close()
    assert take(there)[0] == []
    assert take(here)[0] == [one]


WORKER = """
import sys
from pathlib import Path
from search.searches import launch, trials
from mmexp.sweeps.searching import run_all

search, mine = trials(Path(sys.argv[1]), most=10), []
def noted(planned):
    mine.extend(run.number for run in planned)
    return launch(search, planned)
run_all(search, 1, noted, lambda _: None)
print(*mine)
"""


def test_two_processes_share_a_search(tmp_path):
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    both = [subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    numbers = [int(number) for one in both for number in one.communicate(timeout=120)[0].split()]
    assert sorted(numbers) == list(range(10))
    search = trials(tmp_path)
    assert states(search) == ["COMPLETE"] * 10
    assert len(set(chosen(search))) == 10


def test_a_study_may_be_a_log(tmp_path):
    import optuna

    storage = open_storage(f"journal://{tmp_path / 'log'}")
    study = optuna.create_study(storage=storage, study_name="one")
    study.tell(study.ask().number, 1.0)
    again = optuna.load_study(storage=open_storage(f"journal://{tmp_path / 'log'}"), study_name="one")
    assert [trial.state for trial in again.get_trials()] == [TrialState.COMPLETE]
