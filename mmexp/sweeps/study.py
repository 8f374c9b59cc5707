"""Optuna's study of a search: where it is kept, and when a run of it ends early."""

import logging

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalStorage

from mmexp.sweeps.search import WHOLE, Search


def open_study(search: Search) -> optuna.Study:
    """Return the study, made where there is none yet."""
    optuna.logging.set_verbosity(logging.WARNING)
    return optuna.create_study(
        storage=open_storage(search.storage),
        pruner=make_pruner(search),
        study_name=search.name,
        direction=search.direction,
        load_if_exists=True,
    )


def open_storage(url: str) -> BaseStorage:
    """Return what is behind any URL of Optuna's, or `journal:///path`: a log that network file systems can share."""
    if url.startswith("journal://"):
        return JournalStorage(JournalFileBackend(url.removeprefix("journal://")))
    # Processes that share a file wait for each other, and longer than SQLite's own five seconds.
    waits = {"connect_args": {"timeout": 120}} if url.startswith("sqlite") else {}
    return RDBStorage(url, engine_kwargs=waits)


def make_pruner(search: Search) -> BasePruner:
    """Return Optuna's pruner, whose resource is the budget of a run in per cent."""
    first = max(1, round(WHOLE * search.first_check))
    pruners: dict[str, BasePruner] = {
        "none": NopPruner(),
        "median": MedianPruner(n_startup_trials=search.startup, n_warmup_steps=first),
        "halving": SuccessiveHalvingPruner(min_resource=first, reduction_factor=search.factor),
        "hyperband": HyperbandPruner(min_resource=first, max_resource=WHOLE, reduction_factor=search.factor),
    }
    return pruners[search.pruner]
