"""`mmexp compress`: a run made smaller step by step, each a run of its own, and one table of what each step costs and saves."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmexp.commands import train
from mmexp.commands.replaying import own_overrides, record_of, runs_and_overrides
from mmexp.compose import flags_first, override
from mmexp.errors import RequestError, nearest

USAGE = (
    "mmexp compress RUN [prune=0.5] [low_rank=0.5] [zeros=0.5] [rounds=1] [recover=STEPS] [quantize=int8] [against=RUN]"
)
SHARES, HOW = ("prune", "low_rank", "zeros"), ("int8", "int8_static", "int8_mixed", "int8_weights", "int4_weights")
WORDS = (*SHARES, "rounds", "recover", "quantize", "sensitive", "against", "out")


@dataclass
class Plan:
    """What was asked for: `shares` of steps in their order, in so many `rounds`, each with `recover` steps of training behind."""

    run: Path
    out: Path
    shares: dict[str, float] = field(default_factory=dict)
    rounds: int = 1
    recover: int = 0
    quantize: str | None = None
    sensitive: float = 0.1
    against: Path | None = None
    overrides: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)


def main(arguments: Sequence[str]) -> int:
    """Make the stages, measure each, and print the table. Returns the first status that is not 0."""
    plan = _plan(arguments)
    stages = [plan.against, plan.run] if plan.against else [plan.run]
    for place in stages:
        record_of(place)
    made = plan.run
    for number in range(plan.rounds):
        for step, share in plan.shares.items():
            # Shares are of what is left, and come to what was asked for: gradual pruning (arXiv:1506.02626).
            made = _made(plan, made, step, round(1 - (1 - share) ** (1 / plan.rounds), 6), f"{step}-{number + 1}")
            stages.append(made)
        if plan.shares and plan.recover:
            made = plan.out / f"recover-{number + 1}"
            if status := _recover(plan, stages[-1], made):
                return status
            stages.append(made)
    if plan.quantize:
        stages.append(_made(plan, made, "quantize", plan.quantize, plan.quantize))
    rows = []
    for place in stages:
        status, row = _measured(plan, place)
        if status:
            return status
        rows.append(row)
    (plan.out / "compression.json").write_text(json.dumps(rows, indent=2) + "\n")
    _print(rows)
    print(f"the last of these: {stages[-1]}; the table: {plan.out / 'compression.json'}")
    return 0


def _plan(arguments: Sequence[str]) -> Plan:
    flags, words = flags_first(arguments)
    runs, settings = runs_and_overrides(words)
    if len(runs) != 1:
        raise RequestError(f"mmexp compress: name one run: {USAGE}.")
    told = dict(word.split("=", 1) for word in settings if word.partition("=")[0] in WORDS)
    overrides = [word for word in settings if word.partition("=")[0] not in WORDS]
    out = Path(told.get("out", f"outputs/compressed/{os.environ['MMEXP_STAMP']}-{Path(runs[0]).name}"))
    if (out / "compression.json").exists():
        raise RequestError(f"out={out}: it is there already. Name another folder, or remove it.")
    plan = Plan(Path(runs[0]), out, overrides=overrides, flags=flags)
    plan.shares = {step: _share(step, told[step]) for step in SHARES if step in told}
    plan.rounds, plan.recover = (
        _count(name, told.get(name, start)) for name, start in (("rounds", "1"), ("recover", "0"))
    )
    plan.quantize = told.get("quantize")
    if plan.quantize and plan.quantize not in HOW:
        raise RequestError(f"quantize={plan.quantize}: it is {', '.join(HOW)}.{nearest(plan.quantize, HOW)}")
    if "sensitive" in told:
        if plan.quantize != "int8_mixed":
            raise RequestError(f"sensitive={told['sensitive']}: it goes with quantize=int8_mixed.")
        plan.sensitive = _share("sensitive", told["sensitive"])
    if not plan.shares and not plan.quantize:
        raise RequestError(f"mmexp compress: nothing was asked for. {USAGE}")
    plan.against = Path(told["against"]) if "against" in told else None
    return plan


def _share(step: str, value: str) -> float:
    try:
        share = float(value)
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise RequestError(f"{step}={value}: it is a share between 0 and 1.")
    return share


def _count(name: str, value: str) -> int:
    if not value.isdigit() or (name == "rounds" and value == "0"):
        raise RequestError(f"{name}={value}: it is a number of {'steps' if name == 'recover' else 'times'}.")
    return int(value)


def _made(plan: Plan, parent: Path, step: str, amount: Any, name: str) -> Path:
    """Write the next stage."""
    from mmexp.compressing import compress

    directory, record = plan.out / name, record_of(parent)
    own = own_overrides(record, ())
    if step == "quantize":
        # Integers are multiplied with fp32 alone, and what is kept of frozen parts is told by their weights.
        own += ["compression.quantize=" + amount, "hardware.precision=32-true", "cache.enabled=false"]
    else:
        own += ["compression.zeros=kept"] if step == "zeros" else ["compression.shapes=loaded"]
    # Adapters are folded in, and a recipe would bring its own again.
    own = [*(one for one in dict.fromkeys(own) if not one.lstrip("+").startswith("adapter")), "adapter=full"]
    facts = {key: value for key, value in record.items() if key in ("choices", "seed", "data_fingerprint", "code")}
    facts |= {"command": f"mmexp compress {parent} {step}={amount}", "overrides": own, "sweep": None, "name": name}
    compress(parent, directory, facts, step, amount, plan.sensitive)
    return directory


def _recover(plan: Plan, start: Path, directory: Path) -> int:
    """Train what is left."""
    own = own_overrides(record_of(start), plan.overrides)
    budget = [f"budget.steps={plan.recover}", "evaluate=false", override("name", directory.name)]
    return train.main(
        [
            *own,
            *budget,
            *plan.overrides,
            override("init_from", start),
            override("hydra.run.dir", directory),
            *plan.flags,
        ]
    )


def _measured(plan: Plan, run: Path) -> tuple[int, dict[str, Any]]:
    """Measure a stage on the test sets, and what it costs where it is used."""
    from mmexp.inference import inference_facts

    place = plan.out / "measured" / run.name
    own = own_overrides(record_of(run), ())
    data = [one for one in plan.overrides if one.startswith("data")]
    more = [
        "train=false",
        "evaluate=true",
        override("init_from", run),
        override("hydra.run.dir", place),
        override("name", run.name),
    ]
    if status := train.main([*own, *data, *more, *plan.flags]):
        return status, {}
    metrics = json.loads((place / "metrics.json").read_text())
    if not (run / "metrics.json").exists():
        (run / "metrics.json").write_text((place / "metrics.json").read_text())
    name = next((one for one in ("test/mean_reciprocal_rank", "test/accuracy") if one in metrics), "test/loss")
    return 0, {"stage": run.name, "measure": name, "quality": metrics[name], **inference_facts(run)}


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    first = rows[0]
    towers = list(first["latency_ms"])
    table = Table("stage", f"{first['measure']}", "kept", "MB", "smaller", "M weights", box=None, padding=(0, 2, 0, 0))
    for tower in towers:
        table.add_column(f"{tower} ms p50 / p95")
    table.add_column("rows/s")
    for row in rows:
        latency = (row["latency_ms"].get(tower) or {"p50": 0, "p95": 0} for tower in towers)
        table.add_row(
            row["stage"],
            f"{row['quality']:.4f}",
            f"{row['quality'] / first['quality']:.1%}",
            f"{row['megabytes']:.2f}",
            f"{first['megabytes'] / row['megabytes']:.1f}×",
            f"{row['weights'] / 1e6:.2f}",
            *(f"{one['p50']:.2f} / {one['p95']:.2f}" for one in latency),
            f"{row['rows_per_second']:,.0f}",
        )
    console = Console(markup=False)
    # Numbers are for reading side by side: on a narrow screen a line goes on in the next.
    console = console if console.width > 110 else Console(width=110, markup=False)
    console.print(table, soft_wrap=True)
