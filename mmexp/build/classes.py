"""Class names of finished runs: which objectives have a head for classes, and where a run keeps their names."""

import json
from collections.abc import Mapping
from pathlib import Path
from pydoc import locate

from mmexp.build.making import Config
from mmexp.data.class_names import with_classes
from mmexp.types import DataSource

FILE = "classes.json"
_METHODS = ("classify", "mark")


def class_heads(config: Config) -> list[str]:
    """Return the names of the objectives whose heads tell classes apart."""
    nodes: Mapping[str, Config] = config["objective"]
    return [name for name, node in nodes.items() if any(hasattr(locate(node["_target_"]), own) for own in _METHODS)]


def classes_of(run: Path) -> list[str] | None:
    """Return the class names of a run directory, or of the run whose checkpoint this is; None where it has none."""
    file = (run if run.is_dir() else run.parent.parent) / FILE
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def with_run_classes(config: Config, source: DataSource) -> DataSource:
    """Return `source` with labels numbered as by the heads of `init_from`, matched by name.

    A run that trains goes on with those heads only where they know all classes of the data; otherwise its heads start fresh.
    """
    start = config.get("init_from")
    known = classes_of(Path(start)) if start and class_heads(config) else None
    if not known or not source.classes or (config["train"] and not set(source.classes) <= set(known)):
        return source
    return with_classes(source, known, str(start))
