"""`embedfleet db upgrade`."""

from __future__ import annotations

import asyncio

import typer

from embedfleet.cli.options import AsJson, ConfigFile, DataDir, settings_here
from embedfleet.cli.output import print_json, say

app = typer.Typer(help="The SQL database: its schema.", no_args_is_help=True)


@app.command("upgrade")
def upgrade(as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Bring the schema to this release's. May be repeated; concurrent calls wait for one another.

    PostgreSQL needs it before the first start, and after every new release: stop every orchestrator of the
    older release first, since an older release cannot use the new schema. Every command that opens an SQLite
    database upgrades it.
    """
    from embedfleet.sql.opening import open_database

    settings = settings_here(data_dir, config)

    async def upgrade_schema() -> tuple[str, str | None, str]:
        database = open_database(settings)
        try:
            return (database.location, *await database.upgrade_schema())
        finally:
            await database.close()

    location, before, now = asyncio.run(upgrade_schema())
    if as_json:
        print_json({"database": location, "schema_before": before, "schema": now})
    elif before == now:
        say(f"{location}: the schema is {now} already")
    else:
        say(f"{location}: the schema is {now} now (was {before or 'missing'})")
