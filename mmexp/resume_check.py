"""Whether a run may go on from a checkpoint: what is asked is compared with what the checkpoint was made by."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from mmexp.comparison.choices import flat
from mmexp.continuation import Continuation, under
from mmexp.errors import RequestError, nearest
from mmexp.request import Request
from mmexp.resuming import resumed, steps_before
from mmexp.runs.parents import PASSING
from mmexp.training.made_by import MADE_BY, plain

# What may differ without a word: it changes no number of the training.
FREE = (
    *PASSING,
    *("train", "evaluate", "log_every_steps", "data.num_workers", "data.cache_bytes"),
    *("checkpoint.every_steps", "checkpoint.every_seconds", "checkpoint.keep"),
)
# What a checkpoint cannot go on with: other weights, another order of rows, another meaning of the best checkpoint.
FIXED = ("encoder", "fusion", "adapter", "continual", "data.batch_size", "checkpoint.monitor")


def continuation(request: Request) -> Continuation | None:
    """Return from where a run goes on, None for a fresh start.

    Raises:
        RequestError: there is no whole checkpoint, or it was made with other settings than are asked for and allowed.
    """
    checkpoint = resumed(request)
    if checkpoint is None:
        return None
    step, made_by = steps_before(checkpoint), read_made_by(checkpoint)
    before, named = (
        made_by.get("config"),
        [o.lstrip("+~").partition("=")[0].replace("/", ".") for o in request.overrides],
    )
    differing = differences(before, plain(request.config), named) if before else {}
    _check_allowed(request.config)
    refused = {key: both for key, both in differing.items() if not _may_change(key, request.config)}
    if refused:
        raise RequestError(_refusal(request, checkpoint, step, refused))
    return Continuation(checkpoint, step, made_by, differing)


def read_made_by(checkpoint: Path) -> dict[str, Any]:
    """Return what a checkpoint says of the run that wrote it; of an older one the `config.yaml` beside it."""
    stored = torch.load(checkpoint, weights_only=True, mmap=True).get(MADE_BY)
    if stored:
        return dict(json.loads(stored))
    file = checkpoint.parent.parent / "config.yaml"
    return {"config": plain(OmegaConf.to_container(OmegaConf.load(file)))} if file.is_file() else {}


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], named: Sequence[str] = ()
) -> dict[str, tuple[Any, Any]]:
    """Return the keys in which two configurations differ in more than what is free, with both values.

    Of a part that is another one altogether only `_target_` is named. Keys that `before` lacks are new in this version of the
    code, unless an override names them.

    Args:
        before: the configuration of the run that wrote the checkpoint.
        now: the one that is asked for.
        named: keys of the overrides.
    """
    one, other = flat(before), flat(now)
    found = {
        key: (one.get(key), other.get(key))
        for key in dict.fromkeys([*one, *other])
        if one.get(key) != other.get(key) and not under(key, FREE) and (key in one or under(key, named))
    }
    parts = [key.removesuffix("_target_") for key in found if key.endswith("_target_")]
    return {k: both for k, both in found.items() if k.endswith("_target_") or not k.startswith(tuple(parts))}


def _may_change(key: str, config: Mapping[str, Any]) -> bool:
    if under(key, FIXED) or key.endswith("_target_"):
        return False
    # Of tasks in sequence the length of each depends on the whole.
    return under(key, config["resume_allow"]) or (under(key, ("budget",)) and not config.get("continual"))


def _check_allowed(config: Mapping[str, Any]) -> None:
    keys = flat(config)
    for allowed in config["resume_allow"]:
        if not any(under(key, (allowed,)) for key in keys):
            raise RequestError(f"resume.allow: '{allowed}' is not a key of this run.{nearest(allowed, keys)}")


def _refusal(request: Request, checkpoint: Path, step: int, refused: Mapping[str, tuple[Any, Any]]) -> str:
    shown = [f"  {_named(key, before)}, now {_value(now)}" for key, (before, now) in refused.items()]
    more = [f"  and {len(shown) - 6} more"] if len(shown) > 6 else []
    fixed = [key for key in refused if under(key, FIXED) or key.endswith("_target_")]
    run = checkpoint.parent.parent
    anew = f"Start anew in another hydra.run.dir (init_from={run} takes the weights that fit)"
    keys = ",".join(key for key in refused if key not in fixed)
    way = f", or let this apply from here on: 'resume.allow=[{keys}]'" if not fixed else ""
    cannot = f" {fixed[0].removesuffix('._target_')} cannot change within a run." if fixed else ""
    head = f"resume={request.config['resume']}: {checkpoint} (step {step:,}) was made with other settings:"
    return "\n".join([head, *shown[:6], *more, f"{anew}{way}.{cannot}"])


def _named(key: str, value: Any) -> str:
    return f"{key.removesuffix('._target_')}={_value(value)}"


def _value(value: Any) -> str:
    return "null" if value is None else str(value).rpartition(".")[2] if str(value).startswith("mmexp.") else str(value)
