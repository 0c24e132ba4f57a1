"""The folder of a run: where each notebook finds what earlier ones wrote, and puts what it makes.

The layout is a contract (docs/reference/files.md): the notebooks, the pipeline and the command line share it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .addresses import refuse_secrets
from .config import Study, load_study
from .errors import InputError, MissingStageError
from .files import known_shape, local_path, read_json, refuse_links, write_json
from .notebooks import NOTEBOOKS

if TYPE_CHECKING:
    import pandas as pd

    from .style import StyledFigure

__all__ = ["ROOT_FILES", "RunFolder", "default_folder", "open_run"]

ROOT_FILES = ("predictions.root", "validation.root", "regressions.root")
"""Jets in the folder of a run, with all corrections: the test jets, the validation jets, those without candidates."""


def default_folder(study: str | Path) -> Path:
    """The run folder of a study where none is given: in results/, called like the study's file.

    >>> [str(default_folder(study)) for study in ("quick", "studies/my.yaml", "...yaml")]
    ['results/quick', 'results/my', 'results/study']
    """
    name = Path(study).stem
    return Path("results") / (name if name.strip(".") else "study")  # `results/..` is the project's folder


def four_digits(value: float) -> str:
    """A number as it is read: with four digits, but all of those before the decimal point.

    >>> [four_digits(value) for value in (149704.8, 0.064628, 4.7683e-7, 2.0)]
    ['149705', '0.06463', '4.768e-07', '2']
    """
    return f"{value:.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def _merge(old: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`old` with the values of `new`, also in the dictionaries inside."""
    for key, value in new.items():
        inner = old.get(key)
        old[key] = _merge(dict(inner), value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return old


class RunFolder:
    """Paths in a run's folder, and the record of its metrics.

    Parameters
    ----------
    path
        The folder, made if it does not exist.

    Raises
    ------
    InputError
        If a file has its place, or there is a symbolic link in it that leads out of it: what a run reads and writes is
        in its folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = local_path(path).resolve()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise InputError(f"{self.path}: a file is in the way of this folder; choose another") from None
        refuse_links(self.path)
        self.study = self.path / "study.yaml"
        self.state = self.path / "run.json"
        self.notebooks = self.path / "notebooks"
        self.figures = self.path / "figures"
        self.tensorboard = self.path / "tensorboard"
        self.tuning = self.path / "tuning"
        self.model_repository = self.path / "model_repository"
        self.predictions, self.validation, self.regressions = (self.path / name for name in ROOT_FILES)
        self.closure = self.path / "closure.json"
        self.l2_relative = self.path / "L2Relative.json"
        self.metrics = self.path / "metrics.json"
        self.data = self.path / "data.json"
        self.report = self.path / "report.html"
        self.study_name = ""

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @property
    def source(self) -> str:
        """What made the jets, for the label of figures; empty before notebook 01 has recorded it."""
        return str(self._recorded("made_by", ""))

    @property
    def energy(self) -> str:
        """The energy of the collisions, likewise."""
        return str(self._recorded("energy", "13 TeV"))

    @property
    def has_candidates(self) -> bool:
        """Whether the jets have particle-flow candidates, without which no network can be trained."""
        return bool(self._recorded("candidates", True))

    def _recorded(self, what: str, default: object) -> object:
        if not self.data.exists():
            return default
        found = read_json(self.data)
        with known_shape(self.data):
            return found.get(what, default)

    def model(self, name: str) -> Path:
        """The folder of the trained model `name`."""
        return self.path / "model" / name

    def require(self, path: Path, notebook: str) -> Path:
        """Return `path` if it exists.

        Raises
        ------
        MissingStageError
            If it does not; the message says which notebook makes it.
        """
        if not path.exists():
            raise MissingStageError(
                f"{path.relative_to(self.path)} is not in {self.path}: run notebook {NOTEBOOKS[notebook].name} first"
            )
        return path

    def logs(self, elsewhere: str | None = None, part: str = "") -> str:
        """Where TensorBoard's logs (of one part) go: `elsewhere`, any URL, or the run's own folder, which is made.

        Raises
        ------
        InputError
            If there is a secret in the address: it is printed, and the notebook keeps what is printed.
        """
        refuse_secrets(elsewhere or "")
        if elsewhere is None:
            (self.tensorboard / part).mkdir(parents=True, exist_ok=True)
        return f"{elsewhere or self.tensorboard}/{part}".rstrip("/")

    def save(self, figure: StyledFigure, name: str) -> StyledFigure:
        """Write a figure, which then says what made its jets, as ``figures/<name>.png`` and ``.pdf``; and return it."""
        from .style import save_figure

        save_figure(figure.complete(self.source, self.energy), self.figures, name)
        return figure

    def show(self, figure: StyledFigure, name: str) -> None:
        """Write a figure, see `save`, and show what was written below the cell: nothing is drawn once more for that."""
        from IPython.display import Image, display

        self.save(figure, name)
        display(Image(filename=self.figures / f"{name}.png", width=round(figure.get_figwidth() * figure.dpi)))

    def show_all(self, figures: Iterable[tuple[str, StyledFigure]], needs: str) -> None:
        """Write and show figures that come with their names; if there are none, say which settings they need."""
        shown = False
        for name, figure in figures:
            self.show(figure, name)
            shown = True
        if not shown:
            self._say_absent(needs)

    def show_table(self, table: pd.DataFrame | None, needs: str) -> None:
        """Show a table, its numbers with four digits, see `four_digits`, and its rows without theirs.

        If there is none, say which settings it needs.
        """
        from IPython.display import display

        if table is None or not len(table):
            self._say_absent(needs)
        else:
            how: Any = {"index": False, "float_format": four_digits, "na_rep": ""}
            display({"text/html": table.to_html(**how), "text/plain": table.to_string(**how)}, raw=True)

    def say(self, sentences: str) -> None:
        """Show what the numbers say, a line a paragraph."""
        from IPython.display import display

        display({"text/markdown": sentences.replace("\n", "\n\n"), "text/plain": sentences}, raw=True)

    def _say_absent(self, needs: str) -> None:
        print(
            f"not in study {self.study_name}; needs {needs}" if self.study_name else f"not in this study; needs {needs}"
        )

    def record(self, notebook: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Keep the metrics of a notebook and return those of the whole run, as they then stand in metrics.json.

        Each notebook's metrics are a file of their own, so that one notebook can be rerun alone.
        """
        write_json(self.path / "metrics" / f"{notebook}.json", metrics)
        merged: dict[str, Any] = {}
        for part in sorted((self.path / "metrics").glob("*.json")):
            found = read_json(part)
            with known_shape(part):
                _merge(merged, found)
        write_json(self.metrics, merged)
        return merged


def open_run(study: str | Path, run_dir: str | Path) -> tuple[Study, RunFolder]:
    """The study and the run's folder that a notebook's parameters name."""
    settings, run = load_study(study), RunFolder(run_dir)
    run.study_name = settings.name
    return settings, run
