"""Runs as ray tasks: worker processes of this machine or of a cluster, kept warm by ray."""

import logging
import os
import signal
from collections.abc import Sequence
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from omegaconf import open_dict


class RayLauncher(Launcher):
    """Hydra's own ray launcher needs a Python older than 3.11.

    `address` is that of a cluster, None for this machine with `n_jobs` runs at once (-1: one a core). A run takes
    `cpus_per_run` and `gpus_per_run` of a cluster. The working directory and the sweep's must be shared by its machines.
    """

    def __init__(self, address: str | None, n_jobs: int, cpus_per_run: float, gpus_per_run: float):
        self.address, self.n_jobs = address, n_jobs if n_jobs > 0 else os.cpu_count() or 1
        self.resources: dict[str, Any] = {"num_cpus": cpus_per_run, "num_gpus": gpus_per_run}

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Keep what Hydra hands over."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run all jobs; return when the last has ended. Raises ray's error for the first whose process died."""
        import ray

        self._connect()
        try:
            job = ray.remote(**self.resources, max_retries=0)(_run)
            shared = ray.put((self.hydra_context, self.config, self.task_function, Singleton.get_state(), os.getcwd()))
            jobs = [job.remote(shared, list(one), initial_job_idx + i) for i, one in enumerate(job_overrides)]
            ray.wait(jobs, num_returns=len(jobs))
            return ray.get(jobs)
        finally:
            ray.shutdown()

    def _connect(self) -> None:
        import ray

        here: dict[str, Any] = {"num_cpus": self.n_jobs * self.resources["num_cpus"], "include_dashboard": False}
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        # What the names of sweeps are made of, which a cluster's machines do not know.
        environment = {"env_vars": {"MMEXP_STAMP": os.environ["MMEXP_STAMP"]}}
        ray.init(self.address, logging_level=logging.ERROR, runtime_env=environment, **({} if self.address else here))
        # Ray's own would end the sweep before its runs have written their checkpoints.
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(shared: Any, overrides: list[str], number: int) -> JobReturn:
    """Run one job in a worker, as Hydra's other launchers do."""
    hydra_context, config, task_function, state, folder = shared
    os.chdir(folder)
    setup_globals()
    Singleton.set_state(state)
    whole = hydra_context.config_loader.load_sweep_config(config, overrides)
    with open_dict(whole):
        whole.hydra.job.id = whole.hydra.job.num = number
    return run_job(
        hydra_context=hydra_context,
        task_function=task_function,
        config=whole,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
