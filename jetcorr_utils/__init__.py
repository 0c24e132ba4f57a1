"""Jet energy corrections with graph neural networks.

Data flows one way: files → jets → particle clouds → model → ONNX → Triton → corrected jets → response → figures.
Each step is a module or a folder of this package, and each notebook tells one part of the story with them.
"""

__version__ = "0.1.0"
