"""What the accuracies after each task come to: how much is known in the end, and how much was forgotten."""

import numpy as np


def summary(after: np.ndarray, untrained: np.ndarray) -> dict[str, float]:
    """Return `average_accuracy`, and for two tasks or more in sequence forgetting and transfer.

    `after (K, T)` are the accuracies on each of T tasks after each of the K that were trained, `untrained (T,)` those of the
    model before. `average_accuracy` is of the tasks trained, after the last. `forgetting` is how far a task fell below its
    best before (Chaudhry et al., arXiv:1801.10112), `backward_transfer` how far it rose above what it was when just learned,
    `forward_transfer` how far a task not yet trained was above the untrained model (GEM, arXiv:1706.08840): means over tasks.
    """
    trained = len(after)
    numbers = {"average_accuracy": float(after[-1, :trained].mean())}
    if trained > 1:
        before, last = after[:-1, : trained - 1], after[-1, : trained - 1]
        numbers["forgetting"] = float((before.max(0) - last).mean())
        numbers["backward_transfer"] = float((last - before.diagonal()).mean())
        numbers["forward_transfer"] = float((after.diagonal(1)[: trained - 1] - untrained[1:trained]).mean())
    return numbers
