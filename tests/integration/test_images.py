"""What is in the images, and what is not: the whole file system of each, as it ships."""

from __future__ import annotations

import re
import tarfile

import pytest

from tests.integration.engine import CommandFailed, run

PACKAGES = ("shared", "doctor", "patient", "lab", "tests")
ALLOWED = {"doctor": {"shared", "doctor"}, "patient": {"shared", "patient"}}
PIP = re.compile(r"(^|/)(pip[0-9.]*|pip-[^/]*|ensurepip)(/|$)")
COMPILER = re.compile(
    r"(^|/)([a-z0-9_]+-linux-gnu-)?(gcc|g\+\+|cc|c\+\+|cpp|clang|tcc|as|ld|make|rustc|go)(-[0-9.]+)?$"
)
BINARIES = re.compile(r"^(usr/local/|usr/|opt/[^/]+/venv/)?s?bin/")


@pytest.fixture(scope="module", params=["doctor", "patient"])
def service(request: pytest.FixtureRequest) -> str:
    """Each service in turn."""
    return str(request.param)


@pytest.fixture(scope="module")
def files(images: dict[str, str], service: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Every path in the image, without a leading slash."""
    archive = tmp_path_factory.mktemp(service) / "image.tar"
    container = run("docker", "create", images[service]).strip()
    try:
        run("docker", "export", "--output", str(archive), container)
    finally:
        run("docker", "rm", container)
    with tarfile.open(archive) as content:
        return content.getnames()


def inside(image: str, *command: str) -> str:
    """What a command prints in a container of the image, without network and disk. Raises CommandFailed."""
    return run(
        "docker",
        "run",
        "--rm",
        "--network",
        "none",
        "--read-only",
        "--entrypoint",
        *command[:1],
        image,
        *command[1:],
    )


def test_an_image_holds_shared_and_its_own_package_only(service: str, files: list[str]) -> None:
    """So doctor and patient do not need each other."""
    app = "opt/telemed/app/"
    packages = {name[len(app) :].split("/")[0] for name in files if name.startswith(app)}

    assert packages == {"bin", *ALLOWED[service]}
    assert f"{app}bin/telemed-{service}" in files
    # Nor do they lie anywhere else.
    for foreign in set(PACKAGES) - ALLOWED[service] - {"tests"}:
        assert not [name for name in files if name.endswith(f"{foreign}/cli.py")]


def test_the_other_packages_cannot_be_imported(images: dict[str, str], service: str) -> None:
    """By the Python that runs the program."""
    inside(images[service], "python", "-c", f"import shared.protocol.connection, {service}.cli")
    for foreign in set(PACKAGES) - ALLOWED[service]:
        with pytest.raises(CommandFailed, match=f"No module named '{foreign}'"):
            inside(images[service], "python", "-c", f"import {foreign}")


def test_there_is_no_pip_and_no_compiler(images: dict[str, str], service: str, files: list[str]) -> None:
    """Nothing that could fetch or build a program; Python itself is there, as the patterns' counterpart."""
    binaries = [name for name in files if BINARIES.match(name)]

    assert any(name.endswith("/python") for name in binaries)
    assert not [name for name in files if PIP.search(name)]
    assert not [name for name in binaries if COMPILER.search(name)]
    with pytest.raises(CommandFailed, match="No module named pip"):
        inside(images[service], "python", "-m", "pip")


def test_an_image_runs_as_a_user_without_a_name(images: dict[str, str], service: str) -> None:
    """Also where nobody says which user: uid and gid 10001."""
    assert inside(images[service], "id", "-u") == "10001\n"
    assert inside(images[service], "id", "-g") == "10001\n"


def test_no_key_and_no_setting_of_a_registry_was_baked_in(
    images: dict[str, str], files: list[str], service: str
) -> None:
    """Keys are made at the first start; where packages came from is the build's business."""
    state = [name for name in files if name.startswith("var/lib/telemed/")]
    environment = run("docker", "image", "inspect", "--format", "{{json .Config.Env}}", images[service])

    assert all(name.count("/") == 3 for name in state)
    assert not [name for name in files if name.endswith((".key", "identity.json", "pip.conf", ".invitation"))]
    assert "INDEX_URL" not in environment
