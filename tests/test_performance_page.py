"""The page of speed says what was measured, and the ratios are those of the rounds."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
from performance_page import PLACE, page  # noqa: E402
from profile_step import as_table  # noqa: E402

sys.path.insert(0, str(ROOT / "scripts" / "bench"))
from contest import Contest, Goal, Outcome, table  # noqa: E402

TEXT = (ROOT / "docs" / "performance.md").read_text()
MEASURED = ROOT / "docs" / "performance"
PROFILES = ["profile", "profile_fp32"]


def test_the_page_is_what_was_measured():
    assert page(TEXT, MEASURED) == TEXT
    named = {name for _, name, _ in PLACE.findall(TEXT)}
    assert named == {file.stem for file in MEASURED.glob("*.json")} - set(PROFILES)
    assert named <= {file.stem for file in (ROOT / "scripts" / "bench").glob("*.py")}


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_what_was_measured(name):
    told = json.loads((MEASURED / f"{name}.json").read_text())
    assert as_table(told) in TEXT


@pytest.mark.parametrize("less", [False, True])
def test_a_ratio_is_of_the_same_round(less):
    rounds = {"ours": [{"it": 2.0}, {"it": 30.0}, {"it": 4.0}], "peer": [{"it": 1.0}, {"it": 10.0}, {"it": 4.0}]}
    contest = Contest("work", "it", {}, [Goal("ours", "peer", 2.5)], less)
    outcome = Outcome(contest, rounds)
    assert outcome.ratio(contest.goals[0]) == pytest.approx(0.5 if less else 2.0)
    assert len(outcome.missed()) == 1 and bool(outcome.missed(0.5)) == less


def test_a_table_has_medians_and_goals(tmp_path):
    contest = Contest("work", "it", {}, [Goal("ours", "peer", 2.5)])
    outcome = Outcome(contest, {"ours": [{"it": 8.0}, {"it": 6.0}, {"it": 1.0}], "peer": [{"it": 2.0}] * 3})
    outcome.write(tmp_path / "work.json")
    told = json.loads((tmp_path / "work.json").read_text())
    assert "| ours | 6 |" in table(told) and "**3.00** (goal 2.5)" in table(told)
    assert (tmp_path / "work.png").exists()
