"""The command line: one file for each group of commands.

A command imports heavy modules inside of its function, so that `--help` answers at once.

May import: api, tldw, running_worker and below.
"""

from __future__ import annotations

from typing import NoReturn

import typer

from embedfleet import __version__
from embedfleet.cli import (
    ab,
    adopt,
    backup,
    bench_fleet,
    config,
    db,
    dlq,
    doctor,
    documents,
    estimate,
    events,
    explain,
    export,
    formats,
    ingest,
    jobs,
    keys,
    models,
    pools,
    search,
    serve,
    serve_api,
    stores,
    system,
    tenants,
    traffic,
    usage,
    verify,
)
from embedfleet.cli.arguments import checked
from embedfleet.cli.help_text import in_paragraphs
from embedfleet.cli.output import run_safely, say
from embedfleet.lifetime import end_process

app = typer.Typer(
    name="embedfleet",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"embedfleet {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", is_eager=True, callback=_print_version, help="Print the version and end."
    ),
) -> None:
    """Turn folders of documents into searchable vectors."""


app.command("ingest")(ingest.ingest)
app.command("estimate")(estimate.estimate)
app.command("formats")(formats.formats)
app.command("search")(search.search)
app.command("doctor")(doctor.doctor)
app.command("verify")(verify.verify)
app.command("rebuild")(verify.rebuild)
app.command("adopt")(adopt.adopt)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("export")(export.export)
app.command("serve")(serve_api.serve)
app.command("serve-workers")(serve.serve_workers)
app.command("events")(events.events)
app.command("explain")(explain.explain)
app.command("usage")(usage.usage)
app.command("audit")(usage.audit)
app.command("pools")(pools.pools)
app.command("scale")(pools.scale)
app.add_typer(models.app, name="models")
app.add_typer(jobs.app, name="jobs")
app.add_typer(dlq.app, name="dlq")
app.add_typer(documents.app, name="documents")
app.add_typer(tenants.app, name="tenants")
app.add_typer(traffic.app, name="traffic")
app.add_typer(ab.app, name="ab")
app.add_typer(keys.app, name="keys")
app.add_typer(bench_fleet.app, name="bench")
app.add_typer(stores.app, name="stores")
app.add_typer(system.app, name="system")
app.add_typer(config.app, name="config")
app.add_typer(db.app, name="db")


def main() -> None:
    """Run a command; always raises SystemExit, and does not end the process.

    Exit codes: 0 done, 1 nothing done, 2 wrong usage, 3 done except for some files or rows, 130 interrupted.
    """
    run_safely(lambda: in_paragraphs(checked(typer.main.get_command(app)))(standalone_mode=False))


def run() -> NoReturn:
    """The `embedfleet` command: runs a command and ends the process."""
    try:
        main()
    except SystemExit as done:
        end_process(int(done.code or 0))
    raise AssertionError("a command ends by SystemExit")
