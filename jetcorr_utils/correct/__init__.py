"""The correction of jets: of files, of awkward arrays, and in a coffea analysis."""

from .coffea_jets import JetCorrector
from .jet_arrays import correct_jets
from .met import correct_met
from .predictions_writer import write_predictions
from .root_files import CorrectionReport, correct_files

__all__ = ["CorrectionReport", "JetCorrector", "correct_files", "correct_jets", "correct_met", "write_predictions"]
