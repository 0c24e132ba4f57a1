"""What tests plant: secrets in the environment of runs, none of which may be found in what a run leaves, and names of
folders in which each character means something to a shell, a pattern, a format, an address or a markup.
"""

from __future__ import annotations

__all__ = ["AWKWARD", "SECRET", "SECRETS", "SECRET_ADDRESSES"]

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

SECRET = "planted-in-an-address-3f9c1e7a"
SECRET_ADDRESSES = [
    text.replace("SECRET", SECRET)
    for text in (
        "https://me:SECRET@example.org/jets.root", "https://SECRET@example.org/jets.root",
        "https://me:/SECRET@example.org/jets.root", "https://me:SECRET#?@example.org/jets.root",
        "https://me:'SECRET@example.org/jets.root", 'https://me:a"SECRET@example.org/jets.root',
        "https://me:a SECRET@example.org/jets.root", "s3://key:SECRET@bucket/jets.root",
        "simplecache::https://SECRET@example.org/jets.root", "zip://jets.root::https://me:SECRET@example.org/jets.zip",
        "https://example.org/jets.root?X-Amz-Date=1&X-Amz-Signature=SECRET",
        "https://example.org/jets.root?X%2DAmz%2DSignature=SECRET", "https://example.org/jets.root?sv=1&sig=SECRET",
        "https://example.org/jets.root?x=1;token=SECRET", "https://example.org/jets.root#access_token=SECRET",
        "root://example.org//jets.root?authz=Bearer%20SECRET", "http://127.0.0.1:8000/pfn?api_key=SECRET",
        "https://example.org/jets.root?t=SECRET0123456789abcdef", "https://example.org/jets.root?SECRET0123456789abcdef",
        "https://example.org/x?url=https%3A%2F%2Fa%2Fb%3Ftoken%3DSECRET",
        "https://example.org/x?url=https%253A%252F%252Fme%253ASECRET%2540b%252Fc",
        "https://example.org/x?q=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.SECRET",
        "https://example.org/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.SECRET/jets.root",
    )
]  # fmt: skip
"""Addresses with a secret in them, as people and clouds write them."""
