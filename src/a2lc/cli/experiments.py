"""The command that runs an experiment."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from a2lc.cli.console import app, print_line
from a2lc.cli.options import parse_seeds
from a2lc.errors import InputError, first_names


@app.command()
def bench(
    protocol: Annotated[
        str, typer.Argument(metavar="PROTOCOL", help="Protocol file (TOML), or the name of a built-in protocol.")
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write to; default: bench-NAME.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Folder of the data; overrides the protocol.")] = None,
    seeds: Annotated[str | None, typer.Option("--seeds", metavar="1,2", help="Seeds; overrides the protocol.")] = None,
    only: Annotated[
        str | None,
        typer.Option("--methods", metavar="A,B", help="Methods to run, by their labels in the protocol; default: all."),
    ] = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Only rewrite tables and curves from finished runs.")
    ] = False,
) -> None:
    """Compare methods by a protocol, and write tables and curves. Repeat the command to resume after an interruption."""
    from a2lc.experiments.execution import data_root
    from a2lc.experiments.protocol import read_protocol
    from a2lc.experiments.results import write_results
    from a2lc.experiments.runner import Bench

    chosen, home = read_protocol(protocol)
    out_folder = out or Path(f"bench-{chosen.name}")
    numbers = None if seeds is None else parse_seeds(seeds)
    what = Bench(protocol=chosen, out=out_folder.absolute(), root=data_root(chosen, home, data), say=print_line)
    runs = what.plan(numbers, None if only is None else [label.strip() for label in only.split(",")])
    if not report_only:
        what.run(runs)
    outcomes = what.outcomes(numbers)
    if not outcomes:
        raise InputError(f"There are no results in {out_folder}. Run the protocol first, without --report-only.")
    command = shlex.join(["a2lc", *sys.argv[1:]])
    for path in write_results(chosen, outcomes, out_folder, command=command, where=protocol):
        print_line(f"wrote {path}")
    failed = [o.run.name for o in outcomes if o.found is None and not o.skipped]
    if failed:
        print_line(f"{len(failed)} runs failed: {first_names(failed)}; repeat the command to try them again")
        raise typer.Exit(1)
