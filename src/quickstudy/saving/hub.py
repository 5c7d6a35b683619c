"""The Hugging Face hub: what its ids look like, and what goes wrong there in words for people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from quickstudy.errors import MissingFileError
from quickstudy.messages import reason

_NAME = r"\w[\w.-]*"


def is_hub_id(name: str, owned: bool = True) -> bool:
    """Whether this may be a repository ``owner/name``; or, not ``owned``, an old one ``name``."""
    return re.fullmatch(rf"({_NAME}/){'' if owned else '?'}{_NAME}", name) is not None


@contextmanager
def looking_up(
    name: str, called: str, revision: str | None = None, advice: str = "", page: str = ""
) -> Iterator[None]:
    """Says in a sentence why a repository was not found or not downloaded (FileNotFoundError).

    Args:
        name: name of the repository.
        called: what it should hold: "model", "data set".
        revision: that was asked for.
        advice: a sentence for who has the name wrong.
        page: its path on the hub's site; by default its name.
    """
    from huggingface_hub import errors

    here = f"There is no file or folder {name!r} here, and the Hugging Face hub"
    try:
        yield
    except errors.GatedRepoError as error:
        raise MissingFileError(
            f"{name} on the Hugging Face hub is given only to those who ask for it: accept its "
            f"terms at https://huggingface.co/{page or name} and log in (`hf auth login`)."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise MissingFileError(
            f"{name} on the Hugging Face hub has no revision {revision!r}."
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise MissingFileError(
            f"{here} has no {called} {name!r} that you may read.{advice and ' '}{advice}"
        ) from error
    # Libraries of network access raise errors of their own that are no OSError.
    except Exception as error:
        local = isinstance(error, errors.LocalEntryNotFoundError)
        if isinstance(error, errors.EntryNotFoundError) and not local:
            raise  # a file that the repository lacks is the caller's to explain
        raise MissingFileError(
            f"{here} cannot be reached to find it; it was not downloaded before, or not wholly "
            f"({reason(error)})"
        ) from error
