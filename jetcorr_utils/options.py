"""Types of the command line's options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

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
            If it is an address.
        """
        return super().convert(local_path(value), param, ctx)
