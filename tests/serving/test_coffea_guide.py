"""The analysis of docs/how-to/coffea.md runs as it stands there, under each of coffea's executors."""

from __future__ import annotations

import importlib.util
import re

import pytest
from coffea import processor
from coffea.nanoevents import PFNanoAODSchema

from jetcorr_utils.config import project_root

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Missing cross-reference", "ignore:Branch Photon_"),
]


@pytest.fixture(scope="module")
def analysis(tmp_path_factory):
    """The module that a reader would have after copying the block into a file."""
    text = (project_root() / "docs" / "how-to" / "coffea.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "class Analysis" in block)
    path = tmp_path_factory.mktemp("docs") / "docs_analysis.py"
    path.write_text(code, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path.parent)
        patch.setenv("PYTHONPATH", f"{path.parent}:{project_root()}")  # for worker processes
        spec = importlib.util.find_spec("docs_analysis")
        module = importlib.util.module_from_spec(spec)
        patch.setitem(__import__("sys").modules, "docs_analysis", module)
        spec.loader.exec_module(module)
        yield module


@pytest.mark.parametrize("kind", ["iterative", "futures", "dask"])
def test_the_analysis_of_the_guide_runs(kind, analysis, real_data, request):
    model = project_root() / "results" / "reference" / "model_repository" / "pfn"
    given = {"sample": [str(real_data / "pfnano.root")]}, analysis.Analysis(model)
    if kind == "dask":
        client = request.getfixturevalue("dask_client")
        found = _run(processor.DaskExecutor(client=client, status=False), *given)
    else:
        executor = {"iterative": processor.IterativeExecutor, "futures": processor.FuturesExecutor}[kind]
        found = _run(executor(status=False, **({"workers": 2} if kind == "futures" else {})), *given)
    assert found["jets"] > 30
    assert found["sum of pt"] > 30 * found["jets"]


def _run(executor, files, analysis):
    return processor.Runner(executor, schema=PFNanoAODSchema, chunksize=5)(files, analysis, treename="Events")
