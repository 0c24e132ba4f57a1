"""Particle clouds from the files of a study."""

from __future__ import annotations

from .dataset import CloudDataset

__all__ = ["CloudDataset"]
