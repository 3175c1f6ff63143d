"""What all tests share: an `async def` test runs on an event loop of its own."""

from __future__ import annotations

import asyncio
import functools
import inspect

import pytest
import typer.main

# A process runs its program once. Tests run theirs some hundreds of times, and Typer would build all commands for each.
typer.main.get_command = functools.cache(typer.main.get_command)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test; pytest alone would only make the coroutine."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    asyncio.run(pyfuncitem.obj(**arguments))
    return True
