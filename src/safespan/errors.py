"""The errors that users see. A message says what was given, what was expected and what to do next."""


class SafespanError(Exception):
    """Invalid input. The command line prints the message on one line and exits with code 2."""


class CheckpointError(SafespanError):
    """A checkpoint is missing, broken, or does not match the one it is compared with."""


class ConfigError(SafespanError):
    """A study, an option or a setting has an invalid value."""


class DataError(SafespanError):
    """A prompt file or a data set is missing, empty, or lacks a field."""


class DiskFullError(SafespanError):
    """The disk is full, or the user's quota is used up."""


class HypothesisError(SafespanError):
    """A hypothesis did not return a subspace or an edit of the matrix, or lacks an input that it needs."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its type if the message is empty."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def reason(error: BaseException) -> str:
    """Why a file cannot be read, without the words of Python and the number of the error."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    if isinstance(error, PermissionError):
        return "the permission to read it is missing"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
