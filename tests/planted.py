"""What tests plant: secrets in the environment of runs, none of which may be found in what a run leaves, and names of
folders in which each character means something to a shell, a pattern, a format, an address or a markup.
"""

from __future__ import annotations

__all__ = ["AWKWARD", "SECRETS"]

AWKWARD = "a run (été) 'b' & $(touch HIT) [x] %s {c} #?"
"""A name that is legal for a file; where a shell reads it, a file HIT comes to be."""

SECRETS = {
    name: f"planted-{number}-3f9c1e7a"
    for number, name in enumerate(
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "BEARER_TOKEN", "KUBE_TOKEN",
         "KF_PIPELINES_TOKEN", "JUPYTER_TOKEN", "MY_PASSWORD")
    )
}  # fmt: skip
"""Values by the name of their variable."""
