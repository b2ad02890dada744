"""What can go wrong in training.

TrainingError
├── CorruptData         a record of the data set cannot be read
├── EmptyDataset        there is nothing to learn from
├── BaseMissing         the model to start from cannot be loaded
├── NotFinite           the loss became NaN or infinite
├── CorruptCheckpoint   a checkpoint folder is not whole
├── CheckpointRejected  the checkpoint did not pass its checks
├── JobRunning          the scope has a job under way already
└── ChildFailed         the training process ended without a result

The message of each is a sentence that an admin can read.
"""

from __future__ import annotations


class TrainingError(Exception):
    """The base of this package's errors."""


class CorruptData(TrainingError):
    """A record of the data set cannot be read."""


class EmptyDataset(TrainingError):
    """There is nothing to learn from."""


class BaseMissing(TrainingError):
    """The model to start from cannot be loaded."""


class NotFinite(TrainingError):
    """The loss became NaN or infinite."""


class CorruptCheckpoint(TrainingError):
    """A checkpoint folder is not whole."""


class CheckpointRejected(TrainingError):
    """The checkpoint did not pass its checks."""


class JobRunning(TrainingError):
    """The scope has a job under way already."""


class ChildFailed(TrainingError):
    """The training process ended without a result."""
