"""The checks that cost little, at the start of the bot: one line in the log for each problem.

Runs beside the start and holds nothing up. What the start itself finds out (the token, the
database, the worker, the Hub) is not asked twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from bot.cli.doctor import models
from bot.cli.doctor.checks import Check, run_all, run_in_daemon_thread
from bot.cli.doctor.machine import DISK, MEMORY, check_disk, check_memory
from bot.cli.doctor.report import Finding
from bot.settings import Settings
from training.checkpoints import verify_sizes

log = logging.getLogger(__name__)

CHECK_TIMEOUT_S = 300.0
"""After which a check is given up: nobody waits for it."""


async def log_problems(settings: Settings) -> None:
    """Look at the disk, the memory and the models, and warn of what is wrong."""
    looks: dict[str, Callable[[], Sequence[Finding]]] = {
        DISK: partial(check_disk, settings),
        MEMORY: partial(check_memory, settings),
        models.EMBEDDED_CHECK: models.check_embedded_model,
        models.EXTRA_MODELS_CHECK: partial(models.check_extra_models, settings),
        models.CHECKPOINTS_CHECK: partial(models.check_checkpoints, settings, verify_sizes),
    }
    checks = [
        Check((name,), partial(run_in_daemon_thread, look), CHECK_TIMEOUT_S)
        for name, look in looks.items()
    ]
    for one in await run_all(checks):
        if not one.ok:
            log.warning("%s: %s %s", one.name, one.detail, one.advice)
