"""What a search may choose, read from overrides."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mmexp.errors import RequestError
from mmexp.sweeps.space import Space, read_space


def read(*words: str) -> Space:
    return read_space(OverridesParser.create().parse_overrides(list(words)))


@pytest.mark.parametrize(
    ("words", "distribution"),
    [
        ("encoder=vit,cnn", CategoricalDistribution(["vit", "cnn"])),
        (
            "objective=contrastive,[contrastive,matching]",
            CategoricalDistribution(["contrastive", "[contrastive,matching]"]),
        ),
        ("init_from=null,runs/a", CategoricalDistribution(["null", "runs/a"])),
        ("data.batch_size=range(32,129,32)", IntDistribution(32, 128, step=32)),
        ("weight=range(0.0,1.0,0.25)", FloatDistribution(0.0, 0.75, step=0.25)),
        ("lr=interval(0.1,0.5)", FloatDistribution(0.1, 0.5)),
        ("lr=tag(log,interval(1e-5,1e-2))", FloatDistribution(1e-5, 1e-2, log=True)),
        ("dim=int(interval(8,64))", IntDistribution(8, 64)),
        ("dim=tag(log,int,interval(8,64))", IntDistribution(8, 64, log=True)),
    ],
)
def test_hydras_grammar_is_read_as_distributions(words, distribution):
    space = read(words)
    assert list(space.searched.values()) == [distribution]


def test_what_is_fixed_stays_as_it_was_put():
    space = read("encoder=vit", "fusion=concat,product", "~experiment", "+objective.x='a b'")
    assert space.overrides({"fusion": "product"}) == [
        "encoder=vit",
        "~experiment",
        "+objective.x='a b'",
        "fusion=product",
    ]


def test_of_a_key_that_is_put_twice_the_last_holds():
    space = read("a=1,2", "b=1,2", "a=3")
    assert (space.fixed, list(space.searched)) == ({"a": "a=3"}, ["b"])


def test_a_space_without_intervals_can_be_counted():
    assert read("a=1,2,3", "b=range(0,10,5)", "c=range(0.0,1.0,0.5)").combinations() == 12
    assert read("a=1,2", "b=interval(0,1)").combinations() is None


def test_examples_have_every_choice_and_every_end():
    examples = read("a=x,y,z", "b=interval(1,2)").examples()
    assert [tuple(one.values()) for one in examples] == [("x", 1.0), ("y", 1.0), ("z", 1.0), ("x", 2.0)]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("encoder=vit", "nothing to search"),
        ("lr=tag(lg,interval(1e-5,1e-2))", "lr: 'lg' is not a tag of a search. Did you mean 'log'?"),
        ("lr=tag(log,interval(0,1))", "lr: the tag 'log' goes with an interval that begins above 0"),
        ("lr=interval(1,0)", "lr: there is nothing between"),
        ("n=range(5,5)", "n: there is nothing between"),
        ("seed=0,1", "seed: a search would choose the luckiest"),
    ],
)
def test_a_wrong_space_is_told_in_one_line(words, told):
    with pytest.raises(RequestError) as error:
        read(words)
    assert told in str(error.value)
    assert "\n" not in str(error.value)
