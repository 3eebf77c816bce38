"""The one error that a user is meant to see, and the one way to stop that is none."""


class UserError(ValueError):
    """Bad input: one line that says what was wrong, what was expected and what to do.

    Commands print it to stderr and exit with status 2; nothing has been
    written by then. Anything else that escapes a command is a bug.
    """


class Planned(Exception):
    """`--plan` was answered, and there is nothing else to do: the command ends with status 0."""


def first_line(error: Exception) -> str:
    """What someone else's function raised, in one line: "KeyError: 'x'"."""
    lines = str(error).strip().splitlines()
    return ": ".join([type(error).__name__, *lines[:1]])
