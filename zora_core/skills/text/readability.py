"""How hard a text is to read, in any language written with letters and full stops."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from zora_core.data import load
from zora_core.skills.text.words import Sentence, sentences

_ENDS = frozenset(".!?…:")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|\d[\d.,]*")


@dataclass(frozen=True)
class Readability:
    """Figures of one text; `lix` and `level` are None where there are too few words to say."""

    words: int
    sentences: int
    words_per_sentence: float
    long_word_share: float
    lix: float | None
    level: str | None
    long_sentences: tuple[Sentence, ...]

    @property
    def hard(self) -> bool:
        """Whether the text is harder than a general audience should be given."""
        return self.lix is not None and self.lix > limits()["lix"]["hard"]


def limits() -> dict[str, Any]:
    """The limits of the data file."""
    return load("readability")


def readability(text: str) -> Readability:
    """Measure `text`: LIX = words per sentence + 100 x share of words with more than six letters (Björnsson 1968).

    Headings, labels and other fragments, which end in no full stop, are left out.
    """
    lix = limits()["lix"]
    found = [(sentence, _WORD.findall(sentence.text)) for sentence in sentences(text)]
    found = [(s, words) for s, words in found if words and (s.text.rstrip("\"'”’)]")[-1:] in _ENDS)]
    total = sum(len(words) for _, words in found)
    if not total:
        return Readability(0, 0, 0.0, 0.0, None, None, ())
    share = sum(len(word) > lix["long_word_letters"] for _, words in found for word in words) / total
    mean = total / len(found)
    score = mean + 100 * share if total >= lix["too_short_words"] else None
    level = None
    if score is not None:
        level = next((c["name"] for c in lix["classes"] if score <= c["most"]), "very difficult")
    most = limits()["sentences"]["long_words"]
    long_sentences = tuple(sentence for sentence, words in found if len(words) > most)
    return Readability(total, len(found), mean, share, score, level, long_sentences)
