"""What `run.json` says of how a run was made, in words."""

from typing import Any


def facts_of(run: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what there is to know of how the run was made, as words and value."""
    parameters, git = run.get("parameters") or {}, run.get("git") or {}
    total, trainable = parameters.get("total"), parameters.get("trainable")
    facts = {
        "command": run.get("command"),
        "seed": run.get("seed"),
        "parameters": total and f"{total:,}" + (f", {trainable:,} trained" if trainable is not None else ""),
        "steps": _grouped(run.get("steps")),
        "samples seen": _grouped(run.get("samples_seen")),
        "speed": _grouped(run.get("samples_per_second"), " samples a second"),
        "training time": _duration(run.get("train_seconds")),
        "training FLOPs": run.get("train_flops") and f"{run['train_flops']:.3g}",
        "time in all": _duration(run.get("wall_seconds")),
        "peak memory": _memory(run.get("peak_memory_bytes")),
        "hardware": run.get("hardware"),
        "code": git and f"{git.get('commit', '')[:12]}" + (" with uncommitted changes" if git.get("dirty") else ""),
        "versions": run.get("versions"),
        "fingerprint": run.get("fingerprint"),
        "data": run.get("data_fingerprint"),
    }
    return [(name, _plain(value)) for name, value in facts.items() if value not in (None, "", [], {})]


def _plain(value: Any) -> str:
    """Return a value out of JSON as a person would write it."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items() if one not in (None, [], {}))
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)


def _grouped(value: float | None, unit: str = "") -> str | None:
    return None if value is None else f"{value:,.0f}{unit}" if value >= 10 else f"{value:.3g}{unit}"


def _duration(seconds: float | None) -> str | None:
    if seconds is None or seconds < 120:
        return None if seconds is None else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _memory(count: float | None) -> str | None:
    return None if count is None else f"{count / 2**30:.2f} GiB"
