"""Two small networks, their ONNX files, and repositories of them, for all tests of the export."""

from tests.networks import files, make_repository, models

__all__ = ["files", "make_repository", "models"]
