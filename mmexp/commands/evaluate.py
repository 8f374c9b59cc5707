"""`mmexp evaluate`: finished runs and others' models measured, on their own data or any other, side by side."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmexp.commands import train
from mmexp.commands.replaying import own_overrides, record_of, runs_and_overrides
from mmexp.compose import compose, flags_first, override, resolved
from mmexp.errors import RequestError, nearest

# What a name begins with that is no run: models of other libraries.
FOREIGN = ("open_clip:", "hf:")
ALSO = (
    "map",
    "groups",
    "linear_probe",
    "few_shot",
    "knn",
    "calibration",
    "missing",
    "contributions",
    "space",
    "corruptions",
)


def main(arguments: Sequence[str]) -> int:
    """Measure each model that is named, with the overrides behind; print one table. Returns the first status that is not 0."""
    flags, words = flags_first(arguments)
    models, settings = runs_and_overrides(words)
    overrides = [word for word in settings if not word.startswith("also=")]
    also = _also([word for word in settings if word.startswith("also=")])
    if not models:
        raise RequestError("mmexp evaluate: name a run directory: mmexp evaluate outputs/runs/NAME [KEY=VALUE ...].")
    records = {name: {} if name.startswith(FOREIGN) else record_of(Path(name)) for name in models}
    stamp = os.environ["MMEXP_STAMP"]
    places = {name: Path("outputs/evaluations") / f"{stamp}-{i}-{_short(name)}" for i, name in enumerate(records)}
    for name, record in records.items():
        if name.startswith(FOREIGN):
            _foreign(name, overrides, flags, places[name])
        else:
            more = [override("init_from", name), override("name", _short(name)), "train=false", "evaluate=true"]
            own = [*own_overrides(record, overrides), *overrides, *more, override("hydra.run.dir", places[name])]
            if status := train.main([*own, *flags]):
                return status
        if also:
            _study(name, overrides, flags, places[name], also)
    if len(models) > 1 or also or any(name.startswith(FOREIGN) for name in models):
        _print(places)
    return 0


def _also(words: Sequence[str]) -> list[str]:
    """Return the studies that were asked for. Raises RequestError for a name that is none."""
    asked = re.findall(r"[\w]+", words[-1].partition("=")[2]) if words else []
    for name in asked:
        if name not in (*ALSO, "all"):
            raise RequestError(f"also={name}: there is no such study.{nearest(name, ALSO)} Or all of them: also=all.")
    return list(ALSO) if "all" in asked else asked


def _short(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name) if name.startswith(FOREIGN) else Path(os.path.abspath(name)).name


def _source(overrides: Sequence[str], flags: Sequence[str]) -> tuple[dict[str, Any], Any]:
    """Return the configuration and the data that overrides ask for."""
    from mmexp import build
    from mmexp.config import check

    folder = next((flags[i + 1] for i, flag in enumerate(flags) if flag in ("--config-dir", "-cd")), None)
    config, choices = resolved(compose(overrides, folder))
    check(config, choices)
    return config, build.data_source(config)


def _foreign(name: str, overrides: Sequence[str], flags: Sequence[str], place: Path) -> None:
    """Measure another library's model on every test set, by its own preparation."""
    from mmexp import build
    from mmexp.judging.said import Judged, gather
    from mmexp.runs.record import write_metrics
    from mmexp.tasks.zero_shot import class_vectors, zero_shot_metrics

    config, source = _source(overrides, flags)
    model, heads = build.foreign(name, source.modalities)
    judged = Judged(name, model, heads)
    metrics: dict[str, float] = {}
    for split in _tests(source):
        gathered = gather(judged, source.splits[split])
        numbers = gathered.metrics()
        if config["prompts"] and source.classes:
            texts = build.make(config["prompts"]).texts(source.classes)
            vectors = class_vectors(model, judged.first_with("embed").embed, texts)
            numbers |= zero_shot_metrics(gathered.below("vector/"), vectors, gathered.stacked()["label"])
        metrics |= {f"{split}/{measure}": value for measure, value in numbers.items()}
    place.mkdir(parents=True, exist_ok=True)
    write_metrics(place, metrics)


def _study(name: str, overrides: Sequence[str], flags: Sequence[str], place: Path, also: Sequence[str]) -> None:
    """Add the numbers of further studies to what was measured on `test`."""
    from mmexp import build
    from mmexp.judging.said import Judged
    from mmexp.judging.studies import STUDIES
    from mmexp.runs.record import write_metrics

    own = [] if name.startswith(FOREIGN) else own_overrides(record_of(Path(name)), overrides)
    # Labels are numbered as by the heads of the run.
    more = [] if name.startswith(FOREIGN) else [f"init_from={name}", "train=false"]
    _, source = _source([*own, *overrides, *more], flags)
    model, heads = build.foreign(name, source.modalities)
    judged = Judged(name, model.of(source.modalities), heads)
    metrics = json.loads((place / "metrics.json").read_text())
    for study in also:
        for split in _tests(source)[:1]:
            found = STUDIES[study](judged, source, split)
            metrics |= {f"{split}/{study}/{measure}": value for measure, value in found.items()}
            if not found:
                print(f"also={study}: nothing of {name} can be told so (no labels, or no such head)")
    write_metrics(place, metrics)


def _tests(source: Any) -> list[str]:
    return [split for split in source.splits if split.startswith("test")] or ["val"]


def _print(places: dict[str, Path]) -> None:
    from rich.console import Console
    from rich.table import Table

    from mmexp.runs.table import in_words, shown

    found = {name: json.loads((place / "metrics.json").read_text()) for name, place in places.items()}
    names = [name for name in dict.fromkeys(name for metrics in found.values() for name in metrics) if _telling(name)]
    table = Table("split", "measure", *found, box=None, padding=(0, 2, 0, 0))
    for name in names:
        split, _, metric = name.rpartition("/")
        table.add_row(split, in_words(metric), *(shown(metric, metrics.get(name)) for metrics in found.values()))
    Console(markup=False).print(table)


def _telling(name: str) -> bool:
    return not name.endswith(("_chance", "candidates")) and "loss" not in name
