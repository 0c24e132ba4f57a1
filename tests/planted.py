"""Secrets that stand in the environment of runs in tests; none of them may be found in what a run leaves."""

from __future__ import annotations

__all__ = ["SECRETS"]

SECRETS = {
    name: f"planted-{number}-3f9c1e7a"
    for number, name in enumerate(
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "BEARER_TOKEN", "KUBE_TOKEN",
         "KF_PIPELINES_TOKEN", "JUPYTER_TOKEN", "MY_PASSWORD")
    )
}  # fmt: skip
"""Values by the name of their variable."""
