"""Compares answers in words: exact match and F1 over tokens, after SQuAD's normalisation.

"the Eiffel Tower" against "Eiffel Tower Paris": no exact match, F1 0.8.
"""

import re
import string
import unicodedata
from collections import Counter

ARTICLES = re.compile(r"\b(a|an|the)\b")
CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
"""Kana and Chinese characters, which are written without spaces between words."""
PUNCTUATION = set(string.punctuation)


def normalise(text: str) -> list[str]:
    """An answer's tokens: NFKC, lower case, without punctuation and English articles; each Chinese character is one.

    Source: Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text" (its evaluation
    script); characters for Chinese as in CMRC 2018.
    """
    lowered = unicodedata.normalize("NFKC", text).lower()
    # ASCII marks go without a trace, as in SQuAD's script (1,200 is 1200); those of other scripts part words.
    bare = "".join(
        "" if sign in PUNCTUATION else " " if unicodedata.category(sign).startswith("P") else sign for sign in lowered
    )
    return CJK.sub(lambda found: f" {found.group()} ", ARTICLES.sub(" ", bare)).split()


def exact_match(output: str, gold: str) -> bool:
    """Whether two answers have the same tokens in the same order."""
    return normalise(output) == normalise(gold)


def f1(output: str, gold: str) -> float:
    """Harmonic mean of precision and recall over the tokens that two answers share, 0 to 1.

    Of answers without tokens (an article, a full stop): 1 where both have none, else 0.

    Source: as `normalise`.
    """
    said, wanted = normalise(output), normalise(gold)
    if not said or not wanted:
        return float(said == wanted)
    shared = sum((Counter(said) & Counter(wanted)).values())
    return 2 * shared / (len(said) + len(wanted))
