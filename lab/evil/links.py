"""A faithful network between a real patient and the real doctor."""

from __future__ import annotations

from lab.evil.clinic import Clinic, Device
from lab.evil.sides import DoctorSide, PatientSide


class Link:
    """A real patient and the real doctor, joined by a faithful network. Every frame that crossed is kept."""

    def __init__(self, clinic: Clinic, device: Device, address: str = "192.0.2.1") -> None:
        self.patient = PatientSide(clinic, device)
        self.doctor = DoctorSide(clinic, address)
        self.to_doctor: list[bytes] = []
        self.to_patient: list[bytes] = []

    def run(self) -> Link:
        """Deliver until nothing moves any more."""
        while True:
            upward, downward = self.patient.give(), self.doctor.give()
            if not upward and not downward:
                return self
            self.to_doctor += upward
            self.to_patient += downward
            self.doctor.take(*upward)
            self.patient.take(*downward)

    def say(self, body: bytes) -> bytes:
        """The doctor accepts a message and broadcasts it here; returns the frame."""
        clinic = self.doctor.clinic
        frame = clinic.seal(clinic.accept(body))
        self.doctor.broadcast(frame)
        return frame

    @property
    def up(self) -> bool:
        """Whether both sides are established."""
        return self.patient.established and self.doctor.established
