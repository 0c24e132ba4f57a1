"""The search for hyperparameters: one space, declared in the study, searched in process, by workers, or by Katib."""

from .katib import import_experiment
from .search import search, train_best
from .search_result import SearchResult, load_search, pareto_front
from .space import check_space

__all__ = [
    "SearchResult", "check_space", "import_experiment", "load_search", "pareto_front", "search", "train_best",
]  # fmt: skip
