"""Passwords in URLs, which would be visible in shell history, process lists and files."""

from __future__ import annotations

import re

from mnist_ff.errors import ConfigError

KEY = re.compile(r"([?&][^=&]*pass[^=&]*=)[^&]+", re.IGNORECASE)
"""A password among a URL's parameters."""


def holds_password(url: str) -> bool:
    """Whether a URL has a password, before its host or among its parameters."""
    user = url.partition("://")[2].rpartition("@")[0]
    return ":" in user or KEY.search(url) is not None


def without_password(url: str) -> str:
    """A URL as it may be printed and saved: without user and password. What is no URL stays as it is."""
    if "://" not in url:
        return url
    scheme, _, rest = url.partition("://")
    return KEY.sub(r"\1...", f"{scheme}://{rest.rpartition('@')[2]}")


MLFLOWS = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD for a server, PGPASSWORD for PostgreSQL"


def check_no_password(key: str, url: str, remedy: str = MLFLOWS) -> None:
    """A password in a URL would stand in shell histories, lists of processes and files. Errors: ConfigError."""
    if holds_password(url):
        raise ConfigError(
            f"{key}={without_password(url)}: contains a password, which would be visible in files and process lists; "
            f"remove it, and {remedy}"
        )
