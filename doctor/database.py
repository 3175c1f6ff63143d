"""The doctor's schema, and nothing else: `MIGRATIONS` brings a database from any earlier version to the present one.

Two ideas carry it. A stream is one numbered sequence of messages (`group:everyone`, `patient:bed-01`). A *membership* is an interval of a stream:
who was a member when a number was assigned is a recipient of it, so recipients need no rows of their own, and what
a patient has acknowledged is one number a membership. Bodies and invitation secrets are sealed (`shared.storage.sealed`).
"""

from __future__ import annotations

FIRST = """
CREATE TABLE patients (
    patient_id  TEXT PRIMARY KEY,
    algorithm   INTEGER NOT NULL,
    public_key  BLOB NOT NULL,
    fingerprint TEXT NOT NULL UNIQUE,        -- a key never has a second id, nor a tombstone's key a new one
    standing    TEXT NOT NULL CHECK (standing IN ('active', 'retired', 'revoked')),
    invitation  BLOB,
    enrolled_at INTEGER NOT NULL,
    last_seen   INTEGER NOT NULL
) STRICT;

CREATE TABLE invitations (
    invitation_id BLOB PRIMARY KEY,
    secret        BLOB,                      -- sealed; NULL once it is used up, expired or voided
    expires       INTEGER NOT NULL,          -- 0: never
    uses_left     INTEGER NOT NULL,
    patient_id    TEXT,                      -- NULL: a fleet invitation, derived ids only
    groups        TEXT NOT NULL,             -- names, separated by spaces
    created       INTEGER NOT NULL
) STRICT;

CREATE TABLE groups (
    name    TEXT PRIMARY KEY,
    epoch   INTEGER NOT NULL,                -- the last epoch that was begun
    created INTEGER NOT NULL
) STRICT;

CREATE TABLE streams (
    stream TEXT PRIMARY KEY,
    last   INTEGER NOT NULL                  -- the last number that was assigned
) STRICT;

CREATE TABLE memberships (
    stream     TEXT NOT NULL REFERENCES streams (stream),
    patient_id TEXT NOT NULL REFERENCES patients (patient_id),
    start      INTEGER NOT NULL,             -- numbers above it are meant for the patient …
    until      INTEGER,                      -- … up to this one; NULL while the membership lasts
    reason     TEXT CHECK (reason IN ('removed', 'retired', 'revoked')),
    delivered  INTEGER NOT NULL,             -- everything up to here is acknowledged
    PRIMARY KEY (stream, patient_id, start)
) STRICT;
CREATE UNIQUE INDEX one_current_membership ON memberships (stream, patient_id) WHERE until IS NULL;
CREATE INDEX memberships_of_patient ON memberships (patient_id);

CREATE TABLE messages (
    stream     TEXT NOT NULL REFERENCES streams (stream),
    number     INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    expires    INTEGER NOT NULL,
    envelope   BLOB NOT NULL,
    signature  BLOB NOT NULL,
    salt       BLOB NOT NULL,
    body       BLOB NOT NULL,                -- sealed
    PRIMARY KEY (stream, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE expired (                       -- acknowledged, but shown to nobody: it came too late
    stream     TEXT NOT NULL,
    number     INTEGER NOT NULL,
    patient_id TEXT NOT NULL,
    PRIMARY KEY (stream, number, patient_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE answers (                       -- to requests with an Idempotency-Key
    key     TEXT PRIMARY KEY,
    request BLOB NOT NULL,                   -- SHA-256 of what was asked
    answer  BLOB NOT NULL,
    created INTEGER NOT NULL
) STRICT;

CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY,
    time     INTEGER NOT NULL,
    actor    TEXT NOT NULL,
    action   TEXT NOT NULL,
    object   TEXT NOT NULL,
    detail   TEXT NOT NULL,
    hash     BLOB NOT NULL
) STRICT;
"""

SECOND = """
CREATE TABLE reports (
    patient_id TEXT NOT NULL REFERENCES patients (patient_id),
    report_id  BLOB NOT NULL,                -- chosen by the device; the same however often it sends the report
    kind       INTEGER NOT NULL,
    created    INTEGER NOT NULL,             -- by the device's clock
    received   INTEGER NOT NULL,
    body       BLOB NOT NULL,                -- sealed
    PRIMARY KEY (patient_id, report_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX reports_by_arrival ON reports (patient_id, received);
"""

THIRD = """
-- Each patient has a stream of its own. One that is retired gets it when it comes back.
INSERT INTO streams SELECT 'patient:' || patient_id, 0 FROM patients WHERE standing = 'active';
INSERT INTO memberships SELECT 'patient:' || patient_id, patient_id, 0, NULL, NULL, 0 FROM patients
    WHERE standing = 'active';
"""

FOURTH = """
CREATE TABLE facts (                         -- what the database says of itself, see doctor.facts
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL                      -- sealed
) STRICT;
"""

MIGRATIONS = (FIRST, SECOND, THIRD, FOURTH)
