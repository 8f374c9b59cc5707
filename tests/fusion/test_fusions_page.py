"""docs/fusions.md tells of every fusion, and its numbers of parameters are those of the files in conf/."""

import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
# The table of what was measured is another.
TOLD = (ROOT / "docs" / "fusions.md").read_text().partition("## On a task that takes both")[0]
ROWS = re.findall(r"^\| `(\w+)` \|.*\| ([\d,]+) \|$", TOLD, re.MULTILINE)


def test_every_fusion_is_told_of():
    assert sorted(name for name, _ in ROWS) == sorted(file.stem for file in (ROOT / "conf" / "fusion").glob("*.yaml"))


@pytest.mark.parametrize(("name", "told"), ROWS)
def test_the_parameters_are_as_told(name, told):
    settings = yaml.safe_load((ROOT / "conf" / "fusion" / f"{name}.yaml").read_text())
    module, _, kind = settings.pop("_target_").rpartition(".")
    fusion = getattr(import_module(module), kind)({"image": 192, "text": 192}, **settings)
    assert f"{sum(parameter.numel() for parameter in fusion.parameters()):,}" == told
