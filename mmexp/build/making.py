"""The one place where configuration becomes objects."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from mmexp.errors import RequestError
from mmexp.trust import check_targets

Config = Mapping[str, Any]
ASSETS = Path(__file__).parents[1] / "data" / "assets"


def make(node: Config, *args: Any, without: tuple[str, ...] = (), **kwargs: Any) -> Any:
    """Instantiate one node of the configuration; lists and mappings in it reach the target as plain ones.

    Raises RequestError for a target that may not be named, and the target's own, which Hydra would wrap in words of its own.
    """
    check_targets(node)
    try:
        return instantiate({k: v for k, v in node.items() if k not in without}, *args, _convert_="all", **kwargs)
    except InstantiationException as error:
        raise (error.__cause__ if isinstance(error.__cause__, RequestError) else error) from None


def factory(node: Config, without: tuple[str, ...] = ()) -> Any:
    """Return the node's target with its keys bound, to be called with what is known later."""
    return make(node, without=without, _partial_=True)
