"""The cluster's resources, one small module a kind, made of the SDKs' typed models where there are such."""

from .target import Cluster, Place
from .write import write_manifests

__all__ = ["Cluster", "Place", "write_manifests"]
