"""Columns and formats of one's own that cannot be had; test_extensions.py has those that can."""

from __future__ import annotations

import pytest

from jetcorr_utils.config import load_study
from jetcorr_utils.data import load_clouds
from jetcorr_utils.data.formats import Format, add_format
from jetcorr_utils.errors import InputError, StudyError
from jetcorr_utils.jets.columns import Column, add_column
from tests.toys import own_study, toy_file


def test_what_a_file_lacks_is_named(tables, sample, tmp_path):
    study = own_study(tmp_path)
    settings = study.data.model_copy(update={"files": (str(toy_file(sample, tmp_path, without=("charged",))),)})
    with pytest.raises(InputError, match=r"toys\.root: features .* need charged, which it lacks; use features: open"):
        load_clouds(settings, study.models["mine"].features, progress=False)


def test_names_that_are_taken_or_unknown_are_refused(tables, tmp_path):
    with pytest.raises(InputError, match="column PF_pT: there is one of this name"):
        add_column("particle", Column("PF_pT"))
    with pytest.raises(InputError, match="column jetPt2: there is a feature log_pt of a jet already"):
        add_column("jet", Column("jetPt2", features={"log_pt": lambda columns: columns["jetPt2"]}))
    with pytest.raises(InputError, match="column PF_mine: the group kinematics is that of trained models"):
        add_column("particle", Column("PF_mine", group="kinematics"))
    with pytest.raises(InputError, match="format NanoAOD: there is one of this name"):
        add_format(Format("NanoAOD", object, tree="x"))
    with pytest.raises(InputError, match="format Mine: its files are recognised like those of NanoAOD"):
        add_format(Format("Mine", object, tree="Events"))
    with pytest.raises(InputError, match="format Mine: say by which tree"):
        add_format(Format("Mine", object))
    path = tmp_path / "study.yaml"
    path.write_text("models: {pfn: {architecture: pfn, features: [kinematics, colour]}}\n", encoding="utf-8")
    with pytest.raises(StudyError, match=r"models\.pfn.*'colour': there are the sets open, rich, .* the groups kinem"):
        load_study(str(path))
