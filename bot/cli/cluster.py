"""`gpt2bot cluster`: a cluster of this machine for trying, and what a cluster consists of."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated

import typer

from i18n.phrase import phrase, phrases
from i18n.reader import say

NEXT = phrase(
    "In another terminal, `RAY_ADDRESS=auto gpt2bot run` starts a bot on it, and `RAY_ADDRESS=auto "
    "gpt2bot cluster status` shows it. Ctrl-C ends it."
)
NO_ADDRESS = phrase(
    "RAY_ADDRESS is not set, so the models run in the bot's own worker: docs/cluster.md says how "
    "to start a cluster."
)
LOCAL = phrase(
    "RAY_ADDRESS is local: that cluster is part of the bot's process, and cannot be looked at from "
    "outside. `gpt2bot cluster up` starts one that can."
)
DEFAULT_PORT = 6379

cluster = typer.Typer(
    name="cluster",
    help="Start a Ray cluster of this machine for trying, or show the cluster in RAY_ADDRESS.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@cluster.command()
def up(
    cpus: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="CPUs for models and training; default: all of them."
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=1, max=65535, metavar="N", help="The port of its head.")
    ] = DEFAULT_PORT,
) -> None:
    """Start a Ray cluster of this machine alone, and keep it running until Ctrl-C."""
    from model.runners.device import available_cores

    with suppress(KeyboardInterrupt):
        asyncio.run(_up(cpus or available_cores(), port))


async def _up(cpus: int, port: int) -> None:
    from bot.run import wait_for_stop_signal
    from core.cluster.connection import NO_RAY, ClusterError, is_installed, token_file
    from core.cluster.head import running_head

    if not is_installed():
        raise ClusterError(NO_RAY)
    typer.echo(say("Starting Ray …"), err=True)
    async with running_head(cpus, port) as (address, process):
        counted = phrases("{count} CPU", "{count} CPUs", cpus)
        up = say(
            "A cluster of this machine is up at {address}, with {cpus} for models and training. It "
            "asks for the token in {token}.",
            address=address,
            cpus=counted,
            token=token_file(),
        )
        typer.echo(f"{up}\n{say(NEXT)}")
        stopping, ended = (
            asyncio.create_task(wait_for_stop_signal()),
            asyncio.create_task(process.wait()),
        )
        await asyncio.wait({stopping, ended}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if ended.done():
            raise ClusterError(phrase("Ray ended by itself; its logs are in /tmp/ray."))
        typer.echo(say("Ending Ray …"), err=True)


@cluster.command()
def status() -> None:
    """Show the nodes of the cluster in RAY_ADDRESS, and what is free on them."""
    from bot.settings import SettingsError, load_settings
    from core.cluster.connection import LOCAL as LOCAL_ADDRESS
    from core.cluster.room import look

    address = load_settings().ray_address
    if address is None or address == LOCAL_ADDRESS:
        raise SettingsError(NO_ADDRESS if address is None else LOCAL)
    room = asyncio.run(look(address))
    nodes = phrases("{count} node", "{count} nodes", len(room.nodes))
    typer.echo(say("Ray {version}: {nodes}.", version=room.ray, nodes=nodes))
    for node in room.nodes:
        line = say(
            "{address}  {cpus:g} CPU, {gpus:g} GPU, {memory:g} GB",
            address=node.address,
            cpus=node.cpus,
            gpus=node.gpus,
            memory=node.memory_gb,
        )
        typer.echo(f"{line}  {say('head')}" if node.is_head else line)
    free = say("Free now: {cpus:g} CPU, {gpus:g} GPU.", cpus=room.free_cpus, gpus=room.free_gpus)
    typer.echo(free)
