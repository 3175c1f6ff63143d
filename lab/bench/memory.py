"""P7: what the doctor's process holds for each connected patient."""

from __future__ import annotations

from lab.bench.comparison import Better, Comparison, Figure, Measured, within
from lab.bench.part import Extent, Progress
from lab.bench.peers.bare_ward import bare_ward
from lab.bench.ward import new_ward, require_descriptors

LIMIT = 16.0  # KiB a patient

NOTE = "growth of resident memory, after a broadcast and an epoch; the kernel's socket buffers are not in it"


def compare(extent: Extent, progress: Progress) -> Measured:
    """P7 with the largest ward, and beside it a loop that keeps connections and nothing else.

    Raises:
        UserError: the system does not allow as many connections.
    """
    patients = max(extent.patients)
    require_descriptors(patients)
    progress.plan(2)
    with new_ward(patients) as ward:
        ward.rekey()
        ward.fanout()
        ours = Figure.of([ward.memory()]).scaled(1 / 1024)
    progress.step()
    with bare_ward(patients) as loop:
        loop.fanout()
        floor = Figure.of([loop.memory()]).scaled(1 / 1024)
    progress.step()
    measure = f"memory of the doctor for each of {patients:,} connected patients"
    return Measured(
        [
            within("P7", measure, "KiB", ours, LIMIT, NOTE),
            Comparison("P7", measure, "KiB", Better.LOWER, ours, "bare uvloop connection", floor, None, NOTE),
        ]
    )
