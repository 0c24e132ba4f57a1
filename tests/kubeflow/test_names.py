"""Names of resources: valid, short enough, and different for different things."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from jetcorr_utils.config import load_study
from jetcorr_utils.kubeflow.manifests import Cluster
from jetcorr_utils.kubeflow.manifests.experiment import experiment
from jetcorr_utils.kubeflow.names import LIMIT, unique_name
from jetcorr_utils.kubeflow.study_on_cluster import StudyOnCluster
from jetcorr_utils.run import RunFolder

WORDS = st.lists(st.text("abcXYZ019-_. é", min_size=1, max_size=60), min_size=1, max_size=3)
DNS_LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")


@given(WORDS, st.text(max_size=20), st.integers(20, 63))
def test_a_name_is_one_of_kubernetes_within_the_limit(words, owner, limit):
    name = unique_name(*words, owner=owner, limit=limit)
    assert DNS_LABEL.fullmatch(name)
    assert len(name) <= limit
    assert name == unique_name(*words, owner=owner, limit=limit)


@given(WORDS, WORDS, st.text("/ab", max_size=5), st.text("/ab", max_size=5))
def test_different_things_have_different_names(words, others, owner, other_owner):
    if (words, owner) != (others, other_owner) and ("-".join(words), owner) != ("-".join(others), other_owner):
        assert unique_name(*words, owner=owner) != unique_name(*others, owner=other_owner)


def test_each_training_of_a_study_has_a_name_of_its_own(fake_api, tmp_path):
    fake_api(trainjobs=None)
    study = load_study("default", {"cluster.mount": str(tmp_path), "seeds.particlenet_full_balanced": 2})
    site = StudyOnCluster(study, RunFolder(tmp_path / "run"))
    names = {site.name(model) for model in study.models}
    assert len(names) == len(study.models)
    assert {"particlenet_full_balanced", "particlenet_full_balanced_seed2"} <= set(study.models)


def test_what_operators_make_of_the_longest_name_is_within_their_limits():
    study = load_study("smoke").model_copy(update={"name": "a-study-of-forty-two-characters-or-so-long"})
    for job in ("TrainJob", "PyTorchJob"):
        name = experiment(study, Cluster(), job)["metadata"]["name"]
        assert len(name) <= 40  # Katib
        assert len(name) + len("-abcdefgh") + 20 <= 63  # a trial's pod: what a JobSet adds was 20 letters
    assert LIMIT + 29 <= 63
