"""From the notebook pipelines/jetcorr_pipeline.ipynb to the compiled Kubeflow pipeline, by Kale.

Kale turns the tagged notebook into Python code for the Kubeflow Pipelines SDK. Before that is compiled, four things
are changed in it, each of which must be found exactly as often as there are steps, so that a new version of Kale
cannot slip through:

- The steps install nothing. Kale's install packages from a public index whenever they start; our image has the locked
  environment already, so the steps work behind a firewall and no index's address stands in the compiled file.
- A parameter enters a step's code as a Python literal. Kale's code puts its text between quotes, so that a quote in it
  would be run as code.
- What a step hands on is JSON, in the artefact's own file. Kale's code writes a pickle, which runs code when it is
  read, and takes it through a folder and a file in /tmp with fixed names, which another account could make first.
- Each step asks for memory and processors, is tried again if its pod is lost, and gets the S3 secret if there is one;
  of all this Kale renders GPU limits only.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..config import project_root
from ..errors import InputError, JetcorrError
from ..files import write_text

__all__ = ["NOTEBOOK", "PIPELINE", "Resources", "compile_pipeline"]

NOTEBOOK = project_root() / "pipelines" / "jetcorr_pipeline.ipynb"
PIPELINE = project_root() / "pipelines" / "jetcorr.pipeline.yaml"
S3_SECRET = "jetcorr-s3"
S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL")


@dataclass(frozen=True)
class Resources:
    """What a step asks of the cluster.

    Attributes
    ----------
    cpu, memory
        Request, in Kubernetes' notation; the memory is the limit as well.
    trains
        Whether the step trains networks, and so gets the GPUs that are asked for.
    """

    cpu: str
    memory: str
    trains: bool = False


#: by the names of the notebook's steps
RESOURCES = {
    "data_exploration": Resources("4", "8Gi"),
    "gnn_training": Resources("2", "8Gi", trains=True),
    "tuning": Resources("4", "16Gi", trains=True),
    "onnx_export": Resources("1", "4Gi"),
    "triton_query": Resources("2", "8Gi"),
    "physics_plots": Resources("2", "8Gi"),
}


def compile_pipeline(
    notebook: Path = NOTEBOOK, out: Path = PIPELINE, *, image: str | None = None, gpus: int = 0
) -> Path:
    """Compile the pipeline's notebook; the same notebook gives the same bytes.

    Parameters
    ----------
    notebook
        The notebook that is tagged for Kale.
    out
        The file to write.
    image
        Container image of the steps; default: what the notebook's metadata says.
    gpus
        GPUs for each step that trains networks.

    Returns
    -------
    Path
        The compiled pipeline, to be run or uploaded.

    Raises
    ------
    InputError
        If the image's name could be anything else: Kale's code has it between quotes.
    """
    if image is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*", image):
        raise InputError(f"--image {image!r}: an image is named by letters, digits and the characters . _ - / : @ only")
    # Late: Kale takes seconds to import and sets up logging as it does.
    from kale.common import kfputils
    from kale.compiler import Compiler
    from kale.processors import NotebookProcessor

    with tempfile.TemporaryDirectory() as folder, _reproducible(folder):
        processor = NotebookProcessor(str(notebook), {"output_path": "", **({"base_image": image} if image else {})})
        pipeline = processor.run()
        code = Path(Compiler(pipeline, processor.get_imports_and_functions()).compile())
        steps = [step.name for step in pipeline.steps]
        code.write_text(_adapt(code.read_text(encoding="utf-8"), steps, gpus), encoding="utf-8")
        compiled = Path(kfputils.compile_pipeline(str(code), pipeline.config.pipeline_name))
        return write_text(out, compiled.read_text(encoding="utf-8"))


def _adapt(code: str, steps: list[str], gpus: int) -> str:
    """Kale's code with the four changes that the module's docstring explains."""
    code = _replace(
        code,
        r"packages_to_install=\[[^\]]*\],\s*pip_index_urls=\[[^\]]*\],\s*pip_trusted_hosts=\[[^\]]*\]",
        "install_kfp_package=False",
        len(steps),
    )
    code = _replace(code, r"= '\{ (\w+) \}'", r"= {\1!r}", len(steps) * len(_parameters(code)))
    code = _hand_on_json(code, len(steps))
    for step in steps:
        code = _replace(code, rf"^    {step}_task\.set_display_name\(.*\)$", rf"\g<0>\n{_requests(step, gpus)}", 1)
    return code


def _hand_on_json(code: str, steps: int) -> str:
    """Kale's code with values and metrics as JSON in the artefacts' own files.

    The blocks that the kernel runs are texts, and become f-strings since they have to name these files.
    """
    between = steps - 1  # the last step hands nothing on
    aside = r'    from kale import marshal as _kale_marshal\n    _kale_marshal\.set_data_dir\("/tmp/marshal"\)\n'
    ours = "    from jetcorr_utils.files import read_json, write_json\n"
    metrics = (
        r"'''\n    from kale\.common import kfputils as _kale_kfputils\n    _kale_kfp_metrics = {\n"
        r"((?:        .*\n)*)    }\n    _kale_kfputils\.generate_mlpipeline_metrics\(_kale_kfp_metrics\)"
    )
    load = r"    from kale\.common\.kfputils import load_mlpipeline_metrics\n    load_mlpipeline_metrics\((\w+)\)"
    for pattern, new, times in (
        (rf"    # Saves the received artifacts .*\n{aside}(    .*\n)*?        _shutil\.copy\(.*\n", "", between),
        (rf'    # Prepare output artifacts .*\n{aside}(    .*\n|\n)*?    .*"marshal_path".*\n', "", between),
        (rf"(_kale_data_\w+_block = )('''\n    #.*\n){aside}", rf"\1f\2{ours}", 2 * steps),
        (r'_kale_marshal\.load\("(\w+)_artifact"\)', r"read_json({\1_input_artifact.path!r})", between),
        (r'_kale_marshal\.save\((\w+), "\1_artifact"\)', r"write_json({\1_output_artifact.path!r}, \1)", between),
        (metrics, rf"f'''\n{ours}    _ = write_json({{kale_metrics_artifact.path!r}}, {{{{\n\1    }}}})", 1),
        (load, rf"{ours}    for name, value in read_json(\1.path).items():\n        \1.log_metric(name, value)", 1),
        ("marshal|mlpipeline|pickle|dill", "", 0),
    ):
        code = _replace(code, pattern, new, times)
    return code


def _requests(step: str, gpus: int) -> str:
    """Lines of code that give a step its resources, retries and secret."""
    resources, task = RESOURCES[step], f"    {step}_task"
    lines = [
        f'{task}.set_cpu_request("{resources.cpu}")',
        f'{task}.set_memory_request("{resources.memory}").set_memory_limit("{resources.memory}")',
        f'{task}.set_retry(num_retries=2, backoff_duration="30s", backoff_factor=2)',
        f"    use_secret_as_env({step}_task, secret_name={S3_SECRET!r}, "
        f"secret_key_to_env={dict(zip(S3_KEYS, S3_KEYS, strict=True))!r}, optional=True)",
    ]
    if gpus and resources.trains:
        lines.append(f'{task}.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit({gpus})')
    return "\n".join(lines)


def _parameters(code: str) -> set[str]:
    """The names of the pipeline's parameters in Kale's code."""
    return set(re.findall(r"= '\{ (\w+) \}'", code))


def _replace(code: str, pattern: str, new: str, times: int) -> str:
    code, found = re.subn(pattern, new, code, flags=re.MULTILINE)
    if found != times:
        raise JetcorrError(
            f"Kale's code is not as expected: {pattern!r} stands in it {found} times, not {times}; "
            "was Kale updated? see jetcorr_utils/kubeflow/pipeline.py"
        )
    return code


@contextlib.contextmanager
def _reproducible(folder: str) -> Iterator[None]:
    """Keep from the compiled file what Kale takes from its surroundings, and its own files out of the project."""
    before, here = dict(os.environ), Path.cwd()
    for name in list(os.environ):
        if name.startswith("KALE_") or name == "HOSTNAME":
            del os.environ[name]
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)
