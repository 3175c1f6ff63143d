"""The doctor's keys in their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from doctor import keyring
from shared.crypto.signatures import SIGNERS, Algorithm, fingerprint
from shared.crypto.suites import SuiteId, suite_by_name
from shared.errors import StorageError, UserError
from shared.protocol.rotation import Pins, judge
from shared.storage import keyfile
from shared.wire.checks import Checklist
from tests.crypto_tools import entropy

MODERN = frozenset({suite_by_name("elgamal-p256").id, suite_by_name("elgamal-p256-mlkem768").id})
CLASSIC = frozenset({suite_by_name("elgamal-ffdhe3072").id})


def make(state: Path, suites: frozenset[SuiteId] = MODERN, seed: str = "keys") -> keyring.Keyring:
    """Load or create, with known entropy."""
    return keyring.load_or_create(state, suites, entropy(seed))


def test_keys_are_made_once_and_belong_to_their_owner_alone(tmp_path: Path) -> None:
    """Files 0600 in a directory 0700; the second start reads what the first one made, whatever entropy says."""
    first = make(tmp_path / "state")
    second = make(tmp_path / "state", seed="another day")

    directory = tmp_path / "state" / "keys"
    modes = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
    assert modes == {"ecdsa-p256.key": 0o600, "storage.key": 0o600}
    assert directory.stat().st_mode & 0o777 == 0o700
    assert second.public == first.public
    assert second.storage == first.storage
    assert len(first.storage) == keyring.STORAGE_KEY_SIZE


def test_two_doctors_share_no_key(tmp_path: Path) -> None:
    """Other entropy, other keys."""
    first, second = make(tmp_path / "a", seed="a"), make(tmp_path / "b", seed="b")

    assert first.identity.public != second.identity.public
    assert first.storage != second.storage


def test_a_schnorr_key_exists_only_where_a_suite_needs_it(tmp_path: Path) -> None:
    """The P-256 key always does: it signs envelopes whatever the suite."""
    modern, classic = make(tmp_path / "modern"), make(tmp_path / "classic", CLASSIC)

    assert set(modern.signing) == {Algorithm.ECDSA_P256}
    assert set(classic.signing) == {Algorithm.ECDSA_P256, Algorithm.SCHNORR_FFDHE3072}
    assert [key.algorithm for key in classic.public] == list(classic.signing)
    assert classic.identity.algorithm is Algorithm.ECDSA_P256


def test_allowing_the_schnorr_suite_later_keeps_the_other_keys(tmp_path: Path) -> None:
    """Patients have pinned them."""
    before = make(tmp_path / "state")
    after = make(tmp_path / "state", MODERN | CLASSIC)

    assert after.identity.public == before.identity.public
    assert len(after.signing) == 2


@pytest.mark.parametrize("name", ["ecdsa-p256.key", "storage.key"])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, name: str) -> None:
    """With the command that mends it."""
    make(tmp_path / "state")
    path = tmp_path / "state" / "keys" / name
    path.chmod(0o644)

    with pytest.raises(UserError, match=f"mode 0644: .* chmod 600 {path}"):
        make(tmp_path / "state")


def test_an_open_directory_is_refused(tmp_path: Path) -> None:
    """Whoever may write there could put a key of his own."""
    make(tmp_path / "state")
    (tmp_path / "state" / "keys").chmod(0o755)

    with pytest.raises(UserError, match="chmod 700"):
        make(tmp_path / "state")


@pytest.mark.parametrize("name", ["ecdsa-p256.key", "storage.key"])
def test_a_damaged_key_is_named_and_not_replaced(tmp_path: Path, name: str) -> None:
    """A new key would lock out every patient that pinned the old one."""
    make(tmp_path / "state")
    path = tmp_path / "state" / "keys" / name
    path.write_bytes(b"short")

    with pytest.raises(StorageError, match=f"{path} .*backup"):
        make(tmp_path / "state")
    assert path.read_bytes() == b"short"


def test_reading_the_public_key_makes_none(tmp_path: Path) -> None:
    """The probe runs beside a doctor that may be about to make its keys: it must never make any."""
    (tmp_path / "state").mkdir()

    with pytest.raises(StorageError, match=r"ecdsa-p256\.key"):
        keyring.load_signing_key(tmp_path / "state", Algorithm.ECDSA_P256)
    assert list((tmp_path / "state").iterdir()) == []

    made = make(tmp_path / "state")
    loaded = keyring.load_signing_key(tmp_path / "state", Algorithm.ECDSA_P256)
    assert loaded.public == made.identity.public


def test_no_key_shows_in_a_repr(tmp_path: Path) -> None:
    """Neither as bytes nor as hexadecimal digits."""
    keys = make(tmp_path / "state")
    scalar = (tmp_path / "state" / "keys" / "ecdsa-p256.key").read_bytes()

    shown = repr(keys)
    for secret in (keys.storage, scalar):
        assert repr(secret) not in shown
        assert secret.hex() not in shown


def test_a_rotation_replaces_every_key_there_is(tmp_path: Path) -> None:
    """Also of a suite that is not allowed now; the storage key stays, and the proof leads from the former keys to the new."""
    state = tmp_path / "state"
    before = make(state, MODERN | CLASSIC)
    keys = make(state)
    signing, former = keys.signing, {alg: key.public for alg, key in before.signing.items()}
    rotated = keyring.rotate(state, keys, "house", 1_000, entropy("new"))

    assert keys.signing is signing, "whatever signs has the new keys at once"
    assert (keys.sequence, keys.announced, keys.storage) == (1, rotated, before.storage)
    after = make(state, MODERN | CLASSIC)
    assert after.identity.public == keys.identity.public
    assert not {key.public for key in after.public} & set(former.values())
    judged = judge(rotated.rotation, Pins("house", former, 0), Checklist())
    assert judged is not None
    assert judged.keys == {key.algorithm: key.public for key in after.public}
    assert [(key.public, key.until) for key in after.former] == [(before.identity.public, 1_000)]
    assert after.was(Algorithm.ECDSA_P256, fingerprint(Algorithm.ECDSA_P256, before.identity.public))
    modes = {path.name: path.stat().st_mode & 0o777 for path in (state / "keys").iterdir()}
    assert modes == dict.fromkeys(
        ["ecdsa-p256.1.key", "rotations.json", "schnorr-ffdhe3072.1.key", "storage.key"], 0o600
    )


def test_a_crash_before_the_commit_point_leaves_the_former_keys(tmp_path: Path) -> None:
    """New files that nothing names are no keys; the next rotation writes them anew."""
    state = tmp_path / "state"
    before = make(state)
    signer = SIGNERS[Algorithm.ECDSA_P256]
    left = state / "keys" / "ecdsa-p256.1.key"
    left.write_bytes(signer.export(signer.generate(entropy("left"))))
    left.chmod(0o600)

    assert make(state).public == keyring.load(state).public == before.public
    keys = make(state)
    keyring.rotate(state, keys, "house", 1_000, entropy("new"))
    assert make(state).public == keys.public != before.public
    assert keyring.load_signing_key(state, Algorithm.ECDSA_P256).public == keys.identity.public


def test_a_commit_that_could_not_be_synced_stands_and_keeps_the_former_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file has its name: the keys in memory follow it. A power loss may take it back, so the former are not erased yet."""
    state = tmp_path / "state"
    keys = make(state)
    before, sync = keys.identity.public, keyfile.sync_directory

    def refuse(path: Path) -> None:
        if (path / "rotations.json").exists():
            raise OSError(5, "Input/output error")
        sync(path)

    monkeypatch.setattr(keyfile, "sync_directory", refuse)
    keyring.rotate(state, keys, "house", 1_000, entropy("new"))

    assert (state / "keys" / "ecdsa-p256.key").exists()
    assert make(state).public == keys.public
    assert keys.identity.public != before
    keyring.erase_former(state, keys)
    assert not (state / "keys" / "ecdsa-p256.key").exists()


def test_a_key_that_is_not_the_one_of_its_rotation_is_named(tmp_path: Path) -> None:
    """Another key under the right name: patients would refuse it."""
    state = tmp_path / "state"
    keyring.rotate(state, make(state), "house", 1_000, entropy("new"))
    signer = SIGNERS[Algorithm.ECDSA_P256]
    (state / "keys" / "ecdsa-p256.1.key").write_bytes(signer.export(signer.generate(entropy("another"))))

    with pytest.raises(
        StorageError, match=r"ecdsa-p256\.1\.key is damaged \(it is not the key of rotation 1\)"
    ):
        make(state)


def test_damaged_rotations_are_named(tmp_path: Path) -> None:
    """Without them it is not known which keys are the doctor's."""
    state = tmp_path / "state"
    keyring.rotate(state, make(state), "house", 1_000, entropy("new"))
    path = state / "keys" / "rotations.json"
    path.write_text("[{}]")

    with pytest.raises(StorageError, match=r"rotations\.json is damaged .*backup"):
        make(state)
    path.unlink()
    with pytest.raises(UserError, match=r"ecdsa-p256\.key missing"):
        keyring.require_all(state)


def test_a_doctor_keeps_its_name(tmp_path: Path) -> None:
    """Patients have pinned it: another one is refused before anybody sees it, with what to do."""
    make(tmp_path)
    keyring.keep_name(tmp_path, "house")
    keyring.keep_name(tmp_path, "house")

    with pytest.raises(UserError, match=r"is called 'house'.*give 'wilson' a state_dir of its own"):
        keyring.keep_name(tmp_path, "wilson")
