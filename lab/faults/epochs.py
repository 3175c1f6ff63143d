"""What is wrong with the epochs that devices were given, and with those that a doctor has begun.

Law: judges what was recorded, and asks nobody; each sentence names one epoch that breaks the order, or one secret that is not its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lab.faults.keys import EpochKey, KeyRing, SessionKey
from lab.processes import Line


def falling(ring: KeyRing) -> Iterator[str]:
    """Where a device was given an epoch that is not above the last one of its session, or below one of an earlier session.

    A session begins with the current epoch, which may be the one that the session before it ended with.
    """
    last: dict[tuple[str, str], int] = {}
    fresh: set[tuple[str, str]] = set()
    taken: list[SessionKey | EpochKey] = sorted([*ring.sessions, *ring.epochs], key=lambda key: key.time)
    for key in taken:
        if isinstance(key, SessionKey):
            fresh |= {place for place in last if place[0] == key.holder}
            continue
        place = (key.holder, key.group)
        before = last.get(place, 0)
        if key.number < before or (key.number == before and place not in fresh):
            yield f"{key.holder} was given epoch {key.number} of {key.group} after {before}."
        fresh.discard(place)
        last[place] = max(before, key.number)


def differing(keys: Iterable[EpochKey]) -> Iterator[str]:
    """Where two devices were given different secrets for one epoch, or two epochs have one secret."""
    by_epoch: dict[tuple[str, int], bytes] = {}
    by_secret: dict[bytes, tuple[str, int]] = {}
    for key in keys:
        epoch = (key.group, key.number)
        if by_epoch.setdefault(epoch, key.secret) != key.secret:
            yield f"{key.holder} holds another secret of epoch {key.number} of {key.group} than others."
        elif by_secret.setdefault(key.secret, epoch) != epoch:
            yield f"{key.holder} holds one secret for two epochs of {key.group}, {key.number} among them."


def skipped(begun: Iterable[Line]) -> Iterator[str]:
    """Where the doctor's epochs do not follow one another by one."""
    last: dict[object, int] = {}
    for line in begun:
        number = int(str(line["epoch"]))
        if line["group"] in last and number != last[line["group"]] + 1:
            yield f"The doctor began epoch {number} of {line['group']} after {last[line['group']]}."
        last[line["group"]] = number
