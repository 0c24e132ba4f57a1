"""Types of the command line's options."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from .errors import InputError
from .files import local_path

__all__ = ["OutputPath"]


class OutputPath(click.Path):
    """A path of this machine to write to; an address, which would become a folder of that name, is refused."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path.

        Raises
        ------
        InputError
            If it is an address, or would lie in a file.
        """
        path = local_path(value)
        for folder in path.parents:
            if os.path.lexists(folder):
                if not folder.is_dir():
                    raise InputError(f"{folder}: a file is in the way of this folder; choose another")
                break
        return super().convert(path, param, ctx)
