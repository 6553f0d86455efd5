"""What the commands fail with."""

from __future__ import annotations


class CtlError(Exception):
    """One line for the user; the command ends with status 1."""
