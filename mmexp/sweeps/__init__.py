"""Many runs from one command line: which are to do, and how they are run, whatever becomes of one of them."""


def register() -> None:
    """Make our sweepers and launchers known to Hydra, which takes plugins only by names below `hydra_plugins`."""
    import warnings

    from hydra.core.plugins import Plugins

    from mmexp.sweeps.grid import Grid
    from mmexp.sweeps.optuna_sweeper import OptunaSweeper
    from mmexp.sweeps.ray_launcher import RayLauncher

    # Ours have the names of submitit's own, so that they are there, and checked, whether or not it is installed.
    warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")
    for plugin in (Grid, OptunaSweeper, RayLauncher):
        Plugins.instance().class_name_to_class[f"hydra_plugins.mmexp.{plugin.__name__}"] = plugin
