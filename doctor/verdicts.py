"""What a verification of the audit log has found, in words: the same for the command line and the console."""

from __future__ import annotations

from doctor.answers import AuditAnswer


def in_words(answer: AuditAnswer) -> str:
    """One sentence, and one for each confirmed restore."""
    if not answer.valid:
        return f"The audit log does not verify at entry {answer.first_bad}: {answer.reason}."
    text = f"{answer.entries} entries and {answer.heads} signed heads verify."
    return text + "".join(f" {event[0].upper()}{event[1:]}." for event in answer.events)
