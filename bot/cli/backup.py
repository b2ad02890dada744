"""`gpt2bot backup` and `gpt2bot restore`: arguments and messages; see `data.storage.backup`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from i18n.phrase import phrase
from i18n.reader import say


def backup(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="A new file; default: one in GPT2BOT_HOME/backups.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Without FILE: how many of the newest are kept."),
    ] = 7,
) -> None:
    """Copy the database to a file and check the copy; the bot may run meanwhile."""
    from bot.ops.recovery import existing_database
    from bot.settings import SettingsError, load_settings
    from data.storage.backup import BackupResult, create_backup
    from data.storage.connection import make_copy

    settings = load_settings()
    source = existing_database(settings)
    if file is None:
        made = create_backup(source, keep, settings.key)
    elif file.exists():
        raise SettingsError(phrase("{path} already exists: choose another name.", path=file))
    else:
        make_copy(source, file, settings.key)
        made = BackupResult(file)
    typer.echo(say("The backup is {file}. `gpt2bot restore {file}` restores it.", file=made.path))
    for old in made.removed:
        typer.echo(say("Removed the older {file}.", file=old.name))
    notice = say(
        "Backups contain what members said, even if their data is erased later: keep few of them, "
        "in a safe place."
    )
    typer.echo(notice)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file from `gpt2bot backup`.")],
) -> None:
    """Replace the database with a backup; the replaced one is kept under another name."""
    from bot.ops.recovery import single_instance_lock
    from bot.settings import load_settings
    from data.storage.backup import restore as restore_backup

    settings = load_settings()
    conflict = phrase(
        "The bot is running on {home}: stop it first, then restore.", home=settings.gpt2bot_home
    )
    with single_instance_lock(settings, conflict):
        aside = restore_backup(file, settings.paths.database, settings.key)
    typer.echo(say("The database was restored from {file}.", file=file))
    if aside is not None:
        typer.echo(say("The previous one is kept as {file}.", file=aside))
    notice = say(
        "Members who asked to be forgotten are erased again at the next start. Messages deleted "
        "and consents withdrawn since the backup have come back."
    )
    typer.echo(notice)
