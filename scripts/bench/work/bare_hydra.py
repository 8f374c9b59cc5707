"""A Hydra application without a configuration."""

import hydra


@hydra.main(version_base="1.3", config_path=None)
def main(config: object) -> None:
    """Do nothing."""


main()
