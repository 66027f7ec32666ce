"""The one exception whose message is written for the user: what is wrong, where, and what to do."""


class HindcastError(Exception):
    """A mistake that the user can mend. The command line prints it as one line and exits with 1."""
