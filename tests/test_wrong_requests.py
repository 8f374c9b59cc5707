"""A part of the thousand wrong command lines that `scripts/wrong_requests.py` draws."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from wrong_requests import KINDS, drawn, fault


@pytest.mark.parametrize("wrong", drawn(39, seed=1), ids=lambda wrong: " ".join(wrong[1])[:60])
def test_each_is_answered_in_a_few_lines_that_name_it(wrong, monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setenv("MMEXP_STAMP", os.environ.get("MMEXP_STAMP", "now"))
    assert fault(wrong) is None


def test_what_is_answered_badly_is_found_out():
    assert str(fault(("right", ["list"], "list"))).startswith("status 0")
    assert str(fault(("unnamed", ["trian"], "something else"))).startswith("does not name")
    assert len({kind.__name__ for kind in KINDS}) == 9
