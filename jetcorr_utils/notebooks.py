"""The numbered notebooks: one table for the batch run, the pipeline and all that goes through them in order.

A further notebook is its file in notebooks/ and its entry here; `jetcorr pipeline compile` makes its step.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from .config import project_root

__all__ = ["NOTEBOOKS", "Notebook", "literal"]


@dataclass(frozen=True)
class Notebook:
    """One notebook of the run, what it depends on, and what its step of the pipeline asks for.

    Its parameters stand in its own cell that is tagged so, and the code that it uses in its imports.

    Attributes
    ----------
    number, title
        "01" to "06", and the rest of its file's name.
    about
        What it does, for the pipeline's notebook.
    settings
        Sections of the study that it reads.
    reads
        Patterns of the files in the run folder, made by earlier notebooks, that it reads.
    cpu, memory
        Request of its pod, in Kubernetes' notation; the memory is the limit as well.
    trains
        Whether it trains networks, and so gets the GPUs that are asked for.
    networks
        Whether it is about networks, so that it has nothing to do where jets have no particles.
    folder
        Where it lies.
    """

    number: str
    title: str
    about: str
    settings: tuple[str, ...]
    reads: tuple[str, ...] = ()
    cpu: str = "2"
    memory: str = "8Gi"
    trains: bool = False
    networks: bool = True
    folder: Path = project_root() / "notebooks"

    @property
    def name(self) -> str:
        """Its file's name, for example ``01_data_exploration``."""
        return f"{self.number}_{self.title}"

    @property
    def path(self) -> Path:
        """Its file."""
        return self.folder / f"{self.name}.ipynb"

    @functools.cached_property
    def parameters(self) -> dict[str, str]:
        """Its parameters with the code of their defaults, from the cell that is tagged so."""
        import papermill

        return {name: about["default"] for name, about in papermill.inspect_notebook(literal(self.path)).items()}


def literal(path: Path) -> str:
    """A path for papermill, which takes braces in it for a place to put a parameter into."""
    return str(path).replace("{", "{{").replace("}", "}}")


#: by their numbers, in order. The histories of trainings hold wall times: what they say about the best network, its
#: checkpoint says as well.
NOTEBOOKS = {
    notebook.number: notebook
    for notebook in (
        Notebook(
            "01", "data_exploration",
            "**Jets.** Reads or simulates the collisions, and looks at jets and their particles.",
            settings=("data",), cpu="4", networks=False,
        ),
        Notebook(
            "02", "gnn_training", "**Networks.** Trains the networks of the study.",
            settings=("data", "models"), trains=True,
        ),
        Notebook(
            "03", "tuning",
            "**Hyperparameters.** Searches for better settings, and trains the best network found at full length.",
            settings=("data", "models", "tuning"), reads=("model/*/checkpoint.pt",),
            cpu="4", memory="16Gi", trains=True,
        ),
        Notebook(
            "04", "onnx_export", "**Export.** Writes the best networks as ONNX into a model repository for Triton.",
            settings=("data", "models", "export"),
            reads=(
                "model/*/checkpoint.pt", "model/*/settings.json",
                "tuning/best/checkpoint.pt", "tuning/best/settings.json",
            ),
            cpu="1", memory="4Gi",
        ),
        Notebook(
            "05", "triton_query", "**Serving.** Asks a Triton server for the corrections of the test jets.",
            settings=("data", "serving"), reads=("model_repository/**/*",),
        ),
        Notebook(
            "06", "physics_plots", "**Physics.** Response, resolution and flavour dependence of the corrected jets.",
            settings=("data", "models", "physics"),
            reads=("predictions.root", "validation.root", "metrics/05.json", "model/*/checkpoint.pt"), networks=False,
        ),
    )
}  # fmt: skip
