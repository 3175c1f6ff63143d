"""What a target gives to the fuzzer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Subject:
    """One thing under attack.

    Args:
        attempt: takes any input; what it raises is a finding.
        seeds: inputs that an honest peer might have made.
        serves: whether the very same thing still does its work for an honest client.
    """

    attempt: Callable[[bytes], None]
    seeds: Sequence[bytes]
    serves: Callable[[], bool]
