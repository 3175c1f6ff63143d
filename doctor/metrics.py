"""What Prometheus reads: every figure is taken, when it is asked for, from the objects that count it anyway.

Law: nothing here runs but at a scrape, and no label holds a patient's name or anything that a stranger chooses.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from doctor.gateway import Gateway
from doctor.tally import Tally
from shared.durations import Durations
from shared.errors import StorageError, UserError
from shared.net.stream import clock
from shared.protocol.doctor_handshake import Standing
from shared.storage.sqlite import open_reader
from shared.wire.checks import Check

CONTENT_TYPE = CONTENT_TYPE_LATEST
NEWEST = 10_000  # messages of a stream that are looked at for who lacks them


@dataclass(frozen=True, slots=True)
class Lag:
    """What was accepted, is still good, and was not acknowledged yet.

    Attributes:
        deliveries: messages, each as often as there are patients that lack it.
        streams: how far each patient is behind in each stream: those that lack anything.
    """

    deliveries: int = 0
    streams: int = 0


def queue_lag(path: Path, now: int) -> Lag:
    """Ask the database; on a thread of its own, because with many patients it takes longer than a turn of the loop.

    Of each stream the newest `NEWEST` messages count, so that a device which never comes back does not make it take longer for ever.

    Args:
        path: the database. now: milliseconds since the Unix epoch.

    Raises:
        StorageError: it cannot be opened.
    """
    with contextlib.closing(open_reader(path, once=True)) as db:
        rows = db.execute(
            "SELECT member.stream, delivered, count(*) FROM memberships AS member JOIN streams USING (stream)"
            " WHERE until IS NULL AND delivered < last GROUP BY member.stream, delivered"
        )
        behind: dict[str, list[tuple[int, int]]] = {}
        for stream, delivered, patients in rows:
            behind.setdefault(stream, []).append((delivered, patients))
        deliveries = streams = 0
        for stream, positions in behind.items():
            good = _still_good(db, stream, min(positions)[0], now)
            for delivered, patients in positions:
                lacking = len(good) - bisect_right(good, delivered)
                deliveries += lacking * patients
                streams += patients if lacking else 0
        return Lag(deliveries, streams)


def _still_good(db: sqlite3.Connection, stream: str, above: int, now: int) -> list[int]:
    """The numbers above one of the messages that have not expired, ascending."""
    rows = db.execute(
        "SELECT number, expires FROM messages WHERE stream = ? AND number > ? ORDER BY number DESC LIMIT ?",
        (stream, above, NEWEST),
    )
    return sorted(number for number, expires in rows if expires >= now)


class Metrics(Collector):
    """All figures of one doctor."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._lag: Lag | None = None
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(self)

    async def exposition(self) -> bytes:
        """Everything, as `CONTENT_TYPE`. What a database that cannot be read would tell is missing: the rest is wanted then most."""
        self._lag = None
        with contextlib.suppress(UserError, StorageError, sqlite3.Error):
            self._lag = await asyncio.to_thread(queue_lag, self._gateway.database, clock().wall)
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client calls at a scrape, on the event loop."""
        yield from self._handshakes(self._gateway.house.tally)
        yield from self._presence()
        yield from self._groups()
        yield from self._messages()
        yield from self._store()

    def _handshakes(self, tally: Tally) -> Iterator[Metric]:
        house = self._gateway.house
        handshakes = CounterMetricFamily(
            "telemed_handshakes",
            "Handshakes by how they ended; reason: the check's number, the device's alert, or why the door was shut.",
            labels=("outcome", "reason", "alert"),
        )
        handshakes.add_metric(("established", "", ""), tally.established)
        handshakes.add_metric(("late", "", ""), tally.late)
        _by_check(handshakes, tally.refused, "refused")
        for code, count in tally.given_up.items():
            handshakes.add_metric(("given_up", code.name, code.name), count)
        for why, count in tally.turned_away.items():
            handshakes.add_metric(("turned_away", why.name.lower(), ""), count)
        yield handshakes
        yield _gauge(
            "telemed_handshakes_unfinished", "Connections without a session now.", house.door.unfinished
        )
        crowded = house.door.crowded(clock().elapsed)
        yield _gauge("telemed_door_crowded", "1 while newcomers have to show a cookie.", crowded)
        broken = CounterMetricFamily(
            "telemed_session_failures",
            "Sessions that broke a rule, by the check's number.",
            labels=("reason", "alert"),
        )
        _by_check(broken, tally.broken)
        yield broken
        yield _counts(
            "telemed_strangers_refused",
            "Refusals of whoever had not proved a key on the roster, by check or door.",
            "reason",
            house.ledger.refused,
        )

    def _presence(self) -> Iterator[Metric]:
        house = self._gateway.house
        sessions = house.fanout.sessions.values()
        established = sum(session.holds_key for session in sessions)
        yield _gauges(
            "telemed_sessions",
            "Sessions now; established: it was given a group's key.",
            "state",
            {"established": established, "connecting": len(sessions) - established},
        )
        standings = Counter(member.standing for member in house.roster.members())
        yield _gauges(
            "telemed_patients",
            "Patients on the roster.",
            "standing",
            {standing.value: standings[standing] for standing in Standing},
        )

    def _groups(self) -> Iterator[Metric]:
        groups = self._gateway.house.fanout.groups
        yield _gauges(
            "telemed_group_epoch",
            "The number of a group's epoch.",
            "group",
            {name: group.epoch_number for name, group in groups.items()},
        )
        yield _gauges(
            "telemed_group_members",
            "Members of a group.",
            "group",
            {name: len(group.members) for name, group in groups.items()},
        )
        readers = GaugeMetricFamily(
            "telemed_group_readers",
            "Connected members that read a group's log: abreast have everything, lagging not yet.",
            labels=("group", "state"),
        )
        for name, group in groups.items():
            readers.add_metric((name, "abreast"), len(group.abreast))
            readers.add_metric((name, "lagging"), len(group.lagging))
        yield readers

    def _messages(self) -> Iterator[Metric]:
        house = self._gateway.house
        yield _counter("telemed_messages_accepted", "Messages that were accepted.", house.fanout.accepted)
        yield _histogram(
            "telemed_fanout_seconds",
            "From a group's message that was accepted, or its new epoch, to the write to each patient that keeps up.",
            house.fanout.log_writer.delays,
        )
        if self._lag is not None:
            yield _gauge(
                "telemed_queue_lag_messages",
                "Accepted and still good, not acknowledged: counted once for each patient that lacks it.",
                self._lag.deliveries,
            )
            yield _gauge(
                "telemed_queue_lag_streams",
                "Streams of members that lack something, counted for each patient.",
                self._lag.streams,
            )
        yield _counter("telemed_receipts", "Acknowledgements that were stored.", house.receipts.stored)
        yield _gauge(
            "telemed_receipts_waiting", "Acknowledgements that wait for the disk.", house.receipts.waiting
        )

    def _store(self) -> Iterator[Metric]:
        writer = self._gateway.house.writer
        yield _histogram(
            "telemed_store_commit_seconds",
            "Transactions, from the beginning until they were on the disk.",
            writer.commits,
        )
        yield _gauge("telemed_writer_queue", "Jobs that wait for their commit.", writer.pending)
        yield _gauge("telemed_ready", "1 while devices are admitted.", self._gateway.ready)


def _by_check(family: CounterMetricFamily, counts: Mapping[Check, int], *labels: str) -> None:
    for check, count in counts.items():
        family.add_metric((*labels, check.number, check.alert.name), count)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    return _labelled(GaugeMetricFamily(name, text, labels=(label,)), values.items())


def _counts(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    return _labelled(CounterMetricFamily(name, text, labels=(label,)), values.items())


def _labelled(family: GaugeMetricFamily | CounterMetricFamily, values: Iterable[tuple[str, float]]) -> Metric:
    for value, count in values:
        family.add_metric((value,), count)
    return family


def _histogram(name: str, text: str, durations: Durations) -> Metric:
    return HistogramMetricFamily(name, text, buckets=durations.cumulative(), sum_value=durations.total)
