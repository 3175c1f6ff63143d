"""What a refusal must be: a code from the lists that programs rely on, and a sentence that a person can read."""

from __future__ import annotations

import re

from patient.verdicts import Reason

PROBLEMS = frozenset({"refused", "storage", "request"})
"""Codes of the doctor's API. `internal` is not among them: whoever is told that has met a bug."""

CODES = PROBLEMS | {reason.value for reason in Reason}

_RAW = re.compile(r"\w(Error|Exception)\b|Traceback|\[Errno|<[\w.]+ object at|^b['\"]|\bNone\b")
_WORDS = re.compile(r"[^\W\d_]{2,}")


def faults(code: str, sentence: str) -> list[str]:
    """What is wrong with a refusal, each to follow on "was refused"."""
    found = []
    if not code:
        found.append("without a code.")
    elif code not in CODES:
        found.append(f"with the code {code!r}, which is none of the list.")
    if not sentence.strip():
        found.append("without a word.")
    elif _RAW.search(sentence):
        found.append(f"with what is meant for programmers: {sentence!r}")
    elif len(_WORDS.findall(sentence)) < 3 or "\n" in sentence:
        found.append(f"with what is no sentence: {sentence!r}")
    return found
