"""Of what the libraries say while they train, only that on which a user can act."""

import logging
import warnings

_NOTHING_TO_DO = (
    "Experiment logs directory",  # of the CSV logger, about the run directory that we have just made
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    "The '.*dataloader' does not have many workers",
    "The number of training batches .* is smaller than the logging interval",  # few shots: the log counts steps, not epochs
    "Checkpoint directory .* exists and is not empty",
    "You're resuming from a checkpoint that ended before the epoch ended",  # the order of rows begins where it should
    r"Found \d+ module\(s\) in eval mode",  # those of a teacher that follows its student
)


def quieten() -> None:
    """Hide Lightning's notes on what it is, and warnings about code that is not the user's."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for message in _NOTHING_TO_DO:
        warnings.filterwarnings("ignore", message=message)
