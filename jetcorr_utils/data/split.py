"""Which events train, validate and test: decided by a hash of the event's own numbers.

All jets of an event fall on the same side, since they share its pileup and balance each other. The answer depends on
the event alone: it does not move when files are added, reordered or read by another number of workers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..config import SplitSettings
from ..errors import InputError
from ..jets.splitmix import event_hash

__all__ = ["SPLITS", "require_unseen", "split_of"]

SPLITS = {"train": 0, "validation": 1, "test": 2}
"""The code of each part."""


def split_of(run: ArrayLike, lumi: ArrayLike, event: ArrayLike, settings: SplitSettings) -> NDArray[np.uint8]:
    """The part that each event belongs to.

    Parameters
    ----------
    run, lumi, event
        The numbers of the events, `(B,)`.
    settings
        The shares held out and the seed. The test events are those below ``settings.test`` of the hash: they stay
        the same when only the share for validation changes.

    Returns
    -------
    `(B,)`: 0 train, 1 validation, 2 test.
    """
    uniform = (event_hash(run, lumi, event, settings.seed) >> np.uint64(11)) * 2.0**-53
    split = np.full(uniform.shape, SPLITS["train"], dtype=np.uint8)
    split[uniform < settings.test + settings.validation] = SPLITS["validation"]
    split[uniform < settings.test] = SPLITS["test"]
    return split


def require_unseen(model: str, trained: SplitSettings | None, now: SplitSettings) -> None:
    """Make sure that no event which tests or validates now was trained on, whatever files it comes from.

    The side of an event depends on its numbers and on the settings alone, so it is enough to compare these: with the
    same seed the test events are those below the share ``test`` of the hash, the validation events those up to ``test +
    validation``, and a model has seen only what lies above that in its own settings. Smaller shares are therefore parts
    of those that were held out; other seeds and larger shares are not.

    Parameters
    ----------
    model
        Its name, for the message.
    trained, now
        The settings when it was trained (None: not known), and those of the jets that it is given.

    Raises
    ------
    InputError
        If they may have been trained on.
    """
    if trained is None:
        raise InputError(
            f"model {model}: which events it was trained on is not recorded in it, so no jets are known to be new to "
            "it; train and export it again (notebooks 02 and 04)"
        )
    held_out, wanted = ((s.test, round(s.test + s.validation, 12)) for s in (trained, now))
    if trained.seed != now.seed or wanted[0] > held_out[0] or wanted[1] > held_out[1]:
        raise InputError(
            f"model {model}: was trained with the split {_text(trained)}, and with {_text(now)} some of the jets are "
            "among those that it was trained on; train it again (notebook 02) or set data.split as it was"
        )


def _text(settings: SplitSettings) -> str:
    return f"{{validation: {settings.validation:g}, test: {settings.test:g}, seed: {settings.seed}}}"
