"""The wrapper around secret bytes."""

from __future__ import annotations

import copy
import pickle

import pytest

from shared.crypto.secret import Secret


def test_repr_and_str_show_the_length_only() -> None:
    """Neither repr, str nor an f-string holds the content."""
    secret = Secret(b"canary-content")

    assert repr(secret) == "Secret(14 bytes)"
    assert f"{secret} {secret!s}" == "Secret(14 bytes) Secret(14 bytes)"


def test_reveal_and_length() -> None:
    """The content comes back from reveal() and from nowhere else."""
    secret = Secret(b"abc")

    assert secret.reveal() == b"abc"
    assert len(secret) == 3
    assert not hasattr(secret, "__dict__")


def test_equal_only_to_a_secret_with_the_same_content() -> None:
    """Plain bytes are never equal to a secret."""
    assert Secret(b"abc") == Secret(b"abc")
    assert Secret(b"abc") != Secret(b"abd")
    assert Secret(b"abc") != Secret(b"ab")
    assert Secret(b"abc") != b"abc"


def test_is_not_hashable_not_copied_not_pickled() -> None:
    """What would spread the content is refused."""
    secret = Secret(b"abc")

    with pytest.raises(TypeError, match="unhashable"):
        hash(secret)
    with pytest.raises(TypeError, match="neither pickled nor copied"):
        pickle.dumps(secret)
    with pytest.raises(TypeError, match="neither pickled nor copied"):
        copy.copy(secret)
