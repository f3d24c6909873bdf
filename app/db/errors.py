"""What goes wrong with a database, in a module that loads nothing of it."""


class DatabaseUnavailable(Exception):
    """The database does not answer, or cannot write. What was asked for may or may not have happened."""
