"""The error of the helpers: one line for containerd's user."""


class ShimError(Exception):
    """The action failed; the message is one line that names what failed and why."""
