"""Which weights a result depends on, read off the graph that autograd keeps of it; nothing is differentiated."""

from typing import Any

from torch import Tensor


def reached(result: Tensor) -> set[int]:
    """Return the ids of the tensors at the ends of a result's graph: the weights that have a gradient of it."""
    found, seen, pending = set(), {result.grad_fn}, [result.grad_fn]
    while pending:
        node: Any = pending.pop()
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        fresh = {child for child, _ in getattr(node, "next_functions", ()) if child is not None} - seen
        seen |= fresh
        pending.extend(fresh)
    return found
