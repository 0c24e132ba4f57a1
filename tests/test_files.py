"""Files are complete or absent."""

from __future__ import annotations

import pytest

from jetcorr_utils.files import atomic_path, fingerprint, read_json, write_json


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(RuntimeError, match="disk"), atomic_path(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError("disk")
    assert read_json(path) == {"x": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_the_temporary_file_keeps_the_suffix_and_the_folder(tmp_path):
    with atomic_path(tmp_path / "new" / "figure.png") as temporary:
        assert temporary.suffix == ".png"
        assert temporary.parent == tmp_path / "new"


def test_fingerprint_is_sha256(tmp_path):
    path = tmp_path / "empty"
    path.touch()
    assert fingerprint(path) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
