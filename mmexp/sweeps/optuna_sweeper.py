"""Hydra's door to the search. Optuna is loaded when a search begins."""

from collections.abc import Mapping
from typing import Any

from hydra.plugins.sweeper import Sweeper

from mmexp.sweeps.launching import launcher_of
from mmexp.sweeps.search import Settings


class OptunaSweeper(Sweeper):
    """Runs what Optuna asks for. `params` are searched like what stands on the command line, the rest is Settings."""

    hydra_context: Any
    config: Any

    def __init__(self, params: Mapping[str, str] | None = None, **settings: Any):
        self.params, self.settings = dict(params or {}), Settings(**settings)

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Keep what Hydra hands over, and make the launcher."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = launcher_of(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> list[dict[str, Any]]:
        """Run the trials that are missing; return the rows of those that ended. Raises RequestError, Ended."""
        self.settings.check()
        from mmexp.sweeps.searching import search

        words = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        return search(self.settings, words, self.hydra_context.config_loader, self.config, self.launcher)
