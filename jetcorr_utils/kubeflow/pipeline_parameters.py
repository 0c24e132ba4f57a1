"""The parameters of the pipeline, and what they may hold.

Kubeflow's pages let anyone type them, and they end up in code and in paths: what could be anything but a name or a path
is refused, both before a run is submitted and by each step.
"""

from __future__ import annotations

import re

from ..errors import InputError
from .backends import BACKENDS

__all__ = ["DEFAULTS", "IMAGE", "check_parameters"]

IMAGE = "KALE_DEFAULT_BASE_IMAGE"
"""Environment variable with the image of the notebook server, which what it starts has, too."""

#: the parameters of the compiled pipeline and their defaults; the folders lie on the volume that each step mounts
DEFAULTS = {
    "study": "quick", "run_dir": "/mnt/jetcorr/results/quick", "data_dir": "/mnt/jetcorr/data", "backend": "local",
}  # fmt: skip

_STUDY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*|/?[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*\.ya?ml")
_PATH = re.compile(r"/?[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*/?")


def check_parameters(study: str, run_dir: str, data_dir: str = "", backend: str = "local") -> None:
    """Check the pipeline's parameters.

    Parameters
    ----------
    study
        Name of a study, or path of a YAML file.
    run_dir
        The run's folder.
    data_dir
        Folder for generated data and caches; empty: as the study says.
    backend
        Where trainings, search and server run: "local" in the steps themselves, "kubeflow" as resources of their own.

    Raises
    ------
    InputError
        If one of them has a character other than letters, digits and ``. _ - /``, or there is no such backend; the
        message names it.
    """
    for name, value, pattern in (("study", study, _STUDY), ("run_dir", run_dir, _PATH), ("data_dir", data_dir, _PATH)):
        if name == "data_dir" and not value:
            continue
        if not pattern.fullmatch(value):
            raise InputError(
                f"pipeline parameter {name} = {value!r}: use letters, digits and the characters . _ - / only"
            )
        if ".." in value.split("/"):
            raise InputError(f"pipeline parameter {name} = {value!r}: '..' may not stand in it")
    if backend not in BACKENDS:
        raise InputError(f"pipeline parameter backend = {backend!r}: there are {', '.join(BACKENDS)}")
