"""The errors a user can meet, as a tree. Each carries the exit code of the command that ends with it."""

INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 and the signal's number, as shells have it."""


class Stopped(BaseException):
    """A signal ends the command: the second one a run, the first one a sweep. Carries the exit code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class MnistError(Exception):
    """An expected failure: one line that says what, where and what to do."""

    exit_code = 1


class ConfigError(MnistError):
    """Bad input: a wrong key, value, option, path or argument."""

    exit_code = 2


class BadRunError(ConfigError):
    """A path was given as a run directory and is not a readable one."""


class MissingFileError(BadRunError):
    """A run has no such file."""


class DataError(MnistError):
    """A data set could not be had, or is not what it should be."""


class RunError(MnistError):
    """A run could not go on."""


class LostError(RunError):
    """The process that trained is gone, and could not say why itself."""


class DivergedError(RunError):
    """A loss was not finite."""
