"""The errors of training. The message of each is a sentence that an admin can read."""

from __future__ import annotations

from i18n.phrase import phrase

NOTHING_TAUGHT = phrase("There is nothing to learn from yet: teach me something first.")
"""What EmptyDataset says where nothing was taught."""
JOB_ALREADY_OPEN = phrase("A training job is under way in this server already.")
"""What JobAlreadyOpen says."""

NOT_OF_THIS_SERVER = phrase("That is no training job of this server.")
"""What a Refusal says where there is no such job."""


class TrainingError(Exception):
    """The base of this package's errors."""


class NoSuchData(TrainingError):
    """There is no such file or data set."""


class CorruptData(TrainingError):
    """A record of the data set cannot be read."""


class EmptyDataset(TrainingError):
    """There is nothing to learn from."""


class BaseUnavailable(TrainingError):
    """The model to start from cannot be loaded."""


class LossNotFinite(TrainingError):
    """The loss became NaN or infinite."""


class OutOfMemory(TrainingError):
    """Memory ran out, and smaller batches would not help."""


class NotEnoughDisk(TrainingError):
    """The disk is too full to begin."""


class JobLocked(TrainingError):
    """Another process works on the job."""


class CorruptCheckpoint(TrainingError):
    """A checkpoint folder is incomplete or damaged."""


class CheckpointInUse(TrainingError):
    """The checkpoint is needed and cannot be removed."""


class NothingToRollBack(TrainingError):
    """No other model was in service before."""


class JobAlreadyOpen(TrainingError):
    """The scope has a job under way already."""


class ChildFailed(TrainingError):
    """The training process ended without a result."""
