"""Names of resources: as Kubernetes wants them, short enough for what operators make of them, different for all things.

Operators make longer names of a resource's, and cut or refuse those that get too long: Katib's experiments have at most
40 characters and a trial's has nine more; of a TrainJob's name and up to 29 further characters a pod's is made, which
may have 63.
"""

from __future__ import annotations

import hashlib
import re

__all__ = ["LIMIT", "unique_name"]

LIMIT = 34
"""Characters that every kind's operator leaves room for."""
DIGITS = 8


def unique_name(*words: str, owner: str = "", limit: int = LIMIT) -> str:
    """The words joined to a name of at most `limit` lower-case letters, digits and '-', which begins with a letter.

    It ends with a hash of all words and of `owner`, so that names are different where these are, whatever is cut off;
    words that are a name as they stand are left so if there is no owner.

    Parameters
    ----------
    words
        What the name says, such as the study and the model.
    owner
        What sets this name apart from equal words of others: the path of the run's folder.
    limit
        Characters that it may have.
    """
    plain = "-".join(words)
    if not owner and re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", plain) and len(plain) <= limit:
        return plain
    digest = hashlib.sha256("\0".join([*words, owner]).encode()).hexdigest()[:DIGITS]
    readable = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
    readable = readable if readable[:1].isalpha() else f"j-{readable}".rstrip("-")
    return f"{readable[: limit - DIGITS - 1].rstrip('-')}-{digest}"
