"""What a jet is: its columns, its flavour, the classes of its particles, and how lists of particles are stored.

Everything else stands on this room, which imports nothing but the errors: files are read into these columns, networks
take them, figures show them, and the simulation writes them.
"""

from .columns import Column, Fill, add_column, log, log1p, together

__all__ = ["Column", "Fill", "add_column", "log", "log1p", "together"]
