"""From files to batches: ROOT files → jets → features → cached particle clouds → batches.

`locations` finds the files of a study, `reading` opens them (`formats`: `jetntuple`, `nanoaod`), `selection` and
`split` choose jets and sort events, `clouds` keeps the result in a cache (`store`), and `batches` feeds PyTorch.
"""

from .clouds import load_clouds
from .dataset import CloudDataset
from .formats import Format, add_format
from .locations import ensure_files, record_files
from .reader import JetReader
from .reading import Block, FileInfo, describe, iterate_jets, list_blocks, read_block, read_jets

__all__ = [
    "Block", "CloudDataset", "FileInfo", "Format", "JetReader", "add_format", "describe", "ensure_files",
    "iterate_jets", "list_blocks", "load_clouds", "read_block", "read_jets", "record_files",
]  # fmt: skip
