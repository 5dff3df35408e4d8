"""What a key accepts beyond its type: notes in the Annotated types of config dataclasses."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mnist_ff.config.passwords import holds_password, without_password
from mnist_ff.errors import ConfigError


@dataclass(frozen=True)
class Range:
    """The numbers that a key accepts; None leaves a side open."""

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None

    def allows(self, value: float) -> bool:
        """Whether the finite number `value` lies in the range."""
        return (
            (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
        )

    def __str__(self) -> str:
        words = [f"{name.replace('_', ' ')} {value:g}" for name, value in vars(self).items() if value is not None]
        return " and ".join(words)


@dataclass(frozen=True)
class Pattern:
    """The texts that a key accepts, as a regular expression; the key's meaning says it in words."""

    expression: str

    def allows(self, value: str) -> bool:
        """Whether the whole of `value` is of this form."""
        return re.fullmatch(self.expression, value) is not None


def check_no_password(path: str, uri: str) -> None:
    """A password in a URI would stand in the shell's history, in ps, and in each run's files. Errors: ConfigError."""
    if holds_password(uri):
        raise ConfigError(
            f"{path}={without_password(uri)}: contains a password, which would be visible in files and process lists; "
            "remove it, and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD for a server, PGPASSWORD for "
            "PostgreSQL"
        )


@dataclass(frozen=True)
class Store:
    """The URI of an MLflow store: no folder, and without a password."""

    def check(self, path: str, value: str) -> None:
        """Errors: ConfigError, in which no password stands."""
        check_no_password(path, value)
        if value.startswith("file:") or ("://" not in value and value != "databricks"):
            raise ConfigError(
                f"{path}={value}: is a folder, which MLflow no longer supports for new runs; give sqlite:///FILE "
                "(mlflow migrate-filestore converts old stores)"
            )


LARGEST_WHOLE = 1 << 63
"""Above every whole number that a key may be."""
