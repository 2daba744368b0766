"""Where each class stands in a prompt, checked against the tokenizer itself."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2lc.classes.table import ClassTable
from a2lc.errors import InputError
from a2lc.foundation.prompts import class_phrases, make_prompts


def words(tokenizer, prompt, phrase):
    """The words of a phrase's span, pieces joined."""
    ids = tokenizer(prompt.text)["input_ids"][phrase.first : phrase.last]
    return tokenizer.convert_tokens_to_string(tokenizer.convert_ids_to_tokens(ids))


def test_a_word_that_two_classes_share_counts_for_each_in_its_own_place(tokenizer):
    (prompt,) = make_prompts({0: ("traffic light",), 1: ("traffic sign",), 2: ("light",)}, tokenizer, 256)
    assert prompt.text == "traffic light. traffic sign. light."
    # [CLS] traffic light . traffic sign . light . [SEP]
    assert [(p.class_index, p.first, p.last) for p in prompt.phrases] == [(0, 1, 3), (1, 4, 6), (2, 7, 8)]
    assert prompt.tokens == 10
    assert [words(tokenizer, prompt, p) for p in prompt.phrases] == ["traffic light", "traffic sign", "light"]


def test_words_in_pieces_are_spanned_whole(tokenizer):
    (prompt,) = make_prompts({4: ("kiosk", "car"), 9: ("van",)}, tokenizer, 256)
    assert [(p.class_index, p.first, p.last) for p in prompt.phrases] == [(4, 1, 6), (4, 7, 8), (9, 9, 10)]
    assert [words(tokenizer, prompt, p) for p in prompt.phrases] == ["kiosk", "car", "van"]
    assert prompt.classes == (4, 9)


NAMES = st.lists(
    st.lists(st.sampled_from(["road", "light", "traffic", "kiosk", "x", "walk"]), min_size=1, max_size=3).map(" ".join),
    min_size=1,
    max_size=12,
    unique=True,
)


@settings(max_examples=50)
@given(names=NAMES, window=st.integers(min_value=24, max_value=70), one_class=st.booleans())
def test_every_class_is_in_one_prompt_that_fits_and_its_span_is_its_words(tokenizer, names, window, one_class):
    phrases = {10 * i: (name,) for i, name in enumerate(names)}
    prompts = make_prompts(phrases, tokenizer, window, one_class=one_class)
    assert [index for prompt in prompts for index in prompt.classes] == list(phrases), "each once, in order"
    assert all(len(prompt.classes) == 1 for prompt in prompts) or not one_class
    alone = {name: tokenizer(name, add_special_tokens=False)["input_ids"] for name in names}
    for prompt in prompts:
        ids = tokenizer(prompt.text)["input_ids"]
        assert len(ids) == prompt.tokens <= window
        for phrase in prompt.phrases:
            # However classes are spread over prompts, the tokens scored are those of the phrase alone.
            assert ids[phrase.first : phrase.last] == alone[phrases[phrase.class_index][0]]
    if not one_class:
        for first, second in pairwise(prompts):
            need = len(alone[phrases[second.classes[0]][0]]) + 1
            assert first.tokens + need > window, "no prompt is begun while there is room in the last"


def test_a_class_too_long_for_the_window(tokenizer):
    long = ("traffic light", "road sign", "side walk", "car wheel", "bus pole")
    with pytest.raises(
        InputError, match=r"Class 'traffic light' needs 17 tokens with its synonyms, but the detector reads 16"
    ):
        make_prompts({0: long}, tokenizer, 16)
    assert len(make_prompts({0: long}, tokenizer, 17)) == 1


def test_words_the_detector_does_not_know(tokenizer):
    with pytest.raises(
        InputError, match=r"vocabulary has no word for 'ß∂'\. Give the class a synonym in the classes file"
    ):
        make_prompts({0: ("road",), 1: ("ß∂", "car ∂")}, tokenizer, 256)
    # A name in another script is no hindrance where there is a synonym.
    (prompt,) = make_prompts({0: ("ß∂", "road"), 1: ("car",)}, tokenizer, 256)
    assert prompt.text == "road. car."
    assert [(p.class_index, p.text) for p in prompt.phrases] == [(0, "road"), (1, "car")]


def test_names_become_phrases():
    table = ClassTable.from_json(
        {"classes": [{"name": "Traffic_Light", "synonyms": ["stop  light?", "TRAFFIC LIGHT"]}, {"name": "U.S. flag"}]}
    )
    assert class_phrases(table) == {0: ("traffic light", "stop light"), 1: ("u s flag",)}
    assert class_phrases(table, [0]) == {1: ("u s flag",)}
    with pytest.raises(InputError, match="no classes to detect"):
        class_phrases(table, [0, 1])
    with pytest.raises(InputError, match=r"Class '\.\.': '\.\.' has no letter or digit"):
        class_phrases(ClassTable.from_names([".."]))
    shared = {"classes": [{"name": "van"}, {"name": "bus", "synonyms": ["Van"]}]}
    with pytest.raises(InputError, match="Classes 'van' and 'bus' share the phrase 'van'"):
        class_phrases(ClassTable.from_json(shared))
