"""From the notebook pipelines/jetcorr_pipeline.ipynb to the compiled Kubeflow pipeline, by Kale.

The notebook has a step for each entry of the table of notebooks. Kale turns the tagged notebook into Python code for
the Kubeflow Pipelines SDK. Before that is compiled, six things are changed in it, each of which must be found exactly
as often as it is meant to be, so that a new version of Kale cannot slip through:

- The steps install nothing. Kale's install packages from a public index whenever they start; our image has the locked
  environment already, so the steps work behind a firewall and no index's address stands in the compiled file.
- A parameter enters a step's code as a Python literal. Kale's code puts its text between quotes, so that a quote in it
  would be run as code.
- What a step hands on is JSON, in the artefact's own file. Kale's code writes a pickle, which runs code when it is
  read, and takes it through a folder and a file in /tmp with fixed names, which another account could make first.
- Each step asks for memory and processors, is tried again if its pod is lost, and gets the S3 secret if there is one;
  of all this Kale renders GPU limits only.
- Steps run as the image's user, 1000 in group 100, as all other pods that write to the volume; Kale's run as 65534:0.
- The step that exports has the model repository as an artefact `system.Model`, which Kale has no way to make.

The compiled file is for the newest Pipelines. `adapt_pipeline` leaves out what an older one refuses.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
import yaml

from ..config import IMAGE, project_root, resource_name
from ..errors import InputError, JetcorrError
from ..files import write_text
from ..notebooks import NOTEBOOKS, Notebook
from .releases import LATEST, Version

__all__ = ["NOTEBOOK", "PIPELINE", "adapt_pipeline", "check_image", "compile_pipeline", "read_pipeline", "with_steps"]

NOTEBOOK = project_root() / "pipelines" / "jetcorr_pipeline.ipynb"
PIPELINE = project_root() / "pipelines" / "jetcorr.pipeline.yaml"
EXPORT = "04"  # the notebook that writes the models
USER, GROUP = 1000, 100  # of the image, see manifests.Cluster
S3_SECRET = "jetcorr-s3"
S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL")


def compile_pipeline(
    notebook: Path = NOTEBOOK, out: Path = PIPELINE, *, image: str | None = None, gpus: int = 0
) -> Path:
    """Bring the steps of the pipeline's notebook up to date, and compile it; the same notebook gives the same bytes.

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
    if image is not None:
        check_image(image)
    notebook, out = notebook.absolute(), out.absolute()  # Kale is run in another folder
    text = nbformat.writes(with_steps(nbformat.read(notebook, as_version=4))) + "\n"
    if text != notebook.read_text(encoding="utf-8"):
        write_text(notebook, text)
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


def check_image(image: str) -> str:
    """The name of an image, which cannot be anything else.

    Raises
    ------
    InputError
        If it could be.
    """
    if not re.fullmatch(IMAGE, image):
        raise InputError(f"--image {image!r}: an image is named by letters, digits and the characters . _ - / : @ only")
    return image


def read_pipeline(path: Path) -> list[dict[str, Any]]:
    """The two parts of a compiled pipeline: its steps, and what they are on Kubernetes.

    Raises
    ------
    InputError
        If the file is none.
    """
    try:
        pipeline, platform = yaml.safe_load_all(path.read_text(encoding="utf-8"))
        _ = pipeline["root"]["dag"]["tasks"], _containers(pipeline), _on_kubernetes(platform)
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise InputError(f"{path}: no compiled pipeline of jetcorr; `jetcorr pipeline compile` makes one") from None
    return [pipeline, platform]


def _containers(pipeline: dict[str, Any]) -> list[dict[str, Any]]:
    return [executor["container"] for executor in pipeline["deploymentSpec"]["executors"].values()]


def _on_kubernetes(platform: dict[str, Any]) -> list[dict[str, Any]]:
    return list(platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values())


def adapt_pipeline(
    compiled: Path, pipelines: Version = LATEST.pipelines, *, image: str | None = None,
    pull_secrets: Sequence[str] = (),
) -> str:  # fmt: skip
    """The compiled pipeline for an installed version of Kubeflow Pipelines.

    Parameters
    ----------
    compiled
        The file that `compile_pipeline` wrote.
    pipelines
        The version. Before 2.16 a step's user is not known, and it runs as the image's; before 2.15 a secret cannot be
        optional, and is left out, and a volume has its name in one field only.
    image
        Image of the steps; default: as compiled.
    pull_secrets
        Secrets with the credentials of its registry.
    """
    pipeline, platform = read_pipeline(compiled)
    for container in _containers(pipeline):
        container["image"] = check_image(image) if image else container["image"]
    for settings in _on_kubernetes(platform):
        if pull_secrets:
            settings["imagePullSecret"] = [
                {"secretName": resource_name(name, "--image-pull-secret")} for name in pull_secrets
            ]
        if pipelines < (2, 16):
            settings.pop("securityContext", None)
        if pipelines < (2, 15):
            settings.pop("secretAsEnv", None)
            for mount in settings.get("pvcMount", ()):
                mount.pop("pvcNameParameter", None)
    return yaml.safe_dump_all([pipeline, platform], sort_keys=False)


def with_steps(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The pipeline's notebook with a step for each numbered one, in the place of those that it has."""
    tags = [cell.metadata.get("tags", [""])[0].partition(":")[0] for cell in notebook.cells]
    first, last = tags.index("step") - 1, len(tags) - tags[::-1].index("step")  # from the text of the first one
    new: list[nbformat.NotebookNode] = []
    before: Notebook | None = None
    for step in NOTEBOOKS.values():
        tags = [f"step:{step.title}", *([f"prev:{before.title}"] if before else [])]
        after = f", after={before.title}" if before else ""
        code = [
            "from jetcorr_utils.kubeflow.pipeline_step import run_step", "",
            f'{step.title} = run_step("{step.number}", study, run_dir, data_dir, backend{after})',
        ]  # fmt: skip
        if step.number == max(NOTEBOOKS):
            code[0] = code[0].replace("run_step", "headline, run_step")
            code.append(f"resolution_gain, flavour_gain, test_mae, test_jets = headline({step.title})")
        cell = nbformat.v4.new_code_cell("\n".join(code), metadata={"tags": tags}, id=step.title.replace("_", "-"))
        new += [nbformat.v4.new_markdown_cell(step.about, id=f"about-{step.number}"), cell]
        before = step
    notebook.cells[first:last] = new
    return notebook


def _adapt(code: str, steps: list[str], gpus: int) -> str:
    """Kale's code with the six changes that the module's docstring explains."""
    code = _replace(
        code, r"packages_to_install=\[[^\]]*\],\s*pip_index_urls=\[[^\]]*\],\s*pip_trusted_hosts=\[[^\]]*\]",
        "install_kfp_package=False", len(steps),
    )  # fmt: skip
    code = _replace(code, r"= '\{ (\w+) \}'", r"= {\1!r}", len(steps) * len(_parameters(code)))
    user = rf"run_as_user={USER}, run_as_group={GROUP},"
    code = _replace(code, r"run_as_user=65534,\s*run_as_group=0,", user, len(steps))
    code = _hand_on_json(code, len(steps))
    code = _keep_models(code, steps)
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


def _keep_models(code: str, steps: list[str]) -> str:
    """Kale's code with the exported models as an artefact of the step that exports them."""
    step = NOTEBOOKS[EXPORT].title
    times = steps.count(step)
    code = _replace(code, rf"^def {step}_step\(", r"\g<0>models: Output[Model], ", times)
    end = rf'^    with open\({step}_html_report\.path, "w"\) as f:\n.*\n'
    keep = "    from jetcorr_utils.kubeflow.registry import keep_models\n    keep_models(run_dir, models)\n"
    return _replace(code, end, rf"\g<0>{keep}", times)


def _requests(step: str, gpus: int) -> str:
    """Lines of code that give a step its resources, retries and secret."""
    (notebook,) = (one for one in NOTEBOOKS.values() if one.title == step)
    task = f"    {step}_task"
    lines = [
        f'{task}.set_cpu_request("{notebook.cpu}")',
        f'{task}.set_memory_request("{notebook.memory}").set_memory_limit("{notebook.memory}")',
        f'{task}.set_retry(num_retries=2, backoff_duration="30s", backoff_factor=2)',
        (
            f"    use_secret_as_env({step}_task, secret_name={S3_SECRET!r}, "
            f"secret_key_to_env={dict(zip(S3_KEYS, S3_KEYS, strict=True))!r}, optional=True)"
        ),
    ]
    if gpus and notebook.trains:
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
