"""Runs as W&B knows them, for a comparison of what lies in no directory here."""

from collections.abc import Mapping
from typing import Any

from mmexp.comparison.types import Run
from mmexp.errors import RequestError

PREFIX = "wandb:"


def read_wandb(path: str) -> list[Run]:
    """Return the runs of `wandb:ENTITY/PROJECT`, or of `wandb:PROJECT` in the key's own entity, the oldest first.

    Metrics on `val` are the best of the run, which is what W&B keeps; the others are the final ones. Raises RequestError
    where the name is no project, or W&B cannot be asked.
    """
    project = path.removeprefix(PREFIX).strip("/")
    if not project or project.count("/") > 1:
        raise RequestError(f"'{path}' is no project of W&B. It is named as {PREFIX}ENTITY/PROJECT.")
    found = [run for run in _asked(project) if run.job_type != "comparison"]
    if not found:
        raise RequestError(f"{path}: there are no runs in this project.")
    return [_read(run) for run in found]


def _asked(project: str) -> list[Any]:
    import wandb
    from wandb.errors import AuthenticationError, Error

    try:
        if not wandb.login(prompt=False, verify=False):
            raise RequestError(f"{PREFIX}{project}: W&B wants a key. Set WANDB_API_KEY, or run wandb login.")
        return list(wandb.Api().runs(project, order="+created_at", lazy=False))
    except AuthenticationError as error:
        raise RequestError(
            f"{PREFIX}{project}: W&B cannot be reached, or does not take the key in WANDB_API_KEY. ({error})"
        ) from error
    except (Error, ValueError) as error:
        raise RequestError(f"{PREFIX}{project}: {error}") from error


def _read(run: Any) -> Run:
    """Return one run with what `announce`, `conclude` and `finish` of `mmexp.training.loggers` told W&B, put back."""
    config, summary = dict(run.config), dict(run.summary_metrics)
    facts = {**config.pop("run", {}), "choices": config.pop("choices", {})}
    facts |= {name: value for name, value in summary.items() if _is_fact(name, value)}
    facts.setdefault("status", {"finished": "completed", "running": "running"}.get(run.state, "failed"))
    metrics = {name: number for name, value in summary.items() if (number := _number(name, value)) is not None}
    return Run(f"{run.name} ({run.id})", None, facts, metrics, config)


def _is_fact(name: str, value: Any) -> bool:
    media = isinstance(value, Mapping) and "_type" in value
    return "/" not in name and not name.startswith("_") and not media


def _number(name: str, value: Any) -> float | None:
    """Return a final number, or the best of what was measured in training; None for what is neither."""
    if "/" not in name or name.startswith(("train/", "trainer/")):
        return None
    if isinstance(value, Mapping):
        value = value.get("max", value.get("min"))
    return float(value) if isinstance(value, int | float) else None
