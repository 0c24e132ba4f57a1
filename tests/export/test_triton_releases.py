"""The table of Triton releases: complete from its first to its last month, and what it says of a model."""

from __future__ import annotations

import onnx
import pytest

from jetcorr_utils.errors import InputError
from jetcorr_utils.export.triton_releases import (
    ONNX_RUNTIME,
    check_release,
    container_image,
    first_release,
    highest_opset,
)


def _model(opset, ir=8):
    graph = onnx.helper.make_graph([], "empty", [], [])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=ir)


def test_every_month_is_there_and_nothing_grows_older():
    months = [f"{year}.{month:02d}" for year in (24, 25, 26) for month in range(1, 13)]
    first, *_, last = ONNX_RUNTIME
    assert list(ONNX_RUNTIME) == months[months.index(first) : months.index(last) + 1]
    versions = [tuple(map(int, version.split("."))) for version in ONNX_RUNTIME.values()]
    assert versions == sorted(versions)
    opsets = [highest_opset(release) for release in ONNX_RUNTIME]
    assert opsets == sorted(opsets)


@pytest.mark.parametrize(("release", "opset"), [("24.04", 20), ("24.10", 21)])
def test_highest_opset(release, opset):
    assert highest_opset(release) == opset
    check_release(_model(opset), release)
    with pytest.raises(InputError, match=f"up to opset {opset}.*this one has opset {opset + 1}"):
        check_release(_model(opset + 1), release)


def test_the_file_format_counts_too():
    assert first_release(_model(18, ir=9)) == "24.04"
    assert first_release(_model(18, ir=10)) == "24.05"
    with pytest.raises(InputError, match=r"IR 10: export with --opset 20, or use Triton 24\.05"):
        check_release(_model(18, ir=10), "24.04")


def test_our_models_run_in_every_release_of_the_table(files):
    for path in files.values():
        assert first_release(onnx.load(path)) == "24.04"


def test_unknown_releases_and_too_new_models_are_named():
    with pytest.raises(InputError, match=r"'21\.09'"):
        highest_opset("21.09")
    with pytest.raises(InputError, match="opset 99"):
        first_release(_model(99))


def test_the_repository_states_the_image(make_repository):
    config = (make_repository("pfn") / "pfn" / "config.pbtxt").read_text()
    assert container_image("24.04") in config
