"""What the doctor's words for states mean, in words for people, and how they are marked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class State:
    """How a state is shown: never by its colour alone."""

    name: str
    label: str
    tone: str  # good, wait, quiet or bad: a class of the stylesheet
    mark: str
    meaning: str


PATIENT_STATES = {
    state.name: state
    for state in (
        State(
            "established",
            "Connected",
            "good",
            "●",
            "The device is connected, has proved who it is and can read.",
        ),
        State(
            "connecting",
            "Connecting",
            "wait",
            "◐",
            "The device has proved who it is and is getting its keys.",
        ),
        State("invited", "Invited", "wait", "◌", "An invitation waits; the device has not used it yet."),
        State("away", "Away", "quiet", "○", "Not connected now. Messages wait for it until they expire."),
        State("retired", "Retired", "quiet", "–", "Taken off the list; the same device may come back."),
        State("revoked", "Revoked", "bad", "✕", "Cut off for good. It can read nothing that was sent since."),
    )
}
DELIVERY_STATES = {
    state.name: state
    for state in (
        State("delivered", "Delivered", "good", "✓", "The device has the message and has confirmed it."),
        State("sent", "Sent", "wait", "➝", "On its way; the device has not confirmed it yet."),
        State("queued", "Waiting", "wait", "◌", "Waits until the device comes back."),
        State("expired", "Expired", "bad", "⌛", "Its time ran out before the device could show it."),
        State("revoked", "Revoked", "bad", "✕", "The patient was revoked before it had the message."),
        State("retired", "Retired", "quiet", "–", "The patient was retired before it had the message."),
    )
}


def describe(name: str, kind: str = "patient") -> State:
    """How a patient's state is shown, or with `kind` "delivery" that of a message."""
    return (DELIVERY_STATES if kind == "delivery" else PATIENT_STATES)[name]
