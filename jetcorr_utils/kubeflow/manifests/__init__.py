"""The cluster's resources, one small module a kind, made of the SDKs' typed models where there are such."""

from .settings import Cluster
from .write import write_manifests

__all__ = ["Cluster", "write_manifests"]
