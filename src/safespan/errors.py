"""The one family of errors a user meets: what was given, what was expected, what to do next."""


class SafespanError(Exception):
    """Bad input; the command line prints its message on one line and exits with code 2."""


class CheckpointError(SafespanError):
    """A checkpoint is missing, broken, or does not match the one it is compared with."""


class ConfigError(SafespanError):
    """A study, an option or a setting has a value it cannot have."""


class DataError(SafespanError):
    """A prompt file or a data set is missing, empty, or lacks a field."""


class DiskFullError(SafespanError):
    """There is no space left for what was to be written, or the user's quota is used up."""


class HypothesisError(SafespanError):
    """A hypothesis returned what is no subspace or edit of a matrix, or lacks what it needs."""
