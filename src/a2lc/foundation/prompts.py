"""Class names and synonyms as prompts of a detector that takes text, and where in the text each of them stands.

A class is scored over the tokens of its own phrases. Nothing is decoded from tokens back to words, so classes cannot
merge ("car taxi") or break ("##van"), and a word that two classes share counts for each in its own place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from a2lc.classes.table import ClassTable
from a2lc.errors import InputError

__all__ = ["Phrase", "Prompt", "class_phrases", "make_prompts"]


@dataclass(frozen=True)
class Phrase:
    """A class's name or synonym in a prompt.

    Attributes:
        class_index: Which class.
        text: The words, as they stand in the prompt.
        first: Position of its first token in the tokenised prompt, special tokens counted.
        last: Position after its last one.
    """

    class_index: int
    text: str
    first: int
    last: int


@dataclass(frozen=True)
class Prompt:
    """One text for the detector.

    Attributes:
        text: Phrases in lower case, each ended by a dot.
        phrases: Where they stand, in order; all phrases of a class are in one prompt.
        tokens: Length in tokens, special ones counted.
    """

    text: str
    phrases: tuple[Phrase, ...]
    tokens: int

    @property
    def classes(self) -> tuple[int, ...]:
        """The classes asked for, in order."""
        return tuple(dict.fromkeys(phrase.class_index for phrase in self.phrases))


def class_phrases(classes: ClassTable, leave_out: Sequence[int] = ()) -> dict[int, tuple[str, ...]]:
    """Return the phrases that stand for each class, as they go into a prompt.

    Grounding DINO wants lower case, and takes dots and question marks for the ends of phrases, so there are none within.

    Args:
        classes: Names and synonyms.
        leave_out: Classes nothing is to be found for, such as the background.

    Raises:
        InputError: A name has no letter or digit, or two classes have a phrase in common.

    Example:
        >>> class_phrases(ClassTable.from_names(["Traffic light", "U.S. flag"]))
        {0: ('traffic light',), 1: ('u s flag',)}
    """
    found: dict[int, tuple[str, ...]] = {}
    owner: dict[str, int] = {}
    for index in range(classes.num_classes):
        if index in leave_out:
            continue
        phrases: list[str] = []
        for word in classes.prompts(index):
            text = " ".join(word.lower().replace(".", " ").replace("?", " ").replace("_", " ").split())
            if not any(letter.isalnum() for letter in text):
                raise InputError(
                    f"Class {classes.names[index]!r}: {word!r} has no letter or digit, so it cannot be detected by "
                    "name. Rename it in the classes file."
                )
            if owner.get(text, index) != index:
                raise InputError(
                    f"Classes {classes.names[owner[text]]!r} and {classes.names[index]!r} share the phrase {text!r}. "
                    "Give each its own phrases in the classes file."
                )
            owner[text] = index
            if text not in phrases:
                phrases.append(text)
        found[index] = tuple(phrases)
    if not found:
        raise InputError("There are no classes to detect, because the only class is the background.")
    return found


def make_prompts(
    phrases: dict[int, tuple[str, ...]], tokenizer: Any, window: int, *, one_class: bool = False
) -> list[Prompt]:
    """Prompts that fit the text window of a detector, filled in the order of the classes.

    Args:
        phrases: Of each class.
        tokenizer: A fast tokenizer of transformers: it tells where in the text each token stands.
        window: Tokens a prompt may have, special ones counted.
        one_class: A prompt a class.

    Raises:
        InputError: A class is too long for the window, or the tokenizer does not know any of its words.
    """
    prompts: list[Prompt] = []
    waiting: dict[int, tuple[str, ...]] = {}
    special = len(tokenizer("")["input_ids"])
    used = special
    for index, given in phrases.items():
        texts = _known(given, tokenizer)
        # Each phrase is followed by a dot.
        need = sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) + 1 for text in texts)
        if special + need > window:
            raise InputError(
                f"Class {texts[0]!r} needs {special + need} tokens with its synonyms, but the detector reads "
                f"{window}. Remove some synonyms."
            )
        if waiting and (one_class or used + need > window):
            prompts.append(_prompt(waiting, tokenizer, window))
            waiting, used = {}, special
        waiting[index] = texts
        used += need
    prompts.append(_prompt(waiting, tokenizer, window))
    return prompts


def _known(texts: tuple[str, ...], tokenizer: Any) -> tuple[str, ...]:
    """Return the phrases of a class whose words the tokenizer knows: a name in another script may have an English synonym.

    Raises:
        InputError: There is none.
    """
    tokens = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    known = tuple(text for text, ids in zip(texts, tokens, strict=True) if ids and tokenizer.unk_token_id not in ids)
    if not known:
        raise InputError(
            f"The detector's vocabulary has no word for {texts[0]!r}. Give the class a synonym in the classes file."
        )
    return known


def _prompt(phrases: dict[int, tuple[str, ...]], tokenizer: Any, window: int) -> Prompt:
    text, places = "", []
    for index, texts in phrases.items():
        for phrase in texts:
            if text:
                text += " "
            places.append((index, phrase, len(text), len(text) + len(phrase)))
            text += phrase + "."
    encoded = tokenizer(text, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    if len(ids) > window:
        raise InputError(
            f"{len(ids)} tokens in a prompt of at most {window}, because this tokenizer counts words differently "
            "within a text. Set `one_class_per_prompt`."
        )
    found = []
    for index, phrase, begin, end in places:
        # Special tokens stand at (0, 0).
        inside = [i for i, (first, last) in enumerate(offsets) if begin <= first and last <= end and first < last]
        assert inside and inside == list(range(inside[0], inside[-1] + 1))
        found.append(Phrase(index, phrase, inside[0], inside[-1] + 1))
    return Prompt(text, tuple(found), len(ids))
