"""The doctor's schema, and nothing else: `MIGRATIONS` brings a database from any earlier version to the present one.

Two ideas carry it. A stream is one numbered sequence of messages (`group:everyone`, `patient:bed-01`). A *membership* is an interval of a stream:
who was a member when a number was assigned is a recipient of it, so recipients need no rows of their own, and what
a patient has acknowledged is one number a membership. Bodies and invitation secrets are sealed (`shared.storage.sealed`).
Every other value is covered by its row's checksum (`shared.storage.checksums`).
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
    last_seen   INTEGER NOT NULL,
    checksum BLOB GENERATED ALWAYS AS (row_checksum(patient_id, algorithm, public_key, fingerprint, standing, invitation, enrolled_at, last_seen)) STORED
) STRICT;

CREATE TABLE invitations (
    invitation_id BLOB PRIMARY KEY,
    secret        BLOB,                      -- sealed; NULL once it is used up, expired or voided
    expires       INTEGER NOT NULL,          -- 0: never
    uses_left     INTEGER NOT NULL,
    patient_id    TEXT,                      -- NULL: a fleet invitation, derived ids only
    groups        TEXT NOT NULL,             -- names, separated by spaces
    created       INTEGER NOT NULL,
    checksum BLOB GENERATED ALWAYS AS (row_checksum(invitation_id, secret, expires, uses_left, patient_id, groups, created)) STORED
) STRICT;

CREATE TABLE groups (
    name    TEXT PRIMARY KEY,
    epoch   INTEGER NOT NULL,                -- the last epoch that was begun
    created INTEGER NOT NULL,
    checksum BLOB GENERATED ALWAYS AS (row_checksum(name, epoch, created)) STORED
) STRICT;

CREATE TABLE streams (
    stream TEXT PRIMARY KEY,
    last   INTEGER NOT NULL,                 -- the last number that was assigned
    checksum BLOB GENERATED ALWAYS AS (row_checksum(stream, last)) STORED
) STRICT;

CREATE TABLE memberships (
    stream     TEXT NOT NULL REFERENCES streams (stream),
    patient_id TEXT NOT NULL REFERENCES patients (patient_id),
    start      INTEGER NOT NULL,             -- numbers above it are meant for the patient …
    until      INTEGER,                      -- … up to this one; NULL while the membership lasts
    reason     TEXT CHECK (reason IN ('removed', 'retired', 'revoked')),
    delivered  INTEGER NOT NULL,             -- everything up to here is acknowledged
    checksum BLOB GENERATED ALWAYS AS (row_checksum(stream, patient_id, start, until, reason, delivered)) STORED,
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
    body       BLOB,                         -- sealed; NULL once it is erased, so the checksum does not cover it
    checksum BLOB GENERATED ALWAYS AS (row_checksum(stream, number, created, expires, envelope, signature, salt)) STORED,
    PRIMARY KEY (stream, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX messages_with_body ON messages (created) WHERE body IS NOT NULL;

CREATE TABLE expired (                       -- acknowledged, but shown to nobody: it came too late
    stream     TEXT NOT NULL,
    number     INTEGER NOT NULL,
    patient_id TEXT NOT NULL,
    checksum BLOB GENERATED ALWAYS AS (row_checksum(stream, number, patient_id)) STORED,
    PRIMARY KEY (stream, number, patient_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE answers (                       -- to requests with an Idempotency-Key
    key     TEXT PRIMARY KEY,
    request BLOB NOT NULL,                   -- SHA-256 of what was asked
    answer  BLOB NOT NULL,
    created INTEGER NOT NULL,
    checksum BLOB GENERATED ALWAYS AS (row_checksum(key, request, answer, created)) STORED
) STRICT;

CREATE TABLE audit (                         -- each row bears its hash
    sequence INTEGER PRIMARY KEY,
    time     INTEGER NOT NULL,
    actor    TEXT NOT NULL,
    action   TEXT NOT NULL,
    object   TEXT NOT NULL,
    detail   TEXT NOT NULL,
    hash     BLOB NOT NULL
) STRICT;

CREATE TABLE reports (
    patient_id TEXT NOT NULL REFERENCES patients (patient_id),
    report_id  BLOB NOT NULL,                -- chosen by the device; the same however often it sends the report
    kind       INTEGER NOT NULL,
    created    INTEGER NOT NULL,             -- by the device's clock
    received   INTEGER NOT NULL,
    body       BLOB NOT NULL,                -- sealed
    checksum BLOB GENERATED ALWAYS AS (row_checksum(patient_id, report_id, kind, created, received, body)) STORED,
    PRIMARY KEY (patient_id, report_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX reports_by_arrival ON reports (patient_id, received);
CREATE INDEX reports_by_kind ON reports (patient_id, kind, received, created);

CREATE TABLE thresholds (                    -- of those patients for whom others were set than for all
    patient_id TEXT PRIMARY KEY REFERENCES patients (patient_id),
    bounds     TEXT NOT NULL,                -- JSON
    changed    INTEGER NOT NULL,
    checksum BLOB GENERATED ALWAYS AS (row_checksum(patient_id, bounds, changed)) STORED
) STRICT;

CREATE TABLE alerts (                        -- clinical ones
    number          INTEGER PRIMARY KEY,     -- of the audit entry that records it
    patient_id      TEXT NOT NULL REFERENCES patients (patient_id),
    raised          INTEGER NOT NULL,
    latest          INTEGER NOT NULL,
    ended           INTEGER,
    acknowledged    INTEGER,
    acknowledged_by TEXT,
    finding         BLOB NOT NULL,           -- sealed
    checksum BLOB GENERATED ALWAYS AS (row_checksum(number, patient_id, raised, latest, ended, acknowledged, acknowledged_by, finding)) STORED
) STRICT;
CREATE INDEX alerts_that_wait ON alerts (patient_id) WHERE acknowledged IS NULL OR ended IS NULL;

CREATE TABLE facts (                         -- what the database says of itself, see doctor.facts
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL                      -- sealed
) STRICT;

CREATE TABLE operators (                     -- who may log in at the console
    name    TEXT PRIMARY KEY,
    secret  BLOB NOT NULL,                   -- the password's Argon2id hash, sealed
    created INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    checksum BLOB GENERATED ALWAYS AS (row_checksum(name, secret, created, changed)) STORED
) STRICT;
"""

ROTATIONS = """
CREATE TABLE unconfirmed (                   -- patients that may have pinned none but the doctor's former keys
    patient_id TEXT PRIMARY KEY REFERENCES patients (patient_id),
    sequence   INTEGER NOT NULL,             -- of the rotation that they have not confirmed
    checksum BLOB GENERATED ALWAYS AS (row_checksum(patient_id, sequence)) STORED
) STRICT;
"""

SUCCESSORS = """
CREATE TABLE successors (                    -- fleet invitations that a rotation has made in the place of the one before
    invitation_id BLOB PRIMARY KEY,
    former        BLOB NOT NULL,
    checksum BLOB GENERATED ALWAYS AS (row_checksum(invitation_id, former)) STORED
) STRICT;
"""

MIGRATIONS = (FIRST, ROTATIONS, SUCCESSORS)
