"""A sampler that proposes no combination twice."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from mmexp.sweeps.space import Space

_PROPOSALS = 16


class Untried(BaseSampler):
    """Asks one of Optuna's samplers until it names what was not tried; where it does not, draws one of the rest.

    A run of the same choices and seed would only come to the same result, and TPE proposes what it knows to be good again.
    Draws are a function of `seed` and the trial's number, so that a search that was interrupted goes on as it would have.
    """

    def __init__(self, sampler: str, space: Space, tried: Sequence[Mapping[str, Any]], seed: int, startup: int):
        self.space, self.seed = space, seed
        self.tried = {self._key(chosen) for chosen in tried}
        makes: dict[str, Callable[[int], BaseSampler] | None] = {
            "tpe": lambda drawn: TPESampler(seed=drawn, n_startup_trials=startup, multivariate=True),
            "random": lambda drawn: RandomSampler(seed=drawn),
            "grid": None,
        }
        self.make = makes[sampler]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the whole space: what was tried is a matter of all keys together."""
        return dict(self.space.searched)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the choices of one run."""
        random = np.random.default_rng([self.seed, trial.number])
        if self.make:
            sampler = self.make(int(random.integers(2**31)))
            for _ in range(_PROPOSALS):
                chosen = sampler.sample_relative(study, trial, search_space)
                for key, distribution in search_space.items():
                    if key not in chosen:
                        chosen[key] = sampler.sample_independent(study, trial, key, distribution)
                if self._key(chosen) not in self.tried:
                    return chosen
        rest = self._rest()
        return rest[random.integers(len(rest))]

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Say that all keys are chosen together; Optuna asks this for those that were not."""
        raise NotImplementedError(param_name)

    def _rest(self) -> list[dict[str, Any]]:
        values = self.space.values()
        assert values is not None, "in a space without end a proposal is new"
        every = [dict(zip(values, one, strict=True)) for one in product(*values.values())]
        return [one for one in every if self._key(one) not in self.tried] or every

    def _key(self, chosen: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(str(chosen.get(key)) for key in self.space.searched)
