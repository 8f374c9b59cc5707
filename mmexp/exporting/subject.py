"""What is exported: a run's configuration, model and heads."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mmexp.errors import RequestError
from mmexp.exporting.towers import Tower, towers
from mmexp.model import Model
from mmexp.types import Adapter


@dataclass
class Subject:
    """A run as it was restored from `source`; `adapters` are those of its parts, still beside the weights if they are listed."""

    source: str
    config: Mapping[str, Any]
    model: Model
    heads: Mapping[str, Any]
    adapters: Mapping[str, Adapter]

    @cached_property
    def towers(self) -> dict[str, Tower]:
        """The towers with their heads. Raises RequestError where the run has no common space."""
        return towers(self.model, self.heads, self.source)

    @property
    def space(self) -> Any:
        """The objective whose `heads` are linear maps into a common space. Raises RequestError where there is none."""
        found = next((one for one in self.heads.values() if hasattr(one, "heads") and hasattr(one, "embed")), None)
        if found is None:
            raise RequestError(
                f"no objective of '{self.source}' has a common space. Take a run of contrastive or siglip."
            )
        return found
