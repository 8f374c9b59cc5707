"""Checks before building: signatures from source text, values, combinations."""

import pytest

from mmexp.config import check
from mmexp.errors import RequestError, nearest
from mmexp.signatures import signature
from mmexp.values import expected


@pytest.mark.parametrize(
    ("value", "annotation", "wanted"),
    [
        (1, "PositiveInt", None),
        (0, "PositiveInt", "a whole number above 0"),
        (True, "int", "a whole number"),
        ("x", "float", "a number"),
        (1, "float", None),
        (1.5, "Fraction", "a number from 0 to 1"),
        (None, "str | None", None),
        (3, "str | None", "text or null"),
        ("b", "Literal['a', 'b']", None),
        ("c", "Literal['a', 'b']", "one of a, b"),
        ([1, "x"], "list[int]", "a list, each item a whole number"),
        ({"a": 1.0}, "Mapping[str, NonNegativeFloat] | None", None),
        ({"a": -1}, "Mapping[str, NonNegativeFloat]", "a mapping, each value a number, 0 or more"),
        ([0.9, 0.99], "tuple[float, float]", None),
        (0.5, "Curriculum[Fraction]", None),
        (1.5, "Curriculum[Fraction]", "a number from 0 to 1 or a mapping from one to another"),
        ({"from": 0, "to": 1}, "Curriculum[float]", None),
        ({"from": 0, "to": 0.4, "start": 0.1, "end": 0.5, "shape": "cosine"}, "Curriculum[Fraction]", None),
        ({"to": 1}, "Curriculum[float]", "a mapping with from and to, and nothing else but start, end, shape"),
        (
            {"from": 0, "to": 1, "stop": 1},
            "Curriculum[float]",
            "a mapping with from and to, and nothing else but start, end, shape",
        ),
        ({"from": 0, "to": 2}, "Curriculum[Fraction]", "a mapping whose 'to' is a number from 0 to 1"),
        (
            {"from": 0, "to": 1, "shape": "square"},
            "Curriculum[float]",
            "a mapping whose 'shape' is one of linear, cosine, step",
        ),
        ({"from": 0, "to": 1, "end": 0}, "Curriculum[float]", "a mapping whose 'start' comes before its 'end'"),
        ("x", "SomethingElse", None),
        ("x", "", None),
    ],
)
def test_values_against_annotations(value, annotation, wanted):
    assert expected(value, annotation) == wanted


def test_signatures_are_read_without_importing(tmp_path, monkeypatch):
    (tmp_path / "explosive.py").write_text(
        "raise SystemExit('imported')\n"
        "class Part:\n    needs = ('fused',)\n    def __init__(self, dims, size: int = 3): ...\n"
        "def function(a, *, b: str = 'x', **more): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    part = signature("explosive.Part")
    assert part.parameters == {"dims": "", "size": "int"}
    assert part.needs == ("fused",)
    assert signature("explosive.function").open_ended


def test_signature_of_a_dataclass_is_its_fields():
    assert signature("mmexp.training.budget.Budget").parameters["steps"] == "PositiveInt | None"


def test_a_target_that_is_not_there():
    with pytest.raises(RequestError, match="nothing_of_the_kind"):
        signature("mmexp.nothing_of_the_kind.X")


def test_nearest_name():
    assert nearest("xatn", ["concat", "xattn"]) == " Did you mean 'xattn'?"
    assert nearest("zzz", ["a", "b"]) == " There is: a, b."


@pytest.fixture(autouse=True)
def stand_ins_are_trusted(monkeypatch):
    monkeypatch.setenv("MMEXP_TRUST", "json")


def config(**changes):
    whole = {
        "name": "x",
        "seed": 0,
        "init_from": None,
        "teacher": None,
        "resume": None,
        "resume_allow": [],
        "evaluate": True,
        "train": True,
        "log_every_steps": 10,
        "trust": [],
        "sweep": {"name": "now", "same_code": True},
        "encoder": {"image": {"_target_": "json.JSONDecoder"}, "text": {"_target_": "json.JSONDecoder"}, "base": None},
        "adapter": {"_target_": "mmexp.adapters.full.Full"},
        "fusion": {"_target_": "mmexp.fusion.concat.ConcatFusion", "dim": 8},
        "objective": {"matching": {"_target_": "mmexp.objectives.matching.Matching", "weight": 1.0}},
        "task": {"_target_": "mmexp.tasks.pretrain.Pretrain"},
        "budget": {"_target_": "mmexp.training.budget.Budget", "steps": 1},
    }
    return whole | changes


MATCHING = {"_target_": "mmexp.objectives.matching.Matching", "weight": 1.0}
OBJECTIVES = {
    "contrastive": {"_target_": "mmexp.objectives.contrastive.Contrastive", "weight": 1.0},
    "distill": {"_target_": "mmexp.objectives.distill.Distill", "weight": 1.0},
    "classify": {"_target_": "mmexp.objectives.classify.Classify", "weight": 1.0, "source": "fused"},
}
NO_FUSION = {"_target_": "mmexp.fusion.none.NoFusion"}
FLOPS = {"_target_": "mmexp.training.budget.Budget", "flops": 1e12}
DROPPING = {
    "_target_": "mmexp.encoders.timm_image.TimmImage",
    "name": "vit_tiny_patch16_224",
    "patch_dropout": {"from": 0.5, "to": 0.0, "end": 0.9, "shape": "step"},
}
SELF_DISTILL = {"_target_": "mmexp.tasks.self_distill.SelfDistill"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sed": 1}, "'sed' is not a key of a run. Did you mean 'seed'?"),
        ({"seed": "x"}, "'seed' must be a whole number, 0 or more, not 'x'"),
        (
            {"fusion": {"_target_": "mmexp.fusion.concat.ConcatFusion", "dimm": 8}},
            "(fusion/concat.yaml). Did you mean 'dim'",
        ),
        (
            {"fusion": {"_target_": "mmexp.fusion.concat.ConcatFusion", "dim": -1}},
            "'fusion.dim' must be a whole number above 0",
        ),
        ({"fusion": NO_FUSION}, "objective 'matching' needs a fused output"),
        ({"objective": {"contrastive": OBJECTIVES["contrastive"]}}, "Choose fusion=none, or add one that does"),
        ({"objective": {"classify": OBJECTIVES["classify"]}, "fusion": NO_FUSION}, "'classify' needs a fused output"),
        (
            {"objective": {"cross_masked": {"_target_": "mmexp.objectives.cross_masked.CrossMasked", "weight": 1.0}}},
            "this fusion does not keep them. Choose fusion=xattn",
        ),
        ({"objective": {}}, "nothing to learn"),
        ({"objective": {"distill": OBJECTIVES["distill"]}, "fusion": NO_FUSION}, "objective 'distill' needs a teacher"),
        (
            {"objective": {"matching": MATCHING | {"weight": {"from": 0, "till": 1}}}},
            "'objective.matching.weight' must be a mapping with from and to",
        ),
        ({"teacher": "some/run"}, "teacher= is set, but this task has none"),
        ({"task": {"_target_": "mmexp.tasks.distill.DistillTask"}}, "task=distill needs a teacher"),
        ({"task": SELF_DISTILL}, "task=self_distill: no objective learns from the teacher"),
        ({"task": SELF_DISTILL, "teacher": "some/run"}, "task=self_distill is its own teacher"),
        ({"budget": FLOPS, "encoder": {"image": DROPPING}}, "budget.flops counts each step as the first"),
    ],
)
def test_wrong_requests_are_answered_in_one_line(changes, message):
    with pytest.raises(RequestError) as error:
        check(config(**changes), {"fusion": "concat"})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_right_request_passes():
    check(config(), {"fusion": "concat"})
    check(config(fusion=NO_FUSION, objective={"classify": OBJECTIVES["classify"] | {"source": "image"}}), {})
