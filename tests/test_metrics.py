"""Every metric declares which way it is better, and every key that names a metric is checked before anything runs."""

import ast
import re
from pathlib import Path

import pytest
import torch

from mmexp.build.monitoring import check_monitor, validated
from mmexp.errors import RequestError
from mmexp.judging.space import numbers
from mmexp.metrics import METRICS, best_of, higher_is_better, metric_of, selected_by
from mmexp.objectives.classify import Classify
from mmexp.objectives.contrastive import Contrastive
from mmexp.tasks.evaluation import Gathered

ROOT = Path(__file__).parents[1] / "mmexp"


@pytest.mark.parametrize(
    ("name", "higher"),
    [
        ("val/text_to_image_r1", True),
        ("test/image_to_text_median_rank", False),
        ("test/image_uniformity", False),
        ("test/space/image_text_alignment", False),
        ("test/space/image_text_gap", False),
        ("val/mean_reciprocal_rank", True),
        ("val/mean_absolute_error", False),
        ("val/r2", True),
        ("val/caption_perplexity", False),
        ("val/loss_contrastive", False),
        ("test/calibration/expected_calibration_error", False),
        ("continual/forgetting", False),
        ("continual/backward_transfer", True),
        ("val/temperature", None),
        ("test/candidates", None),
        ("test/text_to_image_r5_chance", None),
        # A word in a name says nothing of a metric that nobody declared.
        ("val/error_free_share", None),
        ("val/lossless", None),
    ],
)
def test_a_metric_says_which_way_it_is_better(name, higher):
    assert higher_is_better(name) is higher


def test_no_name_has_two_directions():
    for one in METRICS:
        # A name made of each pattern: words for what may be anything.
        name = re.sub(r"\(\w*\\?[\w+]*_\)\?", "", one.pattern)
        name = name.replace(r"\d+", "3").replace(r"\w+", "image").replace(".+", "image").replace(r"[\w.-]*", "")
        name = re.sub(r"\((\w+)(\|\w+)*\)\??", r"\1", name)
        found = [other for other in METRICS if re.fullmatch(other.pattern, name)]
        assert one in found and len({other.higher_is_better for other in found}) == 1, name


def test_every_metric_of_an_evaluation_set_is_declared():
    rows, generator = torch.arange(12), torch.Generator().manual_seed(0)
    vectors = {f"vector/{name}": torch.randn(12, 4, generator=generator) for name in ("image", "text", "audio")}
    pooled = {"pooled/image": torch.randn(12, 4, generator=generator)}
    heads = {"logits": torch.randn(12, 3, generator=generator), "marks": torch.randn(12, 3, generator=generator)}
    truth = {
        "label": rows % 3,
        "targets": (rows[:, None] % torch.tensor([2, 3, 4]) == 0).float(),
        "number": rows.float(),
    }
    gathered = Gathered()
    gathered.add(
        {"loss": torch.tensor(1.0)},
        {"index": rows, "concept": rows // 2, "estimates": rows * 1.1} | vectors | pooled | heads | truth,
        12,
    )
    found = gathered.metrics()
    assert len(found) > 50 and not [name for name in found if metric_of(name) is None]
    space = numbers({n.removeprefix("vector/"): v for n, v in vectors.items()}, {})
    assert space and not [name for name in space if metric_of(name) is None]


def test_every_number_that_an_objective_reports_is_declared():
    reported = set()
    for file in sorted((ROOT / "objectives").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Terms" and len(node.args) > 1:
                reported |= {
                    k.value
                    for d in ast.walk(node.args[1])
                    if isinstance(d, ast.Dict)
                    for k in d.keys
                    if isinstance(k, ast.Constant)
                }
    assert {"temperature", "accuracy", "matching_accuracy"} <= reported
    assert not [name for name in reported if metric_of(name) is None]


def test_directions_are_asked_of_the_list_alone():
    for file in [
        *ROOT.glob("comparison/*.py"),
        *ROOT.glob("runs/*.py"),
        *ROOT.glob("sweeps/*.py"),
        ROOT / "trainer.py",
    ]:
        assert not re.search(r"def falls|\bfalls\(", file.read_text()), file


def test_the_best_value_and_what_runs_are_chosen_by():
    assert best_of([3.0, 1.0, 2.0], "test/image_text_gap") == 1.0
    assert best_of([3.0, 1.0, 2.0], "test/accuracy") == 3.0
    assert best_of([3.0, 1.0], "test/temperature") is None and best_of([], "test/loss") is None
    assert selected_by("test/accuracy", [{"test/accuracy": 1.0, "val/accuracy": 0.5}]) == "val/accuracy"
    assert selected_by("test_cross_style/loss", [{"val/loss": 1.0}]) == "val/loss"
    assert selected_by("test/accuracy", [{"val/accuracy": 1.0}, {"test/accuracy": 1.0}]) == "test/accuracy"
    assert selected_by("val/accuracy", []) == "val/accuracy"


def test_a_monitored_metric_must_be_one_that_a_validation_has():
    known = validated(["image", "text"], [Contrastive, Classify], zero_shot=True)
    losses = ["loss", "loss_contrastive", "temperature", "accuracy"]
    assert check_monitor("k", "val/loss", known, losses, {}) == "min"
    assert check_monitor("k", "val/zero_shot_accuracy", known, losses, {}) == "max"
    assert check_monitor("k", "val/text_to_image_median_rank", known, losses, {}) == "min"
    assert check_monitor("k", "val/mine", known, [*losses, "mine"], {"mine": False}) == "min"
    # A search knows no losses yet.
    assert check_monitor("k", "val/loss_anything", known, None, {}) == "min"
    for metric, told in (
        ("val/los", "checkpoint.monitor=val/los: no validation of this run measures it. Did you mean 'val/loss'?"),
        ("val/text_to_image_r2", "Did you mean 'val/text_to_image_r"),
        ("test/loss", "Did you mean 'val/loss'?"),
        ("val/image_to_audio_r1", "Did you mean 'val/image_to_text_r1'?"),
        ("val/temperature", "no value of it is better than another"),
        ("val/mine", "does not say which way it is better"),
    ):
        with pytest.raises(RequestError) as error:
            check_monitor("checkpoint.monitor", metric, known, [*losses, "mine"], {})
        assert told in str(error.value) and "\n" not in str(error.value)
