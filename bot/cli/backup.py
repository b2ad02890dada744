"""`gpt2bot backup` and `gpt2bot restore`: what they take, and what they tell.

Parses and hands over to `data.storage.backup`, which is imported only once a command is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bot.cli.interrupt import quiet_interrupt
from i18n.phrase import phrase
from i18n.reader import say

DEFAULT_BACKUPS_KEPT = 7
"""Backups that are kept."""
BACKUP_PRIVACY_NOTICE = phrase(
    "Backups hold what members said, also of those who are forgotten later: keep them few and safe."
)
RESTORE_NOTICE = phrase(
    "Who asked to be forgotten is forgotten again at the next start. Messages that were deleted, "
    "and consents that were withdrawn, since the backup are as they were."
)


def backup(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="A new file; else one in GPT2BOT_HOME/backups.", show_default=False
        ),
    ] = None,
    keep: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Without FILE: remove the oldest backups beyond so many."
        ),
    ] = DEFAULT_BACKUPS_KEPT,
) -> None:
    """Copy the database to a file, checked and whole; the bot may run meanwhile."""
    from bot.cli.dataset.files import existing_database
    from bot.settings import SettingsError, load_settings
    from data.storage.backup import BackupResult, create_backup
    from data.storage.connection import make_copy

    source = existing_database(load_settings())
    with quiet_interrupt():
        if file is None:
            made = create_backup(source, keep)
        elif file.exists():
            raise SettingsError(phrase("{file} is there already: choose another name.", file=file))
        else:
            make_copy(source, file)
            made = BackupResult(file)
    typer.echo(say("The backup is {file}. `gpt2bot restore {file}` puts it back.", file=made.path))
    for old in made.removed:
        typer.echo(say("Removed the older {file}.", file=old.name))
    typer.echo(say(BACKUP_PRIVACY_NOTICE))


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `gpt2bot backup` wrote.")],
) -> None:
    """Put a backup in the place of the database, which is kept under another name."""
    from bot.ops.recovery import single_instance_lock
    from bot.settings import load_settings
    from data.storage.backup import restore as put_back

    settings = load_settings()
    running = phrase(
        "The bot runs on {home}: stop it first, then restore.", home=settings.gpt2bot_home
    )
    with quiet_interrupt(), single_instance_lock(settings, running):
        aside = put_back(file, settings.paths.database)
    typer.echo(say("{file} is the database now.", file=file))
    if aside is not None:
        typer.echo(say("The one before it is kept as {file}.", file=aside))
    typer.echo(say(RESTORE_NOTICE))
