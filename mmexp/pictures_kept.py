"""Pictures that are decoded once: in files that all runs, workers and processes share."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from mmexp.caching import fingerprint
from mmexp.caching.settings import CacheSettings
from mmexp.data.chosen import sources_of
from mmexp.data.decoded import Decoded
from mmexp.data.loading import PreparedSamples
from mmexp.errors import RequestError
from mmexp.types import DataSource

# Rows by which what was decoded is told from others: another size or crop.
PROBED = 8


def keep_pictures(settings: CacheSettings, sets: Mapping[str, PreparedSamples], source: DataSource) -> None:
    """Let the pictures of the `sets`, by split, be read from below `cache.directory`, and written there when they are decoded.

    Only of data that lies in files (with a `stamp`). Where there is no room they stay in memory as far as `data.cache_bytes`
    goes, and that is told.
    """
    for split, samples in sets.items():
        for reader in _readers(samples) if hasattr(samples.samples, "stamp") else ():
            rows, shape = reader.items, reader.blank[reader.key].shape
            about = _about(split, samples, reader, source)
            try:
                key = fingerprint.digest(sorted(about.items()))
                reader.held = settings.store.rows(key, about, reader.key, rows, shape)
            except OSError as error:
                print(f"cache: decoded pictures of {split} are not kept in {settings.directory} ({error.strerror})")
            except RequestError:
                needed = rows * shape.numel()
                print(
                    f"cache: decoded pictures of {split} take {needed:.3g} bytes, cache.max_bytes={settings.max_bytes:.3g}"
                )


def _readers(samples: PreparedSamples) -> Iterator[Decoded]:
    readers = [*samples.readers.values(), *(samples.teachers or {}).values()]
    return (one for one in readers if isinstance(one, Decoded) and one.encoder.modality == "image")


def _about(split: str, samples: PreparedSamples, reader: Decoded, source: DataSource) -> dict[str, Any]:
    there = samples.present.get(reader.name)
    own = torch.arange(len(samples)) if there is None else there.nonzero().flatten()
    rows = own[torch.linspace(0, len(own) - 1, min(PROBED, len(own))).long()].tolist()
    held: Any = samples.samples
    return {
        "part": f"decoded {reader.name}",
        "kind": "pictures",
        "data": source.fingerprint,
        "files": held.stamp(),
        "split": getattr(held, "read_as", None) or split,
        "rows": reader.items,
        "size": reader.encoder.image_size,
        "transform": repr(getattr(reader.encoder, "transform", "")),
        "inputs": fingerprint.of_prepared(reader.decode(rows)) if rows else "",
        "reading": fingerprint.of_source([*sources_of(held), reader.encoder]),
        "view": -1,
        "variation": None,
        "code": fingerprint.of_code(),
    }
