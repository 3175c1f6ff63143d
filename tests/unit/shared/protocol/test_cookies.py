"""Cookies: for which message, address and time they hold, what asking for one costs, and how one RETRY leads to a session."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from shared.crypto.suites import SuiteId
from shared.protocol.clock import SECOND, Instant
from shared.protocol.cookies import KEY_LIFETIME, LIFETIME, CookieJar
from shared.protocol.doctor_connection import DoctorConnection
from shared.protocol.events import Alerted, Direction, Event, Failed, RetryAsked, Traced
from shared.protocol.patient_handshake import Hello
from shared.protocol.transitions import State
from shared.wire import messages
from shared.wire.checks import Check
from shared.wire.messages import KeyExchange, KeyExchangeReply, Retry
from shared.wire.opcodes import AlertCode, Opcode
from tests.crypto_tools import entropy, flipped
from tests.protocol_bench import (
    ESTABLISHED,
    WALL,
    Clinic,
    Device,
    FakeLink,
    Tamper,
    faithful,
    frame_of,
    only,
    outcome,
)
from tests.protocol_puppets import PuppetPatient, build
from tests.protocol_stages import P256

HOME, ELSEWHERE = "192.0.2.7", "192.0.2.8"
MESSAGE = KeyExchange(SuiteId.ELGAMAL_P256, bytes(32), bytes(65), b"")


def at(elapsed: int) -> Instant:
    """A moment of the doctor's clock that does not jump."""
    return Instant(WALL, elapsed)


def under_load(seed: str = "jar") -> CookieJar:
    """A jar that demands a cookie from everyone."""
    return CookieJar(entropy(seed), lambda: True)


def baked(jar: CookieJar, when: int = 1_000) -> KeyExchange:
    """The message with the cookie that it was given."""
    return with_cookie(jar.bake(MESSAGE, HOME, at(when)))


def with_cookie(cookie: bytes) -> KeyExchange:
    """The message with any cookie."""
    return msgspec.structs.replace(MESSAGE, cookie=cookie)


def busy_clinic() -> tuple[Clinic, list[bool]]:
    """A doctor whose load the list's one entry says."""
    clinic, load = Clinic(), [True]
    jar = CookieJar(entropy("jar"), lambda: load[0])
    clinic.practice = replace(clinic.practice, cookies=jar)
    return clinic, load


def doctor_at(clinic: Clinic, address: str = HOME) -> DoctorConnection:
    """The doctor's side of a connection from an address."""
    doctor = clinic.doctor_connection()
    doctor.address = address
    return doctor


def join(clinic: Clinic, device: Device, hello: Hello | None = None, tamper: Tamper = faithful) -> FakeLink:
    """A connection from HOME, run until nothing moves."""
    patient = clinic.patient_connection(device, hello)
    return FakeLink(patient, doctor_at(clinic), clinic.clock, tamper=tamper).run()


def names(events: list[Event]) -> list[str]:
    """The messages that were traced."""
    return [event.message for event in events if isinstance(event, Traced)]


def hello_of(frame: bytes) -> KeyExchange:
    """What a KEY_EXCHANGE says."""
    return messages.decode(KeyExchange, frame_of(frame).payload)


# The jar


def test_without_load_everyone_is_admitted() -> None:
    """With no cookie, with a wrong one; and both are refused as soon as there is load."""
    load = [False]
    jar = CookieJar(entropy("jar"), lambda: load[0])
    comers = [MESSAGE, with_cookie(bytes(40))]
    calm = [jar.admits(message, HOME, at(1)) for message in comers]

    load[0] = True

    assert calm == [True, True]
    assert [jar.admits(message, HOME, at(1)) for message in comers] == [False, False]


def test_a_cookie_holds_for_its_message_and_address_alone() -> None:
    """Another suite, nonce, key or address, and any changed bit of the cookie, are another matter."""
    jar = under_load()
    good = baked(jar)
    others = [
        msgspec.structs.replace(good, suite=3),
        msgspec.structs.replace(good, nonce=bytes(31) + b"\1"),
        msgspec.structs.replace(good, kem_public=bytes(64) + b"\1"),
        *(with_cookie(cookie) for cookie in flipped(good.cookie)),
    ]

    assert jar.admits(good, HOME, at(1_000))
    assert not jar.admits(good, ELSEWHERE, at(1_000))
    assert [other for other in others if jar.admits(other, HOME, at(1_000))] == []


@pytest.mark.parametrize("size", [0, 1, 7, 8, 39, 41, 64])
def test_a_cookie_of_another_size_does_not_hold(size: int) -> None:
    """Cut short or with bytes behind it, also in the first seconds of the clock, where an empty time looks young."""
    jar = under_load()
    good = baked(jar, 0).cookie

    assert jar.admits(with_cookie(good), HOME, at(0))
    assert not jar.admits(with_cookie((good + bytes(24))[:size]), HOME, at(0))


def test_a_cookie_holds_for_ten_seconds() -> None:
    """As often as it is shown; not a millisecond longer, and not before it was made."""
    jar = under_load()
    good = baked(jar, 50_000)

    held = [when for when in (49_999, 50_000, 50_000, 60_000, 60_001) if jar.admits(good, HOME, at(when))]

    assert LIFETIME == 10 * SECOND
    assert held == [50_000, 50_000, 60_000]


def test_the_key_changes_every_minute_and_the_one_before_is_still_good() -> None:
    """A cookie from the last moment of a key holds across the change; one from before two changes would not."""
    jar = under_load()
    first = baked(jar, 0)
    last = baked(jar, KEY_LIFETIME - 1)

    assert jar.admits(last, HOME, at(KEY_LIFETIME + 9_000))
    assert baked(jar, 0).cookie != first.cookie, "the same time, another key"

    jar.bake(MESSAGE, HOME, at(2 * KEY_LIFETIME + 9_000))
    assert not jar.admits(last, HOME, at(KEY_LIFETIME + 9_000)), "its key is gone, whatever its age"


def test_another_doctors_cookie_does_not_hold() -> None:
    """A jar knows its own keys."""
    assert not under_load("one").admits(baked(under_load("another")), HOME, at(1_000))


# What it costs


def test_a_retry_costs_no_asymmetric_operation_and_keeps_nothing() -> None:
    """No prekey is made and no nonce drawn for who has not shown a cookie; who has, costs the first prekey."""
    clinic, _ = busy_clinic()
    puppet = PuppetPatient(clinic.patient(suite=P256), clinic.clock, clinic.random)
    drawn: list[int] = []

    def counted(size: int) -> bytes:
        drawn.append(size)
        return clinic.random(size)

    clinic.practice = replace(clinic.practice, random=counted)
    ring = clinic.practice.prekeys
    nonce = bytes(32)
    asked, admitted = doctor_at(clinic), doctor_at(clinic)

    asked.receive_data(puppet.key_exchange(nonce=nonce), clinic.clock.now)
    retry = frame_of(asked.data_to_send())
    without = (dict(ring._current), list(ring._held), list(drawn), asked._phase)
    cookie = messages.decode(Retry, retry.payload).cookie
    admitted.receive_data(puppet.key_exchange(nonce=nonce, cookie=cookie), clinic.clock.now)

    assert (asked.state, retry.opcode) == (State.CLOSED, Opcode.RETRY)
    assert without == ({}, [], [], None)
    assert (admitted.state, drawn) == (State.AWAIT_AUTH_REQUEST, [32])
    assert list(ring._current) == [SuiteId.ELGAMAL_P256]


def test_a_refused_suite_is_told_before_a_cookie_is_asked_for() -> None:
    """V-010 costs less than a cookie, and coming again would not help."""
    clinic, _ = busy_clinic()
    puppet = PuppetPatient(clinic.patient(suite=P256), clinic.clock, clinic.random)
    doctor = doctor_at(clinic)

    doctor.receive_data(puppet.key_exchange(suite=9), clinic.clock.now)

    assert outcome(doctor).verdict == ("V-010", AlertCode.UNSUPPORTED, False)


@pytest.mark.parametrize("case", ["forged", "other address", "other nonce", "too late"])
def test_who_shows_no_good_cookie_gets_another_retry(case: str) -> None:
    """Its cookie is good for what was sent: the third connection is let in."""
    clinic, _ = busy_clinic()
    puppet = PuppetPatient(clinic.patient(suite=P256), clinic.clock, clinic.random)
    nonce = clinic.random(32)

    def say(cookie: bytes, own: bytes = nonce, address: str = HOME) -> DoctorConnection:
        doctor = doctor_at(clinic, address)
        doctor.receive_data(puppet.key_exchange(nonce=own, cookie=cookie), clinic.clock.now)
        return doctor

    def given(doctor: DoctorConnection) -> bytes:
        frame = frame_of(doctor.data_to_send())
        assert (doctor.state, frame.opcode) == (State.CLOSED, Opcode.RETRY)
        return messages.decode(Retry, frame.payload).cookie

    first = given(say(b""))
    assert say(first).state is State.AWAIT_AUTH_REQUEST
    if case == "too late":
        clinic.clock.advance(LIFETIME + 1)
    shown = clinic.random(40) if case == "forged" else first
    own = clinic.random(32) if case == "other nonce" else nonce
    address = ELSEWHERE if case == "other address" else HOME

    second = given(say(shown, own, address))

    assert say(second, own, address).state is State.AWAIT_AUTH_REQUEST


# The patient


def test_one_retry_leads_to_a_session() -> None:
    """A second connection, the same nonce and ephemeral key, the cookie; both tell one story of it."""
    clinic, _ = busy_clinic()
    device = clinic.patient()
    first = join(clinic, device)
    hello = only(RetryAsked, first.patient_events).hello

    second = join(clinic, device, hello)

    before, after = (hello_of(link.sent[Direction.SENT][0]) for link in (first, second))
    retry = messages.decode(Retry, frame_of(first.sent[Direction.RECEIVED][0]).payload)
    assert first.states == (State.CLOSED, State.CLOSED)
    assert names(first.patient_events) == names(first.doctor_events) == ["KEY_EXCHANGE", "RETRY"]
    assert after == msgspec.structs.replace(before, cookie=retry.cookie)
    assert second.states == ESTABLISHED


def test_the_connection_that_was_told_to_retry_forgets_the_ephemeral_key() -> None:
    """It belongs to the next one, which erases it when its handshake is over."""
    clinic, _ = busy_clinic()
    link = join(clinic, clinic.patient())

    only(RetryAsked, link.patient_events)
    assert link.patient._phase is None


def test_a_retry_event_does_not_print_the_private_key() -> None:
    """Events end in logs."""
    clinic, _ = busy_clinic()
    event = only(RetryAsked, join(clinic, clinic.patient(suite=P256)).patient_events)

    assert "private" not in repr(event)
    assert "PrivateKey" not in repr(event)


def test_a_second_retry_in_one_attempt_is_not_followed() -> None:
    """It is a hint that the doctor is busy; else whoever injects RETRYs would keep a device connecting for ever."""
    clinic, _ = busy_clinic()
    device = clinic.patient()
    hello = only(RetryAsked, join(clinic, device).patient_events).hello
    clinic.clock.advance(LIFETIME + 1)

    again = join(clinic, device, hello)

    assert again.states == (State.CLOSED, State.CLOSED)
    assert names(again.patient_events) == ["KEY_EXCHANGE", "RETRY"]
    assert [event for event in again.patient_events if isinstance(event, RetryAsked)] == []
    assert only(Alerted, again.patient_events) == Alerted(AlertCode.BUSY, 0, authentic=False)


def test_an_injected_retry_costs_one_more_connection_and_nothing_else() -> None:
    """The doctor has no load and takes any cookie; the session is the same as ever."""
    clinic, load = busy_clinic()
    load[0] = False
    device = clinic.patient()
    forged = build(Opcode.RETRY, messages.encode(Retry(b"forged" + bytes(34))))

    def inject(direction: Direction, index: int, frame: bytes) -> list[bytes]:
        return [forged] if (direction, index) == (Direction.RECEIVED, 0) else [frame]

    first = join(clinic, device, tamper=inject)
    second = join(clinic, device, only(RetryAsked, first.patient_events).hello)

    assert (first.patient.state, first.doctor.state) == (State.CLOSED, State.AWAIT_AUTH_REQUEST)
    assert second.states == ESTABLISHED


def test_a_retry_after_the_reply_is_refused() -> None:
    """V-005: it comes instead of KEY_EXCHANGE_REPLY or not at all."""
    clinic = Clinic()
    patient, doctor = clinic.patient_connection(clinic.patient()), clinic.doctor_connection()
    doctor.receive_data(patient.data_to_send(), clinic.clock.now)
    patient.receive_data(doctor.data_to_send(), clinic.clock.now)
    assert patient.state is State.AWAIT_RESPONSE

    patient.receive_data(build(Opcode.RETRY, messages.encode(Retry(bytes(40)))), clinic.clock.now)

    assert only(Failed, patient.take_events()).check is Check.OPCODE_IN_STATE


# The transcript


@pytest.mark.parametrize("change", ["taken off", "another"])
def test_the_transcript_covers_the_cookie(change: str) -> None:
    """The load is over, so the doctor would take M1 with any cookie: it is th_1 that differs, and M3 does not open."""
    clinic, load = busy_clinic()
    device = clinic.patient(suite=P256)
    hello = only(RetryAsked, join(clinic, device).patient_events).hello
    load[0] = False
    cookie = b"" if change == "taken off" else bytes(40)
    other = build(Opcode.KEY_EXCHANGE, messages.encode(msgspec.structs.replace(hello.message, cookie=cookie)))

    def swap(direction: Direction, index: int, frame: bytes) -> list[bytes]:
        return [other] if (direction, index) == (Direction.SENT, 0) else [frame]

    tampered = join(clinic, device, hello, tamper=swap)

    assert only(Failed, tampered.doctor_events).check is Check.REQUEST_OPENS
    assert join(clinic, device, hello).states == ESTABLISHED


def test_the_first_hello_and_the_retry_do_not_count() -> None:
    """th_1 is over the KEY_EXCHANGE with the cookie and its reply; over the first one, M3 does not open."""
    clinic, _ = busy_clinic()
    puppet = PuppetPatient(clinic.patient(suite=P256), clinic.clock, clinic.random)
    now, nonce = clinic.clock.now, clinic.random(32)
    asked = doctor_at(clinic)
    first = puppet.key_exchange(nonce=nonce)
    asked.receive_data(first, now)
    cookie = messages.decode(Retry, frame_of(asked.data_to_send()).payload).cookie
    states = []
    for counted in (None, first):
        doctor = doctor_at(clinic)
        doctor.receive_data(puppet.key_exchange(nonce=nonce, cookie=cookie), now)
        m2 = doctor.data_to_send()
        assert messages.decode(KeyExchangeReply, frame_of(m2).payload).doctor_id == "doctor"
        puppet.m1 = counted or puppet.m1
        doctor.receive_data(puppet.auth_request(m2), now)
        states.append((doctor.state, outcome(doctor).failed))

    assert states == [(State.AWAIT_VERIFIER, None), (State.FAILED, Check.REQUEST_OPENS)]
