"""Files of corrections that somebody has made to end, fill or hold up the process that reads them."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys

import numpy as np
import pytest

from jetcorr_utils.baseline import load_correction
from jetcorr_utils.correct.residual import load_residual
from jetcorr_utils.errors import InputError
from jetcorr_utils.jec import load_official
from jetcorr_utils.jerc import JER, CorrectionsChoice
from jetcorr_utils.physics import load_closure

TAG, JETS = "Mini_V1_MC", "AK4PFPuppi"
DEEP = 100_000
NESTED = '{"nodetype": "transform", "input": "JetPt", "content": 1.0, "rule": ' * DEEP + "1.0" + "}" * DEEP


def formula(text, name="JetPt"):
    return {"nodetype": "formula", "expression": text, "parser": "TFormula", "variables": [name]}


def correction(part="L2Relative", data=1.0, inputs=(("JetPt", "real"),)):
    given = [{"name": name, "type": kind} for name, kind in inputs]
    output = {"name": "factor", "type": "real"}
    return {"name": f"{TAG}_{part}_{JETS}", "version": 1, "inputs": given, "output": output, "data": data}


def write(path, *corrections):
    path.write_text(json.dumps({"schema_version": 2, "corrections": corrections}), encoding="utf-8")
    return path


HOSTILE = {
    "levels": lambda: json.dumps({"schema_version": 2, "corrections": [correction(data="X")]}).replace('"X"', NESTED),
    "brackets": lambda: "[" * 10 * DEEP,
    "brackets after quotes": lambda: '["\\"]]]]", ' * 10 * DEEP,
    "parentheses": lambda: json.dumps([correction(data=formula("(" * DEEP + "x" + ")" * DEEP))]),
    "sums": lambda: json.dumps([correction(data=formula("x" + "+x" * DEEP))]),
}
READERS = {
    "official": lambda path: CorrectionsChoice(str(path), "L2Relative").load(),
    "standard": load_correction,
    "residual": load_residual,
    "closure": load_closure,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_file_that_goes_too_deep_is_refused(kind, tmp_path):
    """The parsers of correctionlib end the process, so it is one of its own."""
    path = tmp_path / "made.json"
    path.write_text(HOSTILE[kind](), encoding="utf-8")
    program = """
import sys
from jetcorr_utils.errors import InputError
from tests.test_correction_files import READERS
for name, reader in READERS.items():
    try:
        reader(sys.argv[1])
    except InputError as error:
        print(name, error)
"""
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    said = done.stdout.splitlines()
    assert [line.split()[0] for line in said] == list(READERS)
    for line in said:
        assert f"{path}" in line
        assert "within each other" in line or "a text of" in line


def test_a_formula_of_the_usual_length_and_brackets_in_texts_are_read(tmp_path):
    data = formula("(" * 300 + "x" + ")" * 300)
    path = write(tmp_path / "made.json", correction(data=data) | {"description": r'"\\' + "[{" * 500})
    found = CorrectionsChoice(str(path), "L2Relative").load()
    jets = {"jetRawPt": np.array([20.0, 30.0]), "jetEta": np.zeros(2)}
    np.testing.assert_array_equal(found.factor(jets), [20, 30])


@pytest.mark.parametrize("name", ["Mini_V1_MC_L2Relative_AK4PFPuppi.jec.txt.gz", "jet_jerc.json.gz"])
def test_a_file_that_unpacks_to_more_than_any_has_is_refused(name, tmp_path):
    path = tmp_path / name
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(300):
            file.write(b" " * (1 << 20))
    with pytest.raises(InputError, match=rf"{name}: unpacked, it has more than \d+ MiB"):
        load_official(path) if "jec" in name else CorrectionsChoice(str(path)).load()


def test_a_formula_with_a_long_number_is_looked_through_at_once(tmp_path):
    """Each further digit would double the time."""
    path = tmp_path / "Mini_V1_MC_L2Relative_AK4PFPuppi.jec.txt"
    path.write_text(f"{{1 JetEta 1 JetPt {'1' * 1000}# Correction L2Relative}}\n-5 5 2 1 6500\n", encoding="utf-8")
    with pytest.raises(InputError, match="its formula is not one"):
        load_official(path)


@pytest.mark.parametrize("inputs", [(("JetPt", "string"),), (("JetPt", "real"), ("Mood", "real"))])
@pytest.mark.parametrize("part", ["L2Relative", "Total"])
def test_a_correction_that_depends_on_what_jets_do_not_have_is_named(part, inputs, tmp_path):
    others = [correction()] if part == "Total" else []
    path = write(tmp_path / "made.json", *others, correction(part, inputs=inputs))
    with pytest.raises(InputError, match=rf"{part}.*: depends on {inputs[-1][0]}, which jets do not have here"):
        CorrectionsChoice(str(path), "L2Relative", ("all",)).load()


def test_a_correction_that_has_no_value_for_a_jet_is_named(tmp_path):
    bins = {"nodetype": "binning", "input": "JetPt", "edges": [0.0, 1.0], "content": [1.0], "flow": "error"}
    found = CorrectionsChoice(str(write(tmp_path / "made.json", correction(data=bins))), "L2Relative").load()
    with pytest.raises(InputError, match=f"corrections {TAG}_L2Relative_{JETS}: "):
        found.factor({"jetRawPt": np.array([20.0]), "jetEta": np.zeros(1)})
    choice = [{"key": "nom", "value": 1.1}]
    scale = {"nodetype": "category", "input": "systematic", "content": choice}
    pair = correction("PtResolution"), correction("ScaleFactor", scale, (("systematic", "string"),))
    both = CorrectionsChoice(str(write(tmp_path / "pair.json", correction(), *pair)), "L2Relative", (JER,)).load()
    with pytest.raises(InputError, match=f"corrections {TAG}_ScaleFactor_{JETS}: "):
        both.scale_factor({"jetPt": np.array([20.0]), "jetEta": np.zeros(1)}, "up")


@pytest.mark.parametrize("part", ["a/b", "a;1", "a[2]", "a b", "a\nb", "a\x1b[31m"])
def test_a_source_becomes_a_column_only_if_its_name_can(part, tmp_path):
    path = write(tmp_path / "made.json", correction(), correction(part), correction("Total"))
    assert CorrectionsChoice(str(path), "L2Relative", ("all",)).load().sources == ("Total",)
