"""The doctor's schema, and nothing else: `MIGRATIONS` brings a database from any earlier version to the present one.

Two ideas carry it. A stream is one numbered sequence of messages (`group:everyone`, `patient:bed-01`). A *membership* is an interval of a stream:
who was a member when a number was assigned is a recipient of it, so recipients need no rows of their own, and what
a patient has acknowledged is one number a membership. Bodies and invitation secrets are sealed (`shared.storage.sealed`).
Every other value is covered by its row's checksum (`shared.storage.checksums`). FIRST says what each column is, FIFTH has the present tables.
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

FIFTH = """
-- Every row that is not sealed as a whole bears a checksum (shared.storage.checksums); a body may be erased.
CREATE TABLE new_patients (
    patient_id  TEXT PRIMARY KEY,
    algorithm   INTEGER NOT NULL,
    public_key  BLOB NOT NULL,
    fingerprint TEXT NOT NULL UNIQUE,
    standing    TEXT NOT NULL CHECK (standing IN ('active', 'retired', 'revoked')),
    invitation  BLOB,
    enrolled_at INTEGER NOT NULL,
    last_seen   INTEGER NOT NULL,
    checksum BLOB GENERATED ALWAYS AS (row_checksum(patient_id, algorithm, public_key, fingerprint, standing, invitation, enrolled_at, last_seen)) STORED
) STRICT;
INSERT INTO new_patients (patient_id, algorithm, public_key, fingerprint, standing, invitation, enrolled_at, last_seen) SELECT patient_id, algorithm, public_key, fingerprint, standing, invitation, enrolled_at, last_seen FROM patients;
DROP TABLE patients;
ALTER TABLE new_patients RENAME TO patients;
CREATE TABLE new_invitations (
    invitation_id BLOB PRIMARY KEY,
    secret        BLOB,
    expires       INTEGER NOT NULL,
    uses_left     INTEGER NOT NULL,
    patient_id    TEXT,
    groups        TEXT NOT NULL,
    created       INTEGER NOT NULL,
    checksum BLOB GENERATED ALWAYS AS (row_checksum(invitation_id, secret, expires, uses_left, patient_id, groups, created)) STORED
) STRICT;
INSERT INTO new_invitations (invitation_id, secret, expires, uses_left, patient_id, groups, created) SELECT invitation_id, secret, expires, uses_left, patient_id, groups, created FROM invitations;
DROP TABLE invitations;
ALTER TABLE new_invitations RENAME TO invitations;
CREATE TABLE new_groups (
    name    TEXT PRIMARY KEY,
    epoch   INTEGER NOT NULL,
    created INTEGER NOT NULL,
    checksum BLOB GENERATED ALWAYS AS (row_checksum(name, epoch, created)) STORED
) STRICT;
INSERT INTO new_groups (name, epoch, created) SELECT name, epoch, created FROM groups;
DROP TABLE groups;
ALTER TABLE new_groups RENAME TO groups;
CREATE TABLE new_streams (
    stream TEXT PRIMARY KEY,
    last   INTEGER NOT NULL,
    checksum BLOB GENERATED ALWAYS AS (row_checksum(stream, last)) STORED
) STRICT;
INSERT INTO new_streams (stream, last) SELECT stream, last FROM streams;
DROP TABLE streams;
ALTER TABLE new_streams RENAME TO streams;
CREATE TABLE new_memberships (
    stream     TEXT NOT NULL REFERENCES streams (stream),
    patient_id TEXT NOT NULL REFERENCES patients (patient_id),
    start      INTEGER NOT NULL,
    until      INTEGER,
    reason     TEXT CHECK (reason IN ('removed', 'retired', 'revoked')),
    delivered  INTEGER NOT NULL,
    checksum BLOB GENERATED ALWAYS AS (row_checksum(stream, patient_id, start, until, reason, delivered)) STORED,
    PRIMARY KEY (stream, patient_id, start)
) STRICT;
INSERT INTO new_memberships (stream, patient_id, start, until, reason, delivered) SELECT stream, patient_id, start, until, reason, delivered FROM memberships;
DROP TABLE memberships;
ALTER TABLE new_memberships RENAME TO memberships;
CREATE TABLE new_messages (
    stream     TEXT NOT NULL REFERENCES streams (stream),
    number     INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    expires    INTEGER NOT NULL,
    envelope   BLOB NOT NULL,
    signature  BLOB NOT NULL,
    salt       BLOB NOT NULL,
    body       BLOB,                         -- sealed; NULL once it is erased
    checksum BLOB GENERATED ALWAYS AS (row_checksum(stream, number, created, expires, envelope, signature, salt)) STORED,
    PRIMARY KEY (stream, number)
) STRICT, WITHOUT ROWID;
INSERT INTO new_messages (stream, number, created, expires, envelope, signature, salt, body) SELECT stream, number, created, expires, envelope, signature, salt, body FROM messages;
DROP TABLE messages;
ALTER TABLE new_messages RENAME TO messages;
CREATE TABLE new_expired (
    stream     TEXT NOT NULL,
    number     INTEGER NOT NULL,
    patient_id TEXT NOT NULL,
    checksum BLOB GENERATED ALWAYS AS (row_checksum(stream, number, patient_id)) STORED,
    PRIMARY KEY (stream, number, patient_id)
) STRICT, WITHOUT ROWID;
INSERT INTO new_expired (stream, number, patient_id) SELECT stream, number, patient_id FROM expired;
DROP TABLE expired;
ALTER TABLE new_expired RENAME TO expired;
CREATE TABLE new_answers (
    key     TEXT PRIMARY KEY,
    request BLOB NOT NULL,
    answer  BLOB NOT NULL,
    created INTEGER NOT NULL,
    checksum BLOB GENERATED ALWAYS AS (row_checksum(key, request, answer, created)) STORED
) STRICT;
INSERT INTO new_answers (key, request, answer, created) SELECT key, request, answer, created FROM answers;
DROP TABLE answers;
ALTER TABLE new_answers RENAME TO answers;
CREATE TABLE new_reports (
    patient_id TEXT NOT NULL REFERENCES patients (patient_id),
    report_id  BLOB NOT NULL,
    kind       INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    received   INTEGER NOT NULL,
    body       BLOB NOT NULL,
    checksum BLOB GENERATED ALWAYS AS (row_checksum(patient_id, report_id, kind, created, received, body)) STORED,
    PRIMARY KEY (patient_id, report_id)
) STRICT, WITHOUT ROWID;
INSERT INTO new_reports (patient_id, report_id, kind, created, received, body) SELECT patient_id, report_id, kind, created, received, body FROM reports;
DROP TABLE reports;
ALTER TABLE new_reports RENAME TO reports;
CREATE UNIQUE INDEX one_current_membership ON memberships (stream, patient_id) WHERE until IS NULL;
CREATE INDEX memberships_of_patient ON memberships (patient_id);
CREATE INDEX reports_by_arrival ON reports (patient_id, received);
"""

SIXTH = """
CREATE INDEX messages_with_body ON messages (created) WHERE body IS NOT NULL;
"""

MIGRATIONS = (FIRST, SECOND, THIRD, FOURTH, FIFTH, SIXTH)
