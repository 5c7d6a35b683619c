"""The errors that mark a mistake of the caller rather than of this package.

A service answers any :class:`UserError` with "bad request"; its message is a sentence written for
the person who made the request. ``except ValueError`` and ``except FileNotFoundError`` catch them
as usual.
"""

from __future__ import annotations


class UserError(Exception):
    """The caller gave something that cannot be used; the message says what, and what to do."""


class InputError(UserError, ValueError):
    """A value, a file or a combination of settings that cannot be used."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that does not exist."""
