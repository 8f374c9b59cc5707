"""The page that says where each part comes from leaves none out."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GROUPS = ("encoder/image", "encoder/text", "encoder/audio", "encoder/video", "adapter", "optimizer")


@pytest.mark.parametrize("group", GROUPS)
def test_every_choice_has_a_row(group):
    rows = [line for line in (ROOT / "docs" / "parts.md").read_text().splitlines() if line.startswith(f"| `{group}=")]
    told = set(re.findall(r"`(\w+)`", " ".join(row.split("|")[1] for row in rows)))
    told |= set(re.findall(rf"`{group}=(\w+)`", " ".join(rows)))
    assert told == {file.stem for file in (ROOT / "conf" / group).glob("*.yaml")}
