"""A metric that chooses the best checkpoint is measured on val, or the run is refused in one plain line."""

from types import SimpleNamespace

import numpy as np
import pytest

from mmexp.build.choosing import check_best
from mmexp.errors import RequestError

SOURCES = {"classify": "Classify", "regress": "Regress", "multilabel": "Multilabel", "contrastive": "Contrastive"}
METRICS = {
    "classify": "val/accuracy",
    "regress": "val/mean_absolute_error",
    "multilabel": "val/mean_average_precision",
    "contrastive": "val/mean_reciprocal_rank",
}


class Rows(SimpleNamespace):
    def __len__(self):
        return len(self.concepts)


def val(**changed):
    whole = {"labels": np.arange(4) % 2, "number": np.arange(4.0), "targets": np.eye(4), "concepts": np.arange(4)}
    items = {"image": np.arange(4), "text": np.arange(4)}
    return Rows(**{**whole, "items": items, **changed})


def check(objective: str, rows) -> None:
    node = {"_target_": f"mmexp.objectives.{objective}.{SOURCES[objective]}", "source": "fused"}
    check_best({"objective": {objective: node}}, ["image", "text"], METRICS[objective], rows)


@pytest.mark.parametrize(
    ("objective", "changed", "told"),
    [
        ("classify", {"labels": np.full(4, -1)}, "no row of val has a label"),
        ("regress", {"number": np.full(4, np.nan)}, "no row of val has a number in the target column"),
        ("regress", {"number": None}, "no row of val has a number in the target column"),
        ("multilabel", {"targets": np.zeros((4, 4))}, "no row of val has any label"),
        (
            "contrastive",
            {"items": {"image": np.arange(4), "text": np.full(4, 9)}},
            "all rows of val have the same text",
        ),
        ("contrastive", {"concepts": np.zeros(4)}, "all rows of val have the same concept"),
    ],
)
def test_a_val_of_which_nothing_can_be_said_is_refused(objective, changed, told):
    check(objective, val())
    with pytest.raises(RequestError) as error:
        check(objective, val(**changed))
    assert told in str(error.value) and "\n" not in str(error.value)
