"""T6: what was sent once is sent again: six kinds of message in eight contexts, and in each at points that the seed draws.

Law: everything that is replayed was true once. Whether it is refused, and by which check, follows from the receiver's state alone; that
table is written here once more, from SPEC section 12. A replay is judged with what came of it by the end: nobody
was shown a message twice, nothing was stored twice, and whose connection ended comes back and misses nothing.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum, unique
from itertools import product

from lab.evil.clinic import EVERYONE, Ledger
from lab.evil.links import Link
from lab.evil.misbehaviour import Accepted, Deviation, drops, fails, witness
from lab.evil.peer import wire
from lab.evil.sides import DoctorSide, How, PatientSide, Refusal, Side
from lab.evil.tapes import Kind, Stage, bring, set_stage
from lab.faults.row import OnProgress, Tally
from shared.crypto.suites import SUITES, SuiteId
from shared.protocol.transitions import State
from shared.wire.checks import Check


@unique
class Context(Enum):
    """Where it is replayed."""

    SAME_CONNECTION = "the same connection"
    NEW_CONNECTION = "a new connection"
    DOCTOR_RESTARTED = "after the doctor's restart"
    PATIENT_RESTARTED = "after the patient's restart"
    DATABASE_RESTORED = "after the doctor's database was restored"
    OTHER_PATIENT = "another patient's connection"
    OTHER_DIRECTION = "the other direction"
    OLD_EPOCH = "after the group's next epochs"


class Doubled(Deviation):
    """Something took effect twice."""


CASES = tuple(product(Kind, Context))


_DOCTOR_STATES = (
    State.AWAIT_KEY_EXCHANGE,
    State.AWAIT_AUTH_REQUEST,
    State.AWAIT_VERIFIER,
    State.AWAIT_POSITION,
    State.ESTABLISHED,
)


_PATIENT_STATES = (State.AWAIT_REPLY, State.AWAIT_RESPONSE, State.CONFIRMING, State.ESTABLISHED)


_LISTED = {
    (DoctorSide, State.AWAIT_KEY_EXCHANGE): {10},
    (DoctorSide, State.AWAIT_AUTH_REQUEST): {10},
    (DoctorSide, State.AWAIT_VERIFIER): {30},
    (DoctorSide, State.AWAIT_POSITION): {42},
    (DoctorSide, State.ESTABLISHED): {42, 43, 50, 60, 80, 81},
    (PatientSide, State.AWAIT_REPLY): {11, 12},
    (PatientSide, State.AWAIT_RESPONSE): {20},
    (PatientSide, State.CONFIRMING): {31, 41, 60, 80, 81},
    (PatientSide, State.ESTABLISHED): {31, 40, 41, 51, 60, 80, 81},
}
"""SPEC section 12: which opcodes are read in a state, ALERT left out."""


_SEALED_BY = {
    wire.AUTH_REQUEST: Check.REQUEST_OPENS,
    wire.AUTH_RESPONSE: Check.RESPONSE_OPENS,
    wire.SESSION_VERIFIER: Check.VERIFIER_OPENS,
}


def answer(side: Side, frame: bytes, key_id: bytes) -> Refusal:
    """What a side must answer to an old frame in its present state. `key_id`: of the epoch that its group is in."""
    opcode, state = frame[1], side.connection.state
    if opcode not in _LISTED[type(side), state]:
        return fails(Check.OPCODE_IN_STATE)
    if state is State.AWAIT_KEY_EXCHANGE:
        return fails(Check.PAYLOAD_CANONICAL)  # an AUTH_REQUEST is no KEY_EXCHANGE, though both are opcode 10
    if opcode == wire.BROADCAST:
        known = frame[wire.HEADER : wire.HEADER + 16] == key_id
        return Refusal(How.KNOWN) if known else drops(Check.EPOCH_KEY_KNOWN)
    return fails(_SEALED_BY.get(opcode, Check.RECORD_OPENS))


def place(stage: Stage, kind: Kind, context: Context) -> tuple[Side, bytes]:
    """The side that gets the replayed frame, and the frame."""
    clinic, dice, alice = stage.clinic, stage.dice, stage.alice
    frame, to_doctor, device = stage.tape(kind), kind.to_doctor, stage.device
    fresh = context not in (Context.SAME_CONNECTION, Context.OTHER_DIRECTION, Context.OLD_EPOCH)
    if context is Context.SAME_CONNECTION and dice.random() < 0.5:
        return _at_once(stage, kind)
    if context is Context.DOCTOR_RESTARTED:
        clinic.restart()
    elif context is Context.DATABASE_RESTORED:
        clinic.restart(_restored(stage))
    elif context is Context.PATIENT_RESTARTED:
        alice.doctor.take_end()
    elif context is Context.OTHER_PATIENT:
        device = clinic.device("bob", SUITES[SuiteId.ELGAMAL_P256])
    elif context is Context.OTHER_DIRECTION:
        to_doctor = not to_doctor
        fresh = dice.random() < 0.5
    elif context is Context.OLD_EPOCH:
        _turn_epochs(stage)
        fresh = dice.random() < 0.5
    if not fresh:
        for _ in range(dice.randrange(3)):
            stage.say(alice)
        return (alice.doctor if to_doctor else alice.patient), frame
    state = dice.choice(_DOCTOR_STATES if to_doctor else _PATIENT_STATES)
    patient, doctor = bring(clinic, device, to_doctor, state)
    return (doctor if to_doctor else patient), frame


def _at_once(stage: Stage, kind: Kind) -> tuple[Side, bytes]:
    """Right behind the first copy, in a session of its own."""
    following = {
        Kind.AUTH_REQUEST: State.AWAIT_VERIFIER,
        Kind.AUTH_RESPONSE: State.CONFIRMING,
        Kind.SESSION_VERIFIER: State.AWAIT_POSITION,
    }.get(kind, State.ESTABLISHED)
    patient, doctor = bring(stage.clinic, stage.device, kind.to_doctor, following)
    if kind is Kind.BROADCAST:
        frame = stage.clinic.seal(stage.clinic.accept(b"twice"))
        stage.bystander.doctor.broadcast(frame)
        stage.bystander.run()
        patient.take(frame)
        return patient, frame
    target, source = (doctor, patient) if kind.to_doctor else (patient, doctor)
    return target, [frame for frame in source.said if frame[1] in kind.opcodes][-1]


def _restored(stage: Stage) -> Ledger:
    """The backup of before Alice's session: its roster, invitations, receipts and reports.

    The streams are as they were, for what becomes of numbers that a backup does not know is the operator's to confirm.
    """
    stage.backup.accepted = stage.clinic.ledger.accepted
    return stage.backup


def _turn_epochs(stage: Stage) -> None:
    """One to three new epochs, each handed to both."""
    for _ in range(stage.dice.randint(1, 3)):
        stage.clinic.next_epoch()
        for link in (stage.bystander, stage.alice):
            link.doctor.send_group_key()
            link.run()
        if stage.dice.random() < 0.5:
            stage.say(stage.alice)


def replay(kind: Kind, context: Context, seed: int) -> None:
    """Replay once and judge. Raises Deviation."""
    stage = set_stage(seed)
    side, frame = place(stage, kind, context)
    clinic = stage.clinic
    expected = answer(side, frame, clinic.epoch.key_id)
    effects, refusals = len(clinic.effects), len(side.refusals)
    side.take(frame)
    if clinic.effects[effects:]:
        raise Accepted(f"opcode {frame[1]} took effect: {'; '.join(clinic.effects[effects:])}")
    told = side.refusals[refusals:]
    if told != ([] if expected.how is How.KNOWN else [expected]):
        raise Deviation(
            f"opcode {frame[1]} was answered with {[str(each) for each in told]}, expected {expected}"
        )
    if side.ended != (expected.how is How.FAILED):
        raise Deviation(f"opcode {frame[1]}: the connection is {side.connection.state.value}")
    _close(stage)


def _close(stage: Stage) -> None:
    """Everyone comes back and goes on; nobody has anything twice."""
    clinic = stage.clinic
    if duplicates(clinic.effects):
        raise Doubled(f"something took effect twice: {clinic.effects}")
    witness(clinic, stage.bystander)
    Link(clinic, stage.device).run()
    if duplicates(clinic.effects):
        raise Doubled("a device that came back was shown a message twice")
    said = [message.body for _, message in clinic.ledger.accepted[EVERYONE]]
    shown = [body for _, body in stage.device.inbox.messages.get(EVERYONE, [])]
    if shown != said:
        raise Deviation(f"alice was shown {shown}, the doctor said {said}")


def duplicates(effects: list[str]) -> int:
    """How often a message was shown, or a report stored, beyond the first time."""
    seen = Counter(effect for effect in effects if " shows " in effect or " is stored: " in effect)
    return sum(times - 1 for times in seen.values())


def try_replays(count: int, seed: int, on_progress: OnProgress) -> Tally:
    """So many replays, all cases in turn."""
    survived = leaked = duplicated = 0
    findings: list[str] = []
    for index in range(count):
        kind, context = CASES[index % len(CASES)]
        drawn = seed * 1_000_003 + index
        case = f"{kind.value} in {context.value}, seed {drawn}"
        try:
            replay(kind, context, drawn)
            survived += 1
        except Accepted as error:
            leaked += 1
            findings.append(f"{case}: {error}")
        except Doubled as error:
            duplicated += 1
            findings.append(f"{case}: {error}")
        except Deviation as error:
            findings.append(f"{case}: {error}")
        except Exception as error:  # a bug of either side must become a finding, not end the row
            findings.append(f"{case}: {type(error).__name__}: {error}")
        on_progress(index + 1, count)
    return Tally(count, survived, duplicated=duplicated, leaked=leaked, findings=tuple(findings))
