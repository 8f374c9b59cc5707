"""What happens to texts: each operation does what its paper says, and words of grammar stay."""

from collections import Counter

import numpy as np
import pytest

from mmexp.augmentations.eda import Eda, deleted, inserted, replaced, swapped
from mmexp.augmentations.rewrite import Rewrite
from mmexp.augmentations.synonyms import Synonyms
from mmexp.augmentations.tags import Tags
from mmexp.augmentations.words import synonyms
from mmexp.draws import RowDraws
from mmexp.errors import RequestError

DRAWS = RowDraws(0, 0, range(300))
TEXT = "Two big cars, and a child in the picture"
WORDS = TEXT.split()


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_table_holds_what_wordnet_says():
    table = synonyms()
    assert len(table) > 20_000
    assert table["car"] == ["automobile", "auto", "motorcar"]
    assert table["big"] == ["large"]
    assert not {"the", "in", "and", "two", "can"} & set(table)
    assert all(word not in others and len(set(others)) == len(others) for word, others in table.items())


def test_synonyms_take_the_place_of_their_word_alone():
    assert Synonyms(0.0)([TEXT], RowDraws(0, 0, [1])) == [TEXT]
    changed = Synonyms(1.0)([TEXT] * 300, DRAWS)
    for text in changed:
        words = text.split()
        assert [words[i] for i in (0, 2, 3, 4, 6, 7)] == ["Two", "cars,", "and", "a", "in", "the"]
        assert words[1] == "large" and words[5] in synonyms()["child"] and words[8] in synonyms()["picture"]
    assert Synonyms(1.0)(["Big!"], RowDraws(0, 0, [1])) == ["Large!"]


def test_the_share_of_words_is_as_asked():
    changed = Synonyms(0.3)(["big"] * 300, DRAWS)
    assert changed.count("large") == pytest.approx(90, abs=25)


def test_eda_replaces_as_many_words_as_its_rate_says():
    for seed in range(20):
        changed = replaced(WORDS, 0.25, rng(seed))
        different = [i for i in range(len(WORDS)) if changed[i] != WORDS[i]]
        assert len(changed) == len(WORDS) and len(different) == 2 and set(different) <= {1, 5, 8}


def test_eda_inserts_synonyms_of_words_that_are_there():
    known = {other for word in ("big", "child", "picture") for other in synonyms()[word]}
    added = Counter(inserted(WORDS, 0.25, rng())) - Counter(WORDS)
    assert added.total() == 2 and set(added) <= known


def test_eda_swaps_two_words():
    changed = swapped(WORDS, 0.1, rng())
    assert Counter(changed) == Counter(WORDS)
    assert sum(a != b for a, b in zip(changed, WORDS, strict=True)) == 2
    assert swapped(["one"], 1.0, rng()) == ["one"]


def test_eda_deletes_each_word_by_its_rate_but_never_all():
    lengths = [len(deleted(WORDS, 0.3, rng(seed))) for seed in range(300)]
    assert np.mean(lengths) == pytest.approx(0.7 * len(WORDS), abs=0.3)
    assert len(deleted(WORDS, 1.0, rng())) == 1


def test_eda_draws_among_the_operations_that_have_a_rate():
    only = Eda(share=1.0, replace=0, insert=0, swap=0.1, delete=0)([TEXT] * 300, DRAWS)
    assert all(Counter(text.split()) == Counter(WORDS) and text != TEXT for text in only)
    assert Eda(share=0.4)([TEXT] * 300, DRAWS).count(TEXT) == pytest.approx(180, abs=30)
    assert Eda(replace=0, insert=0, swap=0, delete=0)([TEXT], RowDraws(0, 0, [1])) == [TEXT]
    assert Eda(share=1.0)([""], RowDraws(0, 0, [1])) == [""]


def test_tags_are_dropped_and_shuffled_and_the_label_stays():
    text = "flag: Wales: dragon, Cardiff, flag"
    changed = Tags(drop=0.3, alone=0.2)([text] * 300, DRAWS)
    labels, listed = zip(*[(t, "") if t == "flag: Wales" else t.rsplit(": ", 1) for t in changed], strict=True)
    assert set(labels) == {"flag: Wales"}
    kept = [tags.split(", ") for tags in listed if tags]
    assert all(set(tags) <= {"dragon", "Cardiff", "flag"} for tags in kept)
    assert 300 - len(kept) == pytest.approx(300 * (0.2 + 0.8 * 0.3**3), abs=30)
    assert len({tuple(tags) for tags in kept}) == 15


def test_tags_in_order_and_texts_of_another_form():
    assert Tags(drop=0.0, shuffle=False, alone=0.0)(["a: b, c", "no tags"], RowDraws(0, 0, [1, 2])) == [
        "a: b, c",
        "no tags",
    ]


def shout(texts: list[str]) -> list[str]:
    return [text.upper() for text in texts]


def lose(texts: list[str]) -> list[str]:
    return texts[1:]


def test_a_users_function_rewrites_a_share():
    changed = Rewrite(f"{__name__}.shout", share=0.5)(["word"] * 300, DRAWS)
    assert set(changed) == {"word", "WORD"}
    assert changed.count("WORD") == pytest.approx(150, abs=30)
    assert Rewrite(f"{__name__}.lose", share=0.0)(["word"], RowDraws(0, 0, [1])) == ["word"]


def test_a_users_function_that_is_wrong():
    with pytest.raises(RequestError, match=r"rewrite.function='json.dumpz' cannot be imported"):
        Rewrite("json.dumpz")
    with pytest.raises(RequestError, match="lose returned 1 texts for 2"):
        Rewrite(f"{__name__}.lose", share=1.0)(["a", "b"], RowDraws(0, 0, [1, 2]))
