"""What an error that ended a run means: the sentence for the admin, and whether to try again."""

from __future__ import annotations

import re

from core.errors import DISK_FULL_ERRNOS
from i18n.phrase import message_of, phrase
from model.runners.device import is_out_of_memory
from training.errors import BaseUnavailable, JobLocked, NotEnoughDisk, OutOfMemory, TrainingError

OS_ERROR_PATTERN = re.compile(r"os error (\d+)|PytorchStreamWriter failed writing")
"""How safetensors and torch report an error of the operating system."""


def error_message(error: Exception) -> str:
    """The sentence about an error that ended the run."""
    match error:
        case TrainingError():
            return message_of(error)
        case _ if is_out_of_memory(error):
            return phrase(
                "There was not enough memory: try a smaller batch size or a smaller model."
            )
        case _ if _errno(error) in DISK_FULL_ERRNOS:
            return phrase("The disk is full: free some space, then start the training again.")
        case _:
            return phrase(
                "Training stopped with an error ({kind}); see the job's log.",
                kind=type(error).__name__,
            )


def is_transient(error: Exception) -> bool:
    """Whether the same run may succeed later: the machine lacked something."""
    lacking = NotEnoughDisk | OutOfMemory | BaseUnavailable | JobLocked
    return isinstance(error, lacking) or _errno(error) in DISK_FULL_ERRNOS


def _errno(error: Exception) -> int | None:
    """The error number of the operating system; safetensors and torch only put it in the text."""
    if isinstance(error, OSError):
        return error.errno
    found = OS_ERROR_PATTERN.search(str(error))
    if found is None:
        return None
    return int(found[1]) if found[1] else min(DISK_FULL_ERRNOS)
