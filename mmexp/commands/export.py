"""`mmexp export`: a run's model in a form that others load, tried before it is said to be there."""

import importlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmexp.errors import RequestError, nearest

FORMATS = {
    "open_clip": "open_clip_folder",
    "hf": "hf_folders",
    "peft": "peft_folders",
    "onnx": "onnx_graphs",
    "torch": "torch_programs",
}
USAGE = "mmexp export RUN --format FORMAT --out FOLDER"


def main(arguments: Sequence[str]) -> int:
    """Write the model of a run below a new folder, load it as others would, and compare what both say."""
    run, options = _asked(list(arguments))
    form, out = options["--format"], Path(options["--out"])
    if form not in FORMATS:
        raise RequestError(f"--format {form}: this is not a format.{nearest(form, FORMATS)}")
    if out.exists():
        raise RequestError(f"--out {out}: it is there already. Name another folder, or remove it.")
    if not (run / "run.json").is_file():
        raise RequestError(f"'{run}' is not a run directory: it has no run.json.")
    subject = _subject(run, merged=form != "peft")
    form_of: Any = importlib.import_module(f"mmexp.exporting.{FORMATS[form]}")
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        form_of.write(subject, beside)
        off = form_of.difference(subject, beside)
        if off > form_of.TOLERANCE:
            raise RequestError(
                f"--format {form}: what was written says other vectors than the run, by {off:.1e}; nothing is kept."
            )
        more = form_of.about(subject) if hasattr(form_of, "about") else []
        (beside / "README.md").write_text(card(run, json.loads((run / "run.json").read_text()), form, more))
        beside.chmod(0o755)
        beside.rename(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    print(f"{out}: {form}, vectors as the run's to {off:.1e} (at most {form_of.TOLERANCE:.0e})")
    if how := (subject.config.get("compression") or {}).get("quantize"):
        print(
            f"compression.quantize={how}: written with the weights as they were rounded, to be computed with in fp32; the run's "
            f"own integer arithmetic gives vectors that differ by up to {_integer_difference(run, subject):.1e}"
        )
    return 0


def _subject(run: Path, merged: bool) -> Any:
    from mmexp import build
    from mmexp.exporting.subject import Subject

    config = build.run_config(run)
    # No other library computes with PyTorch's packed integers: what is written are the numbers that they stand for.
    model, heads = build.restore(run, merged, computing=False)
    return Subject(str(run), config, model, heads, build.adapters_of(config, model))


def _integer_difference(run: Path, subject: Any) -> float:
    """Return how far the vectors of a quantized run, as it computes, are from those of its weights in fp32."""
    import torch

    from mmexp import build
    from mmexp.exporting.towers import farthest, prepared_rows, towers

    with torch.no_grad():
        off = []
        for name, tower in towers(*build.restore(run), str(run)).items():
            rows = list(prepared_rows(tower).values())
            off.append(farthest(subject.towers[name], {len(rows[0]): tower(*rows)}))
    return max(off)


def _asked(arguments: list[str]) -> tuple[Path, dict[str, str]]:
    """Return the run, and the options."""
    options: dict[str, str] = {}
    for name in ("--format", "--out"):
        if name not in arguments or arguments.index(name) + 1 == len(arguments):
            raise RequestError(f"{name} is missing: {USAGE}. Formats: {', '.join(FORMATS)}.")
        place = arguments.index(name)
        options[name] = arguments[place + 1]
        del arguments[place : place + 2]
    words = [word for word in arguments if not word.startswith("trust=")]
    if len(words) != 1 or words[0].startswith("-"):
        raise RequestError(f"name one run: {USAGE}.")
    return Path(words[0]), options


def card(run: Path, record: Mapping[str, Any], form: str, more: Sequence[str] = ()) -> str:
    """Return the model card: what it is, `more` lines of its form, what it learned from, and what was measured."""
    file = run / "metrics.json"
    metrics = json.loads(file.read_text()) if file.is_file() else {}
    told = {name: value for name, value in metrics.items() if not name.endswith(("_chance", "candidates"))}
    parents = [f"- {one['role']}: {Path(one['path']).name} ({one['weights']})" for one in record.get("parents") or []]
    lines = [
        *(f"# {record.get('name') or run.name}", "", f"Written by mmexp in the form of {form}.", "", *more),
        *("## What it learned from", "", f"`{record['command']}`", "", f"Data: {record.get('data_fingerprint')}.", ""),
        *(["## Parents", "", *parents, ""] if parents else []),
        *("## What was measured", "", "| measure | value |", "|---|---|"),
        *(f"| {name} | {value:.4g} |" for name, value in sorted(told.items())),
    ]
    return "\n".join(lines) + "\n"
