"""What a model and its heads say of the rows of a batch, with what is right beside."""

from collections.abc import Mapping
from math import nan
from typing import Any

from torch import Tensor

from mmexp.tasks.views import StepViews, having_source, looks_at

# The method by which an objective shows what its head says, and the name under which that is gathered.
HEADS = {"classify": "logits", "mark": "marks", "estimate": "estimates"}
KNOWN = ("index", "concept", "label", "targets", "number")


def first_with(objectives: Mapping[str, Any], method: str) -> Any:
    """Return the first objective that has a method, None where none has: of several spaces the first one is looked at."""
    return next((one for one in objectives.values() if hasattr(one, method)), None)


def said_of(views: StepViews, objectives: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the rows that whole-set metrics need: `pooled/<m>`, `vector/<m>` of the first space, `logits`, what is right.

    `present/<m>` says which rows have a modality that some lack, `item/<m>` which item of it a row holds.
    """
    encoded = views.encoded()
    rows = {key: views.batch[key] for key in KNOWN if key in views.batch}
    rows |= {f"pooled/{name}": one.pooled for name, one in encoded.items()}
    rows |= {f"present/{name}": there for name, there in views.batch.get("present", {}).items()}
    rows |= {f"item/{name}": item for name, item in views.batch.get("items", {}).items() if name in encoded}
    if embedding := first_with(objectives, "embed"):
        for name, vector in embedding.embed(encoded).items():
            rows[f"vector/{name}"] = _numbers(f"vectors of {name}", vector, encoded[name].there(), views)
    for objective in objectives.values():
        for head, said in HEADS.items():
            if hasattr(objective, head):
                # One that compares with more than the row itself, such as the texts of classes, asks the step.
                asked = looks_at(objective, views)
                known, answers = having_source(objective, views), getattr(objective, head)(asked)
                rows[said] = _unsaid(_numbers(f"outputs of '{head}'", answers, known, views), known)
    return rows


def _numbers(what: str, answers: Tensor, known: Tensor | None, views: StepViews) -> Tensor:
    """Return `answers (B, ...)` as they are. Raises FloatingPointError where one of a row that is `known (B,)` is NaN."""
    lost = answers.isnan().flatten(1).any(1) if answers.dim() > 1 else answers.isnan()
    lost = lost if known is None else lost & known
    if lost.any():
        row = int(views.batch["index"][lost][0])
        raise FloatingPointError(
            f"the {what} are NaN, first in row {row} of an evaluation set, so that nothing can be measured. "
            "The weights are not finite, or the training diverged: start from another checkpoint."
        )
    return answers


def _unsaid(said: Tensor, known: Tensor | None) -> Tensor:
    """Return what a head says of each row (B, ...), NaN of those that are not `known (B,)`: they lack what it looks at."""
    return said if known is None else said.masked_fill(~known.view(-1, *[1] * (said.dim() - 1)), nan)
