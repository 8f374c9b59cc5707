"""`mmexp evaluate`: the numbers of a run again, on its own data the same, on others others; several side by side."""

import json
import shlex
import shutil
from pathlib import Path

import pytest

from mmexp.commands.replaying import own_overrides

HERE = Path(__file__).parent
OWN = ("--config-dir", str(HERE / "outside" / "conf"), "trust=[outside,stand_ins]")
TINY = (*OWN, "encoder=tiny", "data=squares")
RUN = (
    *TINY,
    "fusion=none",
    "objective=contrastive",
    "hardware.threads=1",
    "hardware.precision=32-true",
    "budget.steps=4",
)


def metrics(place: str) -> dict[str, float]:
    return json.loads((Path(place) / "metrics.json").read_text())


def test_a_run_has_its_own_numbers_again(mmexp):
    for name, seed in (("first", 0), ("second", 1)):
        assert mmexp("train", *RUN, f"seed={seed}", f"hydra.run.dir={name}")[0] == 0
    status, out, _ = mmexp("evaluate", "first", "second", *OWN)
    assert status == 0
    for i, name in enumerate(("first", "second")):
        again, own = metrics(f"outputs/evaluations/now-{i}-{name}"), metrics(name)
        shared = {key for key in own if key.startswith("test/")}
        assert shared and all(again[key] == pytest.approx(own[key], abs=1e-5) for key in shared)
    assert "text → image R@1" in out and "second" in out
    record = json.loads(Path("outputs/evaluations/now-0-first/run.json").read_text())
    assert record["parents"][0]["role"] == "init_from"


def test_a_path_argument_is_a_path_whatever_its_name(mmexp):
    assert mmexp("train", *RUN, "hydra.run.dir=o/1e-3", "name='a b'")[0] == 0
    odd = "o/lr=0.1[/red]"
    shutil.copytree("o/1e-3", odd)
    status, out, error = mmexp("evaluate", "o/1e-3", odd, *OWN)
    assert status == 0, error
    assert odd in out
    own, again = metrics("o/1e-3"), metrics("outputs/evaluations/now-1-red]")
    assert again["test/loss"] == pytest.approx(own["test/loss"], abs=1e-5)
    command = json.loads(Path("o/1e-3/run.json").read_text())["command"]
    assert shlex.split(command)[-1] == "name='a b'"


def test_on_other_data_and_a_wrong_request(mmexp):
    assert mmexp("train", *RUN, "hydra.run.dir=first")[0] == 0
    assert mmexp("evaluate", "first", *OWN, "data.without=[text]", "data.batch_size=3")[0] == 2
    status, _, error = mmexp("evaluate", "nowhere")
    assert status == 2 and "'nowhere' is not a run directory" in error
    assert mmexp("evaluate")[0] == 2
    status, _, error = mmexp("evaluate", "first", *OWN, "dtaa=emoji")
    assert status == 2 and "dtaa" in error


def test_how_tables_are_read_stays_where_other_tables_are_measured():
    read = ["data.columns.text=null", "data.columns.label=kind", "data.batch_size=32"]
    record = {"overrides": ["data=table", "data.train=a.csv", "data.val=b.csv", *read, "encoder=cnn", "budget.steps=4"]}
    others = ["data=table", "data.train=c.csv", "data.test=d.csv"]
    assert own_overrides(record, others) == [*read, "encoder=cnn"]
    assert own_overrides(record, [*others, "data.batch_size=8"]) == [*read[:2], "encoder=cnn"]
    assert own_overrides(record, ["data=emoji"]) == ["data.batch_size=32", "encoder=cnn"]
    assert own_overrides(record, []) == [one for one in record["overrides"] if one != "budget.steps=4"]
