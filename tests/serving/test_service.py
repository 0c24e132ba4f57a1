"""Where notebook 05 gets predictions from: a server of its own, a given one, or this process."""

from __future__ import annotations

import urllib.error

import numpy as np
import pytest

from jetcorr_utils.addresses import open_directly
from jetcorr_utils.errors import InputError, ServerError
from jetcorr_utils.serving import open_service
from jetcorr_utils.serving.server_environment import ENVIRONMENT_VARIABLE
from tests.networks import some_clouds
from tests.waiting import wait_for


def test_a_server_of_its_own_counts_and_stops(make_repository):
    with open_service(make_repository("pfn")) as service:
        server = service.server
        assert "Triton server" in service.text
        service.predictors["pfn"].predict(some_clouds(30))
        wait_for(lambda: service.usage().loc["pfn", "jets"] >= 30, seconds=10)  # Triton answers first, then counts
        assert not [column for column in service.usage() if "_" in column]
    assert not server.running


def test_a_server_of_its_own_answers_who_has_its_key_only(make_repository):
    with open_service(make_repository("pfn")) as service:
        url = f"http://{service.server.http_url}/v2/models/pfn/config"
        with pytest.raises(urllib.error.HTTPError, match="403"):
            open_directly(url, timeout=10)


def test_metrics_of_a_server_that_died_name_its_log(make_repository, tmp_path):
    log = tmp_path / "triton.log"
    with open_service(make_repository("pfn"), log=log) as service:
        assert service.metrics().index.to_list() == ["pfn"]
        service.server.stop()
        with pytest.raises(ServerError, match=rf"does not answer at .*/metrics: .*refused.*; its log: {log}"):
            service.metrics()


def test_a_given_server(server, make_repository):
    with open_service(make_repository("pfn"), url=f"grpc://{server.grpc_url}") as service:
        assert list(service.predictors) == ["pfn"]
        assert np.isfinite(service.predictors["pfn"].predict(some_clouds(3))).all()
    assert server.running


def test_a_given_server_without_the_model(server, make_repository, files):
    from jetcorr_utils.export import add_model

    repository = make_repository("pfn")
    add_model(repository, "other", files["pfn"])
    with pytest.raises(InputError, match="not other"):
        open_service(repository, url=f"http://{server.http_url}")


def test_where_no_server_can_run_the_models_run_in_this_process(make_repository, monkeypatch, tmp_path):
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path))
    with open_service(make_repository("pfn")) as service:
        assert service.server is None
        assert "in this process" in service.text
        assert np.isfinite(service.predictors["pfn"].predict(some_clouds(3))).all()
        assert service.usage().empty
