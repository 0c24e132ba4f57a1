"""What a model says of itself is compared with what it is given; a broken model corrects nothing."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from jetcorr_utils.config import project_root
from jetcorr_utils.errors import InputError
from jetcorr_utils.export import export_model
from jetcorr_utils.inference import OnnxPredictor, open_predictors
from jetcorr_utils.inference.model_file import add_checksum
from jetcorr_utils.inference.model_notes import check_notes
from jetcorr_utils.jets.columns import jet_columns
from tests.networks import METADATA, exported, network, some_clouds


def changed(tmp_path, change, seal=True, name="pfn"):
    """An exported model after `change(model)`, with a checksum that is right again."""
    model = onnx.load(exported(name))
    change(model)
    if seal:
        add_checksum(model)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def noted(**notes):
    """A change of notes; None removes one."""

    def change(model):
        kept = [entry for entry in model.metadata_props if entry.key not in notes]
        entries = {entry.key: entry.value for entry in kept} | {k: v for k, v in notes.items() if v is not None}
        del model.metadata_props[:]
        for key, value in entries.items():
            model.metadata_props.add(key=key, value=value)

    return change


REVERSED = jet_columns("open")[::-1]


@pytest.mark.parametrize(
    ("notes", "message"),
    [
        (
            {"jet_features": json.dumps(REVERSED)},
            r'says jet_features \["QG_mult".* gives it \["jetPt"',
        ),
        ({"jet_features": None}, "says jet_features nothing"),
        (
            {"particle_features": '["PF_mass", "PF_pT", "PF_id", "PF_fromPV", "PF_fromAK4Jet"]'},
            "says particle_features",
        ),
        ({"points": '["PF_dPhi", "PF_dEta"]'}, "says points"),
        ({"units": "MeV"}, 'says units MeV, where .* gives it "GeV"'),
        ({"units": None}, "says units nothing"),
        ({"features": "rich"}, "says particle_features"),
        ({"features": "all"}, "features 'all': there are the sets open, rich"),
        ({"particle_columns": "7"}, "says particle_columns 7"),
        ({"format": "3"}, "is of format 3, this version of jetcorr reads up to 2: update jetcorr"),
        ({"format": "two"}, "is of format two"),
        ({"candidates": "all"}, "takes candidates 'all'"),
        ({"training_range": "{"}, "its training_range cannot be read"),
        ({"training_range": '{"jetPt": [30]}'}, "its training_range cannot be read: jetPt"),
        ({"training_range": '{"jetPt": [30, NaN]}'}, "its training_range cannot be read: jetPt"),
        ({"training_range": '{"pt": [30, 100]}'}, "its training_range names 'pt', which is no input"),
        ({"factor_range": "[0, 2]"}, "its factor_range cannot be read"),
        ({"selection": '{"min_pt": "x"}'}, "its selection cannot be read: min_pt"),
        ({"split": '{"test": 2}'}, "its split cannot be read"),
        ({"selection": '{"pt": 3}'}, "its selection cannot be read: pt"),
        ({"training_summary": '{"jetPt": {"edges": [1]}}'}, "its training_summary cannot be read: jetPt"),
        (
            {"training_summary": '{"jetPt": {"edges": [1], "below": [0.1, 1], "mean": 1, "jets": 2}}'},
            "differ in length",
        ),
    ],
)
def test_a_model_that_says_other_than_what_it_is_given_is_refused(tmp_path, notes, message):
    path = changed(tmp_path, noted(**notes))
    with pytest.raises(InputError, match=message) as error:
        open_predictors(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_model_without_a_checksum_is_refused(tmp_path):
    path = changed(tmp_path, noted(checksum=None), seal=False)
    with pytest.raises(InputError, match=r"model\.onnx: has no checksum"):
        OnnxPredictor(path)


def test_the_committed_models_and_files_of_the_first_format_are_taken(tmp_path):
    with OnnxPredictor(changed(tmp_path, noted(format=None, factor_range=None))) as predictor:
        assert np.isfinite(predictor.predict(some_clouds(5))).all()
    for predictor in open_predictors(project_root() / "results" / "reference" / "model_repository").values():
        with predictor:
            assert np.isfinite(predictor.predict(some_clouds(5))).all()


def test_a_server_may_leave_notes_out_but_not_say_something_else():
    check_notes({}, "model m", complete=False)
    check_notes({"features": "rich", "units": "GeV"}, "model m", complete=False)
    for notes in ({"units": "MeV"}, {"jet_features": json.dumps(REVERSED)}, {"training_range": "x"}):
        with pytest.raises(InputError, match="model m: "):
            check_notes(notes, "model m", complete=False)


def graphs(graph):
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from graphs(attribute.g)


def spoil(value, place):
    """A change of one number: in the largest weights, in a bias, or in a constant without dimensions."""

    def change(model):
        tensors = [tensor for graph in graphs(model.graph) for tensor in graph.initializer]
        floats = [tensor for tensor in tensors if tensor.data_type == onnx.TensorProto.FLOAT]
        ranks = {"weight": 2, "bias": 1, "constant": 0}
        tensor = max(
            (t for t in floats if len(t.dims) == ranks[place] and np.isfinite(numpy_helper.to_array(t)).all()),
            key=lambda tensor: int(np.prod(tensor.dims)),
        )
        array = numpy_helper.to_array(tensor).copy()
        array.reshape(-1)[-1] = value
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    return change


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["weight", "bias", "constant"])
@pytest.mark.parametrize("name", ["pfn", "particlenet"])
def test_weights_that_are_not_finite_are_refused_when_the_model_is_opened(tmp_path, name, place, value):
    path = changed(tmp_path, spoil(value, place), name=name)
    with pytest.raises(InputError, match=r"model\.onnx: its weights '.*' are not finite"):
        OnnxPredictor(path)


def test_weights_in_another_file_are_refused(tmp_path):
    path = changed(tmp_path, lambda model: None)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    add_checksum(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"model\.onnx: keeps weights in other files"):
        OnnxPredictor(path)


def _sparse(model):
    values = numpy_helper.from_array(np.array([np.nan], "f4"), "hidden")
    indices = numpy_helper.from_array(np.array([0], "i8"), "hidden_indices")
    return onnx.helper.make_sparse_tensor(values, indices, [1])


HIDDEN = {
    "sparse weights": lambda model: model.graph.sparse_initializer.append(_sparse(model)),
    "functions": lambda model: model.functions.add(name="f", domain="d"),
    "training_info": lambda model: model.training_info.add(),
    "an attribute 'x' of the kind tensors": lambda model: model.graph.node[0].attribute.add(
        name="x", type=onnx.AttributeProto.TENSORS, tensors=[numpy_helper.from_array(np.array([np.nan], "f4"))]
    ),
    "an attribute 'x' of the kind graphs": lambda model: model.graph.node[0].attribute.add(
        name="x", type=onnx.AttributeProto.GRAPHS, graphs=[onnx.GraphProto(name="g")]
    ),
    "an attribute 'x' of the kind sparse_tensor": lambda model: model.graph.node[0].attribute.add(
        name="x", type=onnx.AttributeProto.SPARSE_TENSOR, sparse_tensor=_sparse(model)
    ),
    "an attribute 'x' of the kind sparse_tensors": lambda model: model.graph.node[0].attribute.add(
        name="x", type=onnx.AttributeProto.SPARSE_TENSORS, sparse_tensors=[_sparse(model)]
    ),
}


@pytest.mark.parametrize("what", HIDDEN)
def test_weights_are_where_they_are_looked_at(tmp_path, what):
    path = changed(tmp_path, HIDDEN[what])
    with pytest.raises(InputError, match=rf"model\.onnx: has {what}, as no model that jetcorr exports"):
        OnnxPredictor(path)


@pytest.mark.parametrize("kind", ["f", "floats", "bfloat16"])
def test_numbers_outside_of_weights_are_finite_too(tmp_path, kind):
    def change(model):
        if kind == "bfloat16":
            tensor = onnx.TensorProto(name="x", data_type=onnx.TensorProto.BFLOAT16, dims=[1], int32_data=[0x7FC0])
            model.graph.initializer.append(tensor)
        else:
            model.graph.node[0].attribute.add(name="x", **{kind: np.nan if kind == "f" else [1.0, np.inf]})

    with pytest.raises(InputError, match=r"model\.onnx: its weights '.*x' are not finite"):
        OnnxPredictor(changed(tmp_path, change))


@pytest.mark.parametrize("value", [3e38, -3e38])
def test_answers_that_are_not_finite_correct_nothing(tmp_path, value):
    """Weights that are finite, and overflow: no look at the weights finds it."""
    model = network("pfn")
    model.head.scale.fill_(value)
    path = export_model(model, tmp_path / "model.onnx", metadata={"name": "pfn", **METADATA})
    message = r"model pfn: its answer for \d+ of 20 jets is not a finite factor"
    with OnnxPredictor(path) as predictor, pytest.raises(InputError, match=message):
        predictor.predict(some_clouds(20))


@pytest.mark.parametrize("name", ["particles", "jets"])
def test_inputs_that_are_not_finite_are_refused(name):
    clouds = some_clouds(20)
    getattr(clouds, name)[3, 2] = np.nan
    message = r"model pfn: .*_features has values that are not finite"
    with OnnxPredictor(exported("pfn")) as predictor, pytest.raises(InputError, match=message):
        predictor.predict(clouds)


def test_what_onnx_runtime_cannot_run_is_one_line(tmp_path):
    def unknown_operator(model):
        model.graph.node[0].op_type = "NoSuchOperator"

    with pytest.raises(InputError, match=r"ONNX Runtime cannot run it: ") as error:
        OnnxPredictor(changed(tmp_path, unknown_operator))
    assert "\n" not in str(error.value)
    message = r"model pfn .*ONNX Runtime cannot run it: .*pf_features"
    with OnnxPredictor(exported("pfn")) as predictor, pytest.raises(InputError, match=message):
        predictor.predict(some_clouds(5, features="rich"))
