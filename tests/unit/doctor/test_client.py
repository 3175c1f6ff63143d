"""The client of the doctor's API: what it says when things are not as they should be."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from doctor.answers import BroadcastAnswer, GroupAnswer, MemberAnswer
from doctor.client import Client, DoctorUnreachable
from doctor.orders import BroadcastOrder
from doctor.settings import SOCKET_NAME, TOKEN_NAME, api_directory
from shared.errors import UserError
from shared.storage.keyfile import private_directory, write_private
from tests.doctor_bench import serving_in_a_thread


def pretend(state: Path) -> Path:
    """A token, as if a doctor had run; returns the socket's path."""
    directory = private_directory(api_directory(str(state)))
    write_private(directory / TOKEN_NAME, b"token")
    return directory / SOCKET_NAME


@contextmanager
def answering(state: Path, answer: bytes) -> Iterator[None]:
    """Something that is no doctor listens on its socket and says one thing."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(pretend(state)))
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


# httpcore leaves the socket that could not connect to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_a_doctor_it_says_how_to_start_one(short_dir: Path) -> None:
    """No token at all, and a token whose doctor has gone."""
    with pytest.raises(DoctorUnreachable, match=r"No doctor answers at .*doctor\.sock\. Start it"):
        Client(str(short_dir))

    pretend(short_dir)
    with Client(str(short_dir)) as client, pytest.raises(DoctorUnreachable, match="telemed-doctor serve"):
        client.get("/v1/groups", list[GroupAnswer])


def test_a_token_that_others_can_read_is_refused(short_dir: Path) -> None:
    """They could have given orders with it."""
    pretend(short_dir)
    (api_directory(str(short_dir)) / TOKEN_NAME).chmod(0o644)

    with pytest.raises(UserError, match="chmod 600"):
        Client(str(short_dir))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 500 X\r\nContent-Length: 4\r\n\r\noops", r"answered 500; see its log"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{"a": 1}', r"cannot read .* another version"),
        (
            b'HTTP/1.1 409 X\r\nContent-Length: 32\r\n\r\n{"error":"not so","code":"said"}',
            r"\Anot so\Z",
        ),
    ],
)
def test_whatever_answers_the_user_reads_a_sentence(short_dir: Path, answer: bytes, says: str) -> None:
    """A crash, another version, a refusal."""
    with (
        answering(short_dir, answer),
        Client(str(short_dir)) as client,
        pytest.raises(UserError, match=says),
    ):
        client.get("/v1/groups", list[GroupAnswer])


def test_something_that_speaks_no_http_is_no_doctor(short_dir: Path) -> None:
    """Nobody answers there."""
    with (
        answering(short_dir, b"220 mail ready\r\n"),
        Client(str(short_dir)) as client,
        pytest.raises(DoctorUnreachable),
    ):
        client.get("/v1/groups", list[GroupAnswer])


def test_a_real_doctor_is_asked_ordered_and_its_refusal_passed_on(short_dir: Path) -> None:
    """GET, POST, DELETE."""
    with serving_in_a_thread(short_dir), Client(str(short_dir / "state")) as client:
        sent = client.post("/v1/broadcasts", BroadcastOrder("hello"), BroadcastAnswer)
        found = client.get("/v1/groups", list[GroupAnswer])
        refuse: Callable[[], MemberAnswer] = lambda: client.delete(  # noqa: E731
            "/v1/groups/everyone/members/anna", MemberAnswer
        )

        assert (sent.recipients, [group.name for group in found]) == (0, ["everyone"])
        with pytest.raises(UserError, match="Every active patient is in 'everyone'"):
            refuse()
