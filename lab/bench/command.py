"""`telemed-lab bench`: this system beside what a user would pick instead, as a table, a line for programs, a report, a guard."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from lab.bench import guard, report
from lab.bench.results import Results
from lab.bench.run import Part, run_parts
from lab.processes import ScenarioFailed
from shared.errors import UserError


def bench(
    parts: Annotated[
        list[Part] | None, typer.Argument(help="What to measure; everything if none is named.")
    ] = None,
    patients: Annotated[
        int | None, typer.Option(min=200, help="The largest ward of `memory` and `scale`.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Less of everything: under a minute.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on the last line.")] = False,
    directory: Annotated[
        Path | None, typer.Option("--report", metavar="DIR", help="Write a report with plots there.")
    ] = None,
    readme: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Renew its table from this run; needs --report.")
    ] = None,
    guarded: Annotated[
        bool, typer.Option("--guard", help="Fail if a ratio of a quick run falls below its bound.")
    ] = False,
    every_peer: Annotated[
        bool, typer.Option("--every-peer", help="With --guard: a peer that is not installed is a failure.")
    ] = False,
) -> None:
    """Measure this system beside its peers, in the same call on the same machine. Ratios are what carries over.

    Exit code 1 if a part came to no result, or with --guard if a ratio is below its bound; a promise that is not kept is a
    figure like any other.
    """
    partial = bool(parts) or patients is not None
    if readme is not None and (directory is None or quick or partial):
        raise UserError("--readme takes a full run of all parts, and --report for the report it points to.")
    if guarded and (not quick or partial):
        raise UserError("--guard judges a run of all parts with --quick: its bounds belong to that size.")
    console = Console(stderr=as_json)
    results = run_parts(parts or list(Part), quick, console, patients=patients)
    for each in results.missing:
        console.print(f"[yellow]Not measured: {each} is not installed.[/]", highlight=False)
    if directory is not None:
        _keep(results, directory, readme, console)
    if as_json:
        sys.stdout.write(msgspec.json.encode(results).decode() + "\n")
    _judge(results, guarded, every_peer)


def _keep(results: Results, directory: Path, readme: Path | None, console: Console) -> None:
    report.write(directory, results)
    if readme is not None:
        report.renew(readme, results, os.path.relpath(directory, readme.parent))
    console.print(f"The report is {directory / report.REPORT_FILE}.", highlight=False)


def _judge(results: Results, guarded: bool, every_peer: bool) -> None:
    """Raises ScenarioFailed with everything that has to be looked at."""
    found = [f"{each.part} came to no result: {each.reason}." for each in results.failed]
    if guarded:
        found = guard.judge(results, guard.bounds(), every_peer)
    if found:
        raise ScenarioFailed("\n  ".join(["the benchmark found:", *found]))
