"""A format of one's own: ROOT files with a tree ``toys`` whose branches are called as the columns are."""

from __future__ import annotations

from jetcorr_utils.data import Format, JetReader, add_format


class Toy(JetReader):
    """Reads one file."""

    format = "Toy"

    def __init__(self, path, tree):
        self.path, self.tree, self.entries = path, tree, tree.num_entries
        self.columns = frozenset(tree.keys())

    def read(self, start, stop, names):
        """These columns of the jets `start` to `stop`."""
        return {name: self.tree[name].array(entry_start=start, entry_stop=stop) for name in names}


add_format(Format("Toy", Toy, tree="toys"))
