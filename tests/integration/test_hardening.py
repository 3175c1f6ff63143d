"""What a container may not do and does not show, of the containers that run."""

from __future__ import annotations

import base64
import re
import socket
import ssl
from typing import Any

import msgspec
import pytest

from shared.protocol.invitations import from_text
from tests.integration.deployment import Deployment
from tests.integration.engine import IMAGES, CommandFailed, Container, run

MEBIBYTE = 1024 * 1024
PIDS_LIMIT = {"doctor": 128, "patient": 64}
MEMORY_LIMIT = {"doctor": 512 * MEBIBYTE, "patient": 128 * MEBIBYTE}
SECRET_FILES = {
    "doctor": "/var/lib/telemed/doctor/api/token /var/lib/telemed/doctor/keys/* "
    "/var/lib/telemed/provisioning/fleet.invitation",
    "patient": "/var/lib/telemed/provisioning/fleet.invitation",
}
# The doctor's: a token, two keys, the invitation and what is secret in it; a patient's: these last two, and two keys of each of five.
SECRETS = {"doctor": 5, "patient": 12}


class User(msgspec.Struct, frozen=True, rename="pascal"):
    """`Config` of docker inspect."""

    user: str
    env: list[str]


class Limits(msgspec.Struct, frozen=True, rename="pascal"):
    """`HostConfig` of docker inspect."""

    readonly_rootfs: bool
    privileged: bool
    cap_add: list[str] | None
    cap_drop: list[str]
    security_opt: list[str]
    pids_limit: int
    memory: int
    nano_cpus: int
    init: bool
    tmpfs: dict[str, str]
    binds: list[str] | None
    port_bindings: dict[str, Any]
    publish_all_ports: bool


class Network(msgspec.Struct, frozen=True, rename="pascal"):
    """`NetworkSettings` of docker inspect."""

    ports: dict[str, list[Any] | None]
    networks: dict[str, Any]


class Mount(msgspec.Struct, frozen=True):
    """One of `Mounts` of docker inspect."""

    kind: str = msgspec.field(name="Type")
    destination: str = msgspec.field(name="Destination")
    writable: bool = msgspec.field(name="RW")


class Inspected(msgspec.Struct, frozen=True, rename="pascal"):
    """What the engine enforces on a container."""

    config: User
    host_config: Limits
    network_settings: Network
    mounts: list[Mount]


def inspect(container: Container) -> Inspected:
    """A container's settings, as the engine has taken them from compose.yaml."""
    return msgspec.json.decode(container.inspect(), type=Inspected)


@pytest.fixture(params=["doctor", "patient"])
def service(request: pytest.FixtureRequest) -> str:
    """Each service in turn."""
    return str(request.param)


@pytest.fixture
def container(deployment: Deployment, service: str) -> Container:
    """One running container of the service."""
    return deployment.containers(service)[0]


def test_the_engine_grants_nothing_that_is_not_needed(service: str, container: Container) -> None:
    """User, root file system, capabilities, limits: by the engine's own account."""
    found = inspect(container)
    limits = found.host_config

    assert found.config.user == "10001:10001"
    assert limits.readonly_rootfs
    assert not limits.privileged
    assert limits.cap_drop == ["ALL"]
    assert not limits.cap_add
    assert limits.security_opt == ["no-new-privileges:true"]
    assert limits.pids_limit == PIDS_LIMIT[service]
    assert limits.memory == MEMORY_LIMIT[service]
    assert 0 < limits.nano_cpus <= 1_000_000_000
    assert limits.init
    assert limits.tmpfs.keys() == {"/tmp"}
    assert {"noexec", "nosuid", "nodev", "size=16m"} <= set(limits.tmpfs["/tmp"].split(","))
    assert not limits.binds or not any(".sock" in bind for bind in limits.binds)
    assert {mount.kind for mount in found.mounts} == {"volume"}


def test_a_process_inside_has_no_capability_and_can_gain_none(container: Container) -> None:
    """The same by the kernel's account."""
    status = dict(
        line.split(":\t", 1)
        for line in container.execute("cat", "/proc/self/status").splitlines()
        if ":\t" in line
    )

    assert set(status["Uid"].split()) == {"10001"}
    assert {int(status[which], 16) for which in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"


def test_nothing_can_be_written_outside_volumes_and_tmp(container: Container) -> None:
    """/var/tmp is everybody's, so there it is the read-only file system alone that refuses."""
    container.execute("sh", "-c", "test -w /tmp && echo yes > /tmp/writable && rm /tmp/writable")
    for directory in ("/", "/var/tmp", "/opt/telemed/app"):
        with pytest.raises(CommandFailed, match="Read-only file system"):
            container.execute("sh", "-c", f"echo no > {directory}/written")


def test_patients_cannot_write_what_the_doctor_provides_for_them(deployment: Deployment) -> None:
    """The provisioning volume is the doctor's to write; its own disk and the audit's are not even mounted in a patient."""
    device = deployment.devices[0]
    mounts = {mount.destination: mount.writable for mount in inspect(device).mounts}

    assert mounts == {"/var/lib/telemed/patients": True, "/var/lib/telemed/provisioning": False}
    with pytest.raises(CommandFailed, match="Read-only file system"):
        device.execute("sh", "-c", "echo no > /var/lib/telemed/provisioning/written")


def test_the_network_is_internal_and_nothing_is_published_but_the_console(deployment: Deployment) -> None:
    """The devices have one network and no way in from the host; the doctor's console another, on this machine's loopback alone."""
    for container in deployment.containers():
        found = inspect(container)
        own = container.name == deployment.doctor.name
        console = {f"{deployment.project}_console"} if own else set()

        assert found.network_settings.networks.keys() == {deployment.network, *console}
        assert found.host_config.port_bindings.keys() == ({"8080/tcp"} if own else set())
        for bindings in found.network_settings.ports.values():
            assert {binding["HostIp"] for binding in bindings or []} <= {"127.0.0.1"}
        assert not found.host_config.publish_all_ports
    assert run("docker", "network", "inspect", "--format", "{{.Internal}}", deployment.network) == "true\n"


def test_every_file_on_the_volumes_is_its_owners_alone(service: str, container: Container) -> None:
    """0600 in directories of 0700; the API's socket is guarded by its directory."""
    listing = container.execute("find", "/var/lib/telemed", "-mindepth", "1", "-printf", "%y %m %U %p\n")
    found = [line.split(" ", 3) for line in listing.splitlines()]
    names = {path.rpartition("/")[2] for _, _, _, path in found}

    assert {owner for _, _, owner, _ in found} == {"10001"}
    assert {mode for kind, mode, _, _ in found if kind == "f"} == {"600"}
    assert {mode for kind, mode, _, _ in found if kind == "d"} == {"700"}
    assert names >= {"doctor": {"storage.key", "token"}, "patient": {"identity.json", "inbox.db"}}[service]


def spellings(secret: bytes) -> set[str]:
    """How a secret could be written down: as it is, in hexadecimal, in base64 of either kind."""
    both = (base64.b64encode(secret), base64.urlsafe_b64encode(secret))
    texts = {secret.hex(), *(coded.decode().rstrip("=") for coded in both)}
    return texts | ({secret.decode()} if secret.isascii() else set())


def secrets_in(container: Container, service: str) -> list[bytes]:
    """Invitation, token and keys, read from their files."""
    shown = container.execute(
        "sh", "-c", f"for file in {SECRET_FILES[service]}; do base64 -w0 $file; echo; done"
    )
    found = [base64.b64decode(line) for line in shown.split()]
    found += [from_text(text.decode()).secret for text in found if text.startswith(b"telemed1-")]
    if service == "patient":
        identities = container.execute("sh", "-c", "cat /var/lib/telemed/patients/*/identity.json")
        words = re.findall(r'"(?:private|storage)_key": "([^"]+)"', identities)
        found += [base64.b64decode(word) for word in words]
    return found


def test_no_secret_shows_in_inspect_arguments_environment_or_logs(
    deployment: Deployment, service: str, container: Container
) -> None:
    """Looked for by what is in the files, in every spelling."""
    found = secrets_in(container, service)
    processes = container.execute(
        "sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'"
    )
    shown = {"inspect": container.inspect(), "processes": processes, "logs": deployment.evidence()}
    wanted = {text for secret in found for text in spellings(secret)}
    leaks = [place for place, content in shown.items() if any(text in content for text in wanted)]

    count, shortest = (
        len(found),
        min(map(len, found)),
    )  # in variables, so that a failure does not print what they count
    assert count == SECRETS[service]
    assert shortest >= 32
    assert f"telemed-{service}" in processes
    assert leaks == []


def test_images_layers_and_history_show_no_secret(
    deployment: Deployment, service: str, container: Container
) -> None:
    """What was made while the containers ran is in no image, and nothing of it was written into a container's own layer."""
    image = IMAGES[service]
    shown = run("docker", "history", "--no-trunc", image) + run("docker", "inspect", image)
    wanted = {text for secret in secrets_in(container, service) for text in spellings(secret)}
    names = r"-name '*.key' -o -name identity.json -o -name token"
    # On the image's own file system, as far as the program itself may read it.
    found = container.execute("sh", "-c", f"find / -xdev \\( {names} \\) 2>/dev/null; true")

    assert not any(text in shown for text in wanted)
    assert found == ""
    written = [line for line in run("docker", "diff", container.id).splitlines() if not line.startswith("C ")]
    assert [
        line for line in written if not line.endswith("/docker-init")
    ] == []  # which the engine itself puts there


# What a program that was taken over can do to the others

FORKS = """
import os, sys, time
children = []
try:
    while len(children) < 1000:
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
        children.append(child)
except BlockingIOError:
    print(len(children))
finally:
    for child in children:
        os.kill(child, 9)
        os.waitpid(child, 0)
"""
GREED = """
with open("/proc/self/oom_score_adj", "w") as file:
    file.write("1000")
hoard = []
while True:
    hoard.append(bytes(range(256)) * 4096 * 4)
    print(len(hoard) * 4, flush=True)
"""
CERTIFICATE = "/var/lib/telemed/doctor/console/certificate.pem"
CALL = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3)
    print("reached")
except OSError as error:
    print(type(error).__name__, error)
"""


def test_a_fork_bomb_meets_its_limit_and_harms_nobody_else(deployment: Deployment) -> None:
    """The kernel refuses the next process; the doctor and the other patients do not notice."""
    device = deployment.devices[0]

    forked = int(device.execute("python3", "-c", FORKS))

    assert 0 < forked < PIDS_LIMIT["patient"]
    assert_serving(deployment, "still here after a fork bomb?")


def test_a_greedy_process_is_killed_at_the_containers_limit(deployment: Deployment) -> None:
    """Of what the container has; the device beside it goes on."""
    device = deployment.devices[0]
    begun = device.begun()

    with pytest.raises(CommandFailed) as killed:
        device.execute("python3", "-c", GREED)

    hoarded = max(int(line) for line in killed.value.output.split() if line.isdecimal())
    assert killed.value.code == 137
    assert hoarded * MEBIBYTE <= MEMORY_LIMIT["patient"]
    assert (device.begun(), device.restarts()) == (begun, 0)
    assert_serving(deployment, "still here after the greed?")


def test_nothing_outside_can_be_reached_from_inside(deployment: Deployment) -> None:
    """Not the host's other addresses, where something listens, and not the world; the doctor can be reached."""
    device = deployment.devices[0]
    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = str(listener.getsockname()[1])
        socket.create_connection((own_address(), int(port)), timeout=3).close()  # it does listen there
        answers = {
            place: device.execute("python3", "-c", CALL, *place)
            for place in ((own_address(), port), ("203.0.113.7", "443"), ("198.51.100.7", "53"))
        }

    assert {place for place, answer in answers.items() if "reached" in answer} == set()
    assert all(answer.startswith(("OSError", "TimeoutError")) for answer in answers.values())
    assert device.execute("python3", "-c", CALL, "doctor", "7700").strip() == "reached"


def test_the_console_is_not_on_the_devices_network(deployment: Deployment) -> None:
    """A patient reaches the doctor's device port and nothing at the console's, whatever it calls it; whoever sits at this machine does."""
    device, doctor = deployment.devices[0], inspect(deployment.doctor).network_settings
    address = doctor.networks[f"{deployment.project}_console"]["IPAddress"]
    answers = [device.execute("python3", "-c", CALL, host, "8080") for host in ("doctor", "console", address)]

    assert not any("reached" in answer for answer in answers)
    bound = (doctor.ports["8080/tcp"] or [])[0]
    context = ssl.create_default_context(cadata=deployment.doctor.execute("cat", CERTIFICATE))
    with (
        socket.create_connection((bound["HostIp"], int(bound["HostPort"])), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        wrapped.sendall(b"GET /login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert wrapped.recv(12) == b"HTTP/1.1 200"


def own_address() -> str:
    """The host's address on its way to the world, or where there is no such way the one of its own name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("192.0.2.1", 9))  # sends nothing
            return str(asked.getsockname()[0])
        except OSError:
            return socket.gethostbyname(socket.gethostname())


def assert_serving(deployment: Deployment, text: str) -> None:
    """The doctor takes a message, and every patient has it."""
    deployment.wait_for_established(len(deployment.devices))
    deployment.wait_for_delivery(deployment.broadcast(text))
