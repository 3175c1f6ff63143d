"""P6: what a new epoch costs the doctor for each member, and how many epochs a burst of joins makes."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from lab.bench.comparison import Better, Comparison, Figure, Measured, within
from lab.bench.doctor import MeasuredDoctor
from lab.bench.drain import Drain
from lab.bench.gateway_host import CurrentEpoch, Invite
from lab.bench.part import Extent, Progress
from lab.bench.subscribers import OurSubscribers
from lab.bench.timing import alternate, seconds_per_call, turns
from lab.bench.ward import new_ward, require_descriptors
from shared.crypto.aead import Aead
from shared.crypto.suites import DEFAULT_SUITE

MEMBER_LIMIT = 15.0  # µs of the doctor's processor
BURST_LIMIT = 20.0  # epochs
GROUP_KEY_BYTES = 256  # of a padded GROUP_KEY

FLOOR = "one seal of as many bytes for each member, under one key, and nothing else"


def compare(extent: Extent, progress: Progress) -> Measured:
    """Both promises of P6. Raises UserError where the system does not allow as many connections."""
    members, bursts = extent.members, extent.repeats
    require_descriptors(members)
    progress.plan(turns(2, extent.runs) + bursts)
    aead, text = Aead(os.urandom(32)), bytes(GROUP_KEY_BYTES)
    sealing = partial(seconds_per_call, lambda: aead.seal(0, text, b"header"))
    with new_ward(members) as ward:
        figures = alternate([ward.rekey_whole, sealing], extent.runs, progress)
    ours, floor = (figure.scaled(1e6) for figure in figures)
    epochs = []
    for _ in range(bursts):
        epochs.append(_epochs_of_burst(members))
        progress.step()
    each = f"doctor CPU of a new epoch for each of {members:,} members"
    burst = f"epochs that {members:,} joins at the same moment make"
    return Measured(
        [
            within("P6", each, "µs", ours, MEMBER_LIMIT),
            Comparison("P6", each, "µs", Better.LOWER, ours, "bare AES-256-GCM seals", floor, None, FLOOR),
            within("P6", burst, "epochs", Figure.of(epochs), BURST_LIMIT),
        ]
    )


def _epochs_of_burst(joins: int) -> float:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="telemed-bench-")))
        doctor = stack.enter_context(MeasuredDoctor(directory, DEFAULT_SUITE.name))
        patients = OurSubscribers(doctor.order(Invite()), DEFAULT_SUITE.name, doctor.address)
        drain = stack.enter_context(Drain(patients))
        before = int(doctor.order(CurrentEpoch()))
        drain.connect(joins)
        return float(doctor.order(CurrentEpoch())) - before
