"""Doctors that lie to their patients: in the handshake, in records, in what they sign. One row each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lab.evil.clinic import DAY, Clinic
from lab.evil.letters import BODY, envelope, letter
from lab.evil.misbehaviour import Act, Attack, Liar, Misbehaviour, drops, fails
from lab.evil.peer import equations as eq
from lab.evil.peer import wire
from lab.evil.peer.doctor import Doctor, DoctorLies
from lab.evil.peer.groups import Epoch
from lab.evil.peer.sessions import Records, clear_alert, sealed_alert
from lab.evil.peer.suites import ECDSA, FFDHE3072, HYBRID, P256, Suite, element, new_signer, prime
from lab.evil.sides import How, PatientSide, Refusal
from lab.evil.stages import HOME, attended, doctor_ear, one, receive, visit
from shared.protocol.clock import SECOND
from shared.wire.checks import Check
from shared.wire.opcodes import AlertCode


def handshake(
    lies: Callable[[Clinic, Suite], DoctorLies] | DoctorLies,
) -> Act:
    """A doctor that goes through its handshake with these lies, then sends the group's key."""

    def act(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
        told = (lies(clinic, suite) if callable(lies) else lies) if lie else DoctorLies()
        peer, side = visit(clinic, suite, told)
        mark = len(clinic.effects)
        if receive(peer, side):
            epoch = Epoch.begin(peer.practice.doctor_id, HOME.name, 5, [], [], clinic.random)
            side.take(peer.record(wire.GROUP_KEY, epoch.group_key()))
        return Attack(side, mark, lambda frame: doctor_ear(peer, frame))

    return act


def lie(
    name: str,
    does: str,
    answer: Refusal,
    lies: Callable[[Clinic, Suite], DoctorLies] | DoctorLies,
    suites: tuple[Suite, ...] = (HYBRID, P256),
    liar: Liar = Liar.DOCTOR,
) -> Misbehaviour:
    """A row about a handshake."""
    return Misbehaviour(name, liar, does, answer, handshake(lies), suites)


def _another_signs_prekey(clinic: Clinic, suite: Suite) -> DoctorLies:
    return DoctorLies(prekey_signer=new_signer(suite.algorithm, clinic.random))


def _another_signs(clinic: Clinic, suite: Suite) -> DoctorLies:
    return DoctorLies(signer=new_signer(suite.algorithm, clinic.random))


def _swapped_prekey(clinic: Clinic, suite: Suite) -> DoctorLies:
    other = suite.generate(clinic.random).public
    return DoctorLies(reply=lambda reply: reply._replace(kem_public=other))


def _until(milliseconds: int) -> DoctorLies:
    return DoctorLies(statement=lambda reply: reply._replace(valid_until=reply.valid_until + milliseconds))


def _claiming(**changes: Any) -> DoctorLies:
    return DoctorLies(claims=lambda claims: claims._replace(**changes))


def _bent(kem_public: bytes) -> bytes:
    return kem_public[:-1] + bytes([kem_public[-1] ^ 1])


def _another_time(milliseconds: int) -> DoctorLies:
    return DoctorLies(claims=lambda claims: claims._replace(timestamp=claims.timestamp + milliseconds))


HANDSHAKES = (
    lie(
        "impostor-name",
        "answers under another doctor's name",
        fails(Check.DOCTOR_PINNED),
        DoctorLies(statement=lambda reply: reply._replace(doctor_id="another")),
    ),
    lie(
        "forged-prekey",
        "offers a prekey that another key has signed",
        fails(Check.PREKEY_SIGNATURE),
        _another_signs_prekey,
        liar=Liar.STRANGER,
    ),
    lie(
        "swapped-prekey",
        "puts another prekey beside a true signature",
        fails(Check.PREKEY_SIGNATURE),
        _swapped_prekey,
        liar=Liar.MIDDLE,
    ),
    lie(
        "prekey-of-another-suite",
        "offers a prekey that it signed for another suite",
        fails(Check.PREKEY_SIGNATURE),
        DoctorLies(signed_suite=lambda suite: suite ^ 1),
    ),
    lie(
        "prekey-wrong-label",
        "signs its prekey under an envelope's label",
        fails(Check.PREKEY_SIGNATURE),
        DoctorLies(prekey_label=eq.ENVELOPE_SIGNATURE),
    ),
    lie("past-prekey", "offers a prekey of a minute ago", fails(Check.PREKEY_FRESH), _until(-61 * SECOND)),
    lie("future-prekey", "offers a prekey of tomorrow", fails(Check.PREKEY_FRESH), _until(DAY)),
    lie(
        "prekey-no-element",
        "signs a prekey that is no element",
        fails(Check.PREKEY_ELEMENT),
        DoctorLies(statement=lambda reply: reply._replace(kem_public=_bent(reply.kem_public))),
    ),
    lie(
        "prekey-one",
        "signs 1 as its prekey",
        fails(Check.PREKEY_ELEMENT),
        DoctorLies(statement=lambda reply: reply._replace(kem_public=element(1))),
        (FFDHE3072,),
    ),
    lie(
        "prekey-minus-one",
        "signs p − 1 as its prekey",
        fails(Check.PREKEY_ELEMENT),
        DoctorLies(statement=lambda reply: reply._replace(kem_public=element(prime() - 1))),
        (FFDHE3072,),
    ),
    lie(
        "reply-trailing-byte",
        "puts a byte behind its reply",
        fails(Check.PAYLOAD_CANONICAL),
        DoctorLies(reply_frame=lambda f: wire.build(f[1], f[wire.HEADER :] + b"\0")),
    ),
    lie(
        "opcode-of-the-patient",
        "answers with an opcode of the patient's",
        fails(Check.OPCODE_IN_STATE),
        DoctorLies(reply_frame=lambda f: f[:1] + bytes([wire.KEY_EXCHANGE]) + f[2:]),
    ),
    lie(
        "response-before-reply",
        "answers a greeting with an AUTH_RESPONSE",
        fails(Check.OPCODE_IN_STATE),
        DoctorLies(reply_frame=lambda f: f[:1] + bytes([wire.AUTH_RESPONSE]) + f[2:]),
    ),
    lie(
        "oversize-reply",
        "announces 4,097 bytes before it is authentic",
        fails(Check.FRAME_LENGTH),
        DoctorLies(reply_frame=lambda f: wire.header(wire.KEY_EXCHANGE_REPLY, 4097) + f[wire.HEADER :]),
    ),
    lie(
        "response-wrong-key",
        "seals its response under another key",
        fails(Check.RESPONSE_OPENS),
        DoctorLies(response_seal=lambda key: bytes(32)),
    ),
    lie(
        "response-misbinding",
        "responds to another patient's id",
        fails(Check.RESPONSE_PATIENT),
        _claiming(patient_id="bystander"),
    ),
    lie(
        "response-other-nonce",
        "returns another nonce than the request's",
        fails(Check.RESPONSE_NONCE),
        _claiming(patient_nonce=bytes(32)),
    ),
    lie(
        "response-without-key",
        "does not know the session key K_i",
        fails(Check.RESPONSE_CONFIRMS),
        DoctorLies(session_key=lambda key: bytes(32)),
    ),
    lie(
        "response-bad-mac",
        "changes one bit of its proof",
        fails(Check.RESPONSE_CONFIRMS),
        DoctorLies(
            proof=lambda p: p._replace(confirmation=bytes([p.confirmation[0] ^ 1]) + p.confirmation[1:])
        ),
    ),
    lie(
        "response-signed-by-another",
        "lets another key sign its response",
        fails(Check.RESPONSE_SIGNATURE),
        _another_signs,
    ),
    lie(
        "response-wrong-label",
        "signs its response under the label of a request",
        fails(Check.RESPONSE_SIGNATURE),
        DoctorLies(label=eq.AUTH_SIGNATURE),
    ),
    lie(
        "future-response",
        "is 46 s ahead in its response",
        fails(Check.RESPONSE_CLOCK),
        _another_time(46 * SECOND),
    ),
    lie(
        "past-response",
        "is 46 s behind in its response",
        fails(Check.RESPONSE_CLOCK),
        _another_time(-46 * SECOND),
    ),
)

# Records

Play = Callable[[Doctor, PatientSide, Epoch, bool], bytes]


def session(play: Play) -> Act:
    """A doctor with an established session; `play` makes its next frame, true or not."""

    def act(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
        peer, side, epoch = attended(clinic, suite)
        mark = len(clinic.effects)
        side.take(play(peer, side, epoch, lie))
        return Attack(side, mark, lambda frame: doctor_ear(peer, frame))

    return act


def record(name: str, does: str, answer: Refusal, play: Play, liar: Liar = Liar.DOCTOR) -> Misbehaviour:
    """A row about a session."""
    return Misbehaviour(name, liar, does, answer, session(play))


def _epoch(step: int) -> Play:
    def play(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
        number = epoch.number + (step if lie else 1)
        following = Epoch.begin(peer.practice.doctor_id, HOME.name, number, [], [], peer.random)
        return peer.record(wire.GROUP_KEY, following.group_key())

    return play


def _next(peer: Doctor, side: PatientSide, **changes: Any) -> wire.Envelope:
    made = envelope(side.clinic, peer.practice.doctor_id, peer.practice.envelope_key, 10, 0)
    return made._replace(**changes)


def _truth(peer: Doctor, side: PatientSide) -> wire.SignedMessage:
    return letter(peer.practice.envelope_key, _next(peer, side))


def sealed(play: Callable[[Doctor, PatientSide], wire.SignedMessage]) -> Play:
    """A broadcast of a message."""

    def act(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
        return epoch.broadcast(0, play(peer, side) if lie else _truth(peer, side))

    return act


def direct(play: Callable[[Doctor, PatientSide], wire.SignedMessage]) -> Play:
    """The same as a record."""

    def act(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
        message = play(peer, side) if lie else _truth(peer, side)
        return peer.record(wire.DIRECT, wire.Direct(0, message))

    return act


def _altered(**changes: Any) -> Callable[[Doctor, PatientSide], wire.SignedMessage]:
    """A message whose envelope says something else, and is signed so."""
    return lambda peer, side: letter(peer.practice.envelope_key, _next(peer, side, **changes))


def _forged(peer: Doctor, side: PatientSide) -> wire.SignedMessage:
    """The envelope names the doctor's key, and another key signs it."""
    return letter(new_signer(ECDSA, peer.random), _next(peer, side))


def _swapped_body(peer: Doctor, side: PatientSide) -> wire.SignedMessage:
    return _truth(peer, side)._replace(body=b"Take twenty.")


def _other_salt(peer: Doctor, side: PatientSide) -> wire.SignedMessage:
    return _truth(peer, side)._replace(salt=b"\1" * 16)


def _no_body(peer: Doctor, side: PatientSide) -> wire.SignedMessage:
    return _truth(peer, side)._replace(body=None)


def _respelled_envelope(peer: Doctor, side: PatientSide) -> wire.SignedMessage:
    """A signature over a second spelling of the envelope: the number in two bytes."""
    key = peer.practice.envelope_key
    spelled = wire.respelled(_next(peer, side), 4, b"\xcc\x0a")
    return wire.SignedMessage(spelled, key.sign(eq.ENVELOPE_SIGNATURE, spelled), bytes(16), BODY)


def _wrong_label(peer: Doctor, side: PatientSide) -> wire.SignedMessage:
    key, encoded = peer.practice.envelope_key, wire.encode(_next(peer, side))
    return wire.SignedMessage(encoded, key.sign(eq.AUTH_SIGNATURE, encoded), bytes(16), BODY)


def _foreign_epoch(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
    used = Epoch.begin(peer.practice.doctor_id, HOME.name, 5, [], [], peer.random) if lie else epoch
    return used.broadcast(0, _truth(peer, side))


def _bent_broadcast(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
    frame = epoch.broadcast(0, _truth(peer, side))
    return frame[:-1] + bytes([frame[-1] ^ lie])


def _other_sequence(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
    frame = epoch.broadcast(0, _truth(peer, side))
    return frame[:29] + bytes([lie]) + frame[30:]


def _short_broadcast(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
    return wire.build(wire.BROADCAST, epoch.key_id) if lie else epoch.broadcast(0, _truth(peer, side))


def _padded_broadcast(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
    return epoch.broadcast_bytes(0, wire.encode(_truth(peer, side)) + bytes(lie))


def _own_direction(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
    following = Epoch.begin(peer.practice.doctor_id, HOME.name, 6, [], [], peer.random)
    if not lie:
        return peer.record(wire.GROUP_KEY, following.group_key())
    reflected = Records(peer.to_doctor.key)
    reflected.count = peer.to_patient.count
    return reflected.seal(wire.GROUP_KEY, following.group_key())


def _counter(step: int) -> Play:
    def play(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
        peer.to_patient.count += step * lie
        return _epoch(1)(peer, side, epoch, False)

    return play


def _other_header(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
    """A record that was sealed as one opcode and is sent as another."""
    following = Epoch.begin(peer.practice.doctor_id, HOME.name, 6, [], [], peer.random)
    plaintext = wire.encode(following.group_key())
    sealed_as = wire.DIRECT if lie else wire.GROUP_KEY
    return peer.to_patient.seal_bytes(wire.GROUP_KEY, plaintext, header_opcode=sealed_as)


def _map_record(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
    message = Epoch.begin(peer.practice.doctor_id, HOME.name, 6, [], [], peer.random).group_key()
    plaintext = wire.encode(message._asdict() if lie else message)
    return peer.to_patient.seal_bytes(wire.GROUP_KEY, plaintext)


def _reflected_receipt(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
    return (
        peer.to_patient.seal(wire.RECEIPT, wire.Receipt([])) if lie else _epoch(1)(peer, side, epoch, False)
    )


def _false_alert(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
    """Somebody on the way says in clear that the patient is revoked; a true alert is a record by now."""
    if lie:
        return clear_alert(AlertCode.REVOKED)
    return peer.record(wire.ALERT, wire.Alert(AlertCode.REVOKED, 5, b""))


def _private_for(name: str) -> Callable[[Doctor, PatientSide], wire.SignedMessage]:
    """A private message for another, or for another key of that name."""

    def play(peer: Doctor, side: PatientSide) -> wire.SignedMessage:
        stream = wire.Stream(wire.PATIENT, name)
        return _altered(stream=stream, fingerprint="a" * 32)(peer, side)

    return play


EPOCHS = (
    record("epoch-repeated", "sends the group's epoch again", fails(Check.EPOCH_NOT_REPEATED), _epoch(0)),
    record("epoch-lower", "sends an epoch that has passed", fails(Check.EPOCH_NOT_LOWER), _epoch(-1)),
    record("epoch-skipped", "skips an epoch", fails(Check.EPOCH_NOT_SKIPPED), _epoch(2)),
    record(
        "foreign-group-key",
        "seals a broadcast under a key that the group never had",
        drops(Check.EPOCH_KEY_KNOWN),
        _foreign_epoch,
    ),
    record("broadcast-bit", "changes a bit of a broadcast", drops(Check.BROADCAST_OPENS), _bent_broadcast),
    record(
        "broadcast-sequence",
        "writes another sequence number before a broadcast",
        drops(Check.BROADCAST_OPENS),
        _other_sequence,
    ),
    record(
        "broadcast-short",
        "sends a broadcast that is shorter than its prefix",
        drops(Check.PAYLOAD_CANONICAL),
        _short_broadcast,
    ),
    record(
        "broadcast-trailing-byte",
        "seals a byte behind the message",
        drops(Check.PAYLOAD_CANONICAL),
        _padded_broadcast,
    ),
)

ENVELOPES = (
    record(
        "envelope-other-doctor",
        "broadcasts an envelope of another doctor",
        drops(Check.ENVELOPE_DOCTOR),
        sealed(_altered(doctor_id="another")),
    ),
    record(
        "envelope-other-key",
        "names another signing key",
        drops(Check.ENVELOPE_DOCTOR),
        sealed(_altered(signing_key="b" * 32)),
    ),
    record(
        "envelope-wrong-label",
        "signs an envelope under the label of a request",
        drops(Check.ENVELOPE_SIGNATURE),
        sealed(_wrong_label),
    ),
    record(
        "envelope-respelled",
        "signs a second spelling of an envelope",
        drops(Check.PAYLOAD_CANONICAL),
        sealed(_respelled_envelope),
    ),
    record(
        "envelope-foreign-group",
        "broadcasts to one group what it signed for another",
        drops(Check.ENVELOPE_TARGET),
        sealed(_altered(stream=wire.Stream(wire.GROUP, "ward-b"))),
    ),
    record(
        "private-broadcast",
        "broadcasts a private message",
        drops(Check.ENVELOPE_TARGET),
        sealed(_private_for("alice")),
    ),
    record(
        "private-of-another",
        "sends one patient the private message of another",
        fails(Check.ENVELOPE_TARGET),
        direct(_private_for("bystander")),
    ),
    record(
        "private-of-another-key",
        "sends a private message for an earlier key of the same name",
        fails(Check.ENVELOPE_TARGET),
        direct(_private_for("alice")),
    ),
    record(
        "body-swapped",
        "puts another body beside the envelope",
        drops(Check.ENVELOPE_BODY),
        sealed(_swapped_body),
    ),
    record(
        "salt-swapped",
        "puts another salt beside the envelope",
        drops(Check.ENVELOPE_BODY),
        sealed(_other_salt),
    ),
    record(
        "body-hidden",
        "leaves the body of a message out that has not expired",
        drops(Check.ENVELOPE_BODY_PRESENT),
        sealed(_no_body),
    ),
    record(
        "hidden-message",
        "leaves a message out and goes on",
        drops(Check.ENVELOPE_PREVIOUS),
        sealed(_altered(number=20, previous=10)),
    ),
    record(
        "hidden-direct",
        "leaves a message out and goes on, in records",
        fails(Check.ENVELOPE_PREVIOUS),
        direct(_altered(number=20, previous=10)),
    ),
    record(
        "direct-forged",
        "sends a record whose envelope another key has signed",
        fails(Check.ENVELOPE_SIGNATURE),
        direct(_forged),
    ),
    record(
        "direct-other-key",
        "names another signing key in a record",
        fails(Check.ENVELOPE_DOCTOR),
        direct(_altered(signing_key="c" * 32)),
    ),
)

RECORDS = (
    record(
        "wrong-direction",
        "seals a record under the patient's own direction",
        fails(Check.RECORD_OPENS),
        _own_direction,
    ),
    record("record-skipped", "leaves a record out", fails(Check.RECORD_OPENS), _counter(1)),
    record(
        "counter-rolled-back",
        "goes back to a counter that it has used",
        fails(Check.RECORD_OPENS),
        _counter(-1),
    ),
    record(
        "record-relabelled",
        "sends as one opcode what it sealed as another",
        fails(Check.RECORD_OPENS),
        _other_header,
    ),
    record("record-as-map", "seals names and values", fails(Check.PAYLOAD_CANONICAL), _map_record),
    record(
        "receipt-to-the-patient",
        "sends a RECEIPT, which only patients do",
        fails(Check.OPCODE_IN_STATE),
        _reflected_receipt,
    ),
    record(
        "false-alert",
        "says in clear, in the middle of a session, that the patient is revoked",
        fails(Check.RECORD_OPENS),
        _false_alert,
        Liar.MIDDLE,
    ),
)

# Alerts and answers before the session


def _forged_sealed_alert(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    """Behind AUTH_REQUEST: an alert under a key that the forger does not have. The true one is the doctor's own."""
    peer, side = visit(clinic, suite)
    now = clinic.clock.now.wall
    side.take(peer.reply(one(side), now))
    peer.open_request(one(side))
    mark = len(clinic.effects)
    assert peer.first is not None  # noqa: S101  open_request has made it
    side.take(sealed_alert(AlertCode.REVOKED, now, bytes(32) if lie else peer.first.alert_key))
    return Attack(side, mark)


def _early_sealed_alert(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    """In place of the reply, where nobody has a key yet; the honest doctor answers."""
    peer, side = visit(clinic, suite)
    mark = len(clinic.effects)
    if lie:
        side.take(sealed_alert(AlertCode.REVOKED, clinic.clock.now.wall, bytes(32)))
    elif receive(peer, side):
        side.take(peer.record(wire.PING, wire.Ping(bytes(8))))
    return Attack(side, mark)


def _clear_alert(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    peer, side = visit(clinic, suite)
    mark = len(clinic.effects)
    if lie:
        side.take(clear_alert(AlertCode.REVOKED))
    elif receive(peer, side):
        side.take(peer.record(wire.PING, wire.Ping(bytes(8))))
    return Attack(side, mark)


def _early_broadcast(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    """A broadcast before the session's first record."""
    peer, side = visit(clinic, suite)
    mark = len(clinic.effects)
    receive(peer, side)
    epoch = Epoch.begin(peer.practice.doctor_id, HOME.name, 5, [], [], peer.random)
    if not lie:
        side.take(peer.record(wire.GROUP_KEY, epoch.group_key()))
    side.take(epoch.broadcast(0, _truth(peer, side)))
    return Attack(side, mark, lambda frame: doctor_ear(peer, frame))


ALERTS = (
    Misbehaviour(
        "forged-sealed-alert",
        Liar.MIDDLE,
        "seals REVOKED under a key of its own",
        fails(Check.RECORD_OPENS),
        _forged_sealed_alert,
    ),
    Misbehaviour(
        "early-sealed-alert",
        Liar.MIDDLE,
        "answers a greeting with a sealed alert",
        fails(Check.RECORD_OPENS),
        _early_sealed_alert,
    ),
    Misbehaviour(
        "clear-alert",
        Liar.MIDDLE,
        "answers a greeting with REVOKED in clear",
        Refusal(How.HINT),
        _clear_alert,
    ),
    Misbehaviour(
        "early-broadcast",
        Liar.DOCTOR,
        "broadcasts before its first record",
        fails(Check.OPCODE_IN_STATE),
        _early_broadcast,
    ),
)

ROWS = (*HANDSHAKES, *EPOCHS, *ENVELOPES, *RECORDS, *ALERTS)
