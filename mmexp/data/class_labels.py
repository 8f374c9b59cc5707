"""Class names that data sets of Hugging Face keep beside columns of numbers (`datasets.ClassLabel`)."""

import json
from collections.abc import Mapping, Sequence
from typing import Any


def stored_features(metadata: Mapping[bytes, bytes] | None) -> Mapping[str, Any]:
    """Return the features that the library `datasets` wrote into the metadata of an Arrow schema, by column; maybe none."""
    stored = (metadata or {}).get(b"huggingface")
    return (json.loads(stored).get("info") or {}).get("features") or {} if stored else {}


def named_columns(columns: Mapping[str, Sequence[Any]], features: Mapping[str, Any]) -> dict[str, Sequence[Any]]:
    """Return `columns` with names in place of numbers where a feature is a ClassLabel or a list of such."""
    names = {column: _names(features.get(column)) for column in columns}
    return {name: _Named(own, known) if (known := names[name]) else own for name, own in columns.items()}


def _names(feature: Any) -> list[str] | None:
    if isinstance(feature, list) and feature:  # how the library stored lists before its version 4
        return _names(feature[0])
    if not isinstance(feature, Mapping):
        return None
    return feature.get("names") if feature.get("_type") == "ClassLabel" else _names(feature.get("feature"))


class _Named(Sequence[Any]):
    """A column whose numbers are read as class names; -1 is the library's number for no label."""

    def __init__(self, column: Sequence[Any], names: Sequence[str]):
        self.column, self.names = column, names

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, row: Any) -> Any:
        cell = self.column[row]
        return [self._name(one) for one in cell] if isinstance(cell, list) else self._name(cell)

    def _name(self, cell: Any) -> Any:
        return cell if not isinstance(cell, int) else self.names[cell] if cell >= 0 else None
