"""All parts of the benchmark, one after the other, with a bar for people who wait.

Law: the only list of parts. A part that fails is named with its reason; it takes nothing from the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum, unique

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from lab.bench import churn, crypto, durable, fanout, handshake, memory, scale
from lab.bench.comparison import Measured, line
from lab.bench.part import FULL, QUICK, Compare, Progress
from lab.bench.results import Failure, Results
from lab.bench.surroundings import Surroundings
from lab.bench.tables import show
from shared.errors import UserError


@unique
class Part(Enum):
    """What can be measured."""

    CRYPTO = "crypto"
    HANDSHAKE = "handshake"
    FANOUT = "fanout"
    DURABLE = "durable"
    CHURN = "churn"
    MEMORY = "memory"
    SCALE = "scale"


PARTS: Mapping[Part, Compare] = {
    Part.CRYPTO: crypto.compare,
    Part.HANDSHAKE: handshake.compare,
    Part.FANOUT: fanout.compare,
    Part.DURABLE: durable.compare,
    Part.CHURN: churn.compare,
    Part.MEMORY: memory.compare,
    Part.SCALE: scale.compare,
}


def run_parts(
    parts: Sequence[Part],
    quick: bool,
    console: Console,
    known: Mapping[Part, Compare] = PARTS,
    patients: int | None = None,
) -> Results:
    """Measure these parts, and show what each has found as soon as it has. `patients`: of the largest ward, if not as usual."""
    extent = (QUICK if quick else FULL).up_to(patients)
    surroundings = Surroundings.now()
    found: list[Measured] = []
    failed: list[Failure] = []
    for part in parts:
        try:
            with _bar(part, console) as progress:
                measured = known[part](extent, progress)
        except UserError as error:  # no bug: it says what can be done
            failed.append(Failure(part.value, str(error)))
        except Exception as error:  # whatever it is, it is told under the part's name and fails the call
            console.print_exception()
            failed.append(Failure(part.value, f"{type(error).__name__}: {error}"))
        else:
            found.append(measured)
            show(part.value, [line(each) for each in measured.comparisons], console)
    return Results(
        rows=[line(each) for measured in found for each in measured.comparisons],
        series=[each for measured in found for each in measured.series],
        missing=sorted({each for measured in found for each in measured.missing}),
        failed=failed,
        quick=quick,
        surroundings=surroundings,
    )


class _Bar:
    """The progress of one part as a bar; its length is unknown until the part has planned."""

    def __init__(self, bars: Bars, name: str) -> None:
        self._bars = bars
        self._task = bars.add_task(name, total=None)

    def plan(self, steps: int) -> None:
        """Give the bar its length."""
        self._bars.update(self._task, total=steps)

    def step(self) -> None:
        """Move it on."""
        self._bars.advance(self._task)


@contextmanager
def _bar(part: Part, console: Console) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield _Bar(bars, part.value)
