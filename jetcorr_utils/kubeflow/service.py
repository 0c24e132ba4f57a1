"""The service of an InferenceService: predictors that ask it, and its removal when they are closed."""

from __future__ import annotations

import contextlib
import weakref
from typing import Any

from ..errors import ClusterError
from ..inference.predictor import Predictor
from ..serving.prediction_service import Service

__all__ = ["ClusterService", "address"]


class ClusterService(Service):
    """A service whose resources on the cluster go when it is closed, or with the process."""

    def __init__(self, predictors: dict[str, Predictor], text: str, resources: contextlib.ExitStack) -> None:
        super().__init__(predictors, text)
        self._remove = weakref.finalize(self, resources.close)

    def close(self) -> None:
        """Close the connections and remove the resources."""
        super().close()
        self._remove()


def address(server: dict[str, Any]) -> str:
    """``http://host:port`` of an InferenceService inside the cluster."""
    status = server["status"]
    url = (status.get("address") or {}).get("url") or status.get("url") or ""
    host = url.removeprefix("http://").rstrip("/")
    if "://" in host or not host:
        raise ClusterError(f"InferenceService {server['metadata']['name']} has no http address: {url or 'none'}")
    return f"http://{host}" if ":" in host else f"http://{host}:80"
