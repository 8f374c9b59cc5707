"""What of frozen outputs is kept, and where."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from mmexp.caching.store import Store
from mmexp.types import PositiveFloat


@dataclass(frozen=True)
class CacheSettings:
    """Outputs of frozen parts are kept below `directory` as `dtype`, `max_bytes` in all."""

    enabled: bool = True
    directory: str = "outputs/cache"
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    max_bytes: PositiveFloat = 20e9

    @property
    def store(self) -> Store:
        """Return the folder of artefacts."""
        return Store(Path(self.directory).expanduser().absolute(), self.max_bytes)

    @property
    def torch_dtype(self) -> torch.dtype:
        """Return the type of the numbers on disk."""
        return getattr(torch, self.dtype)
