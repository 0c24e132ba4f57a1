"""Files of the CERN Open Data portal by the number or the DOI of their record, with checksums.

An entry of `data.files` such as ``opendata:12100``, ``opendata:12100?files=1-10`` or ``opendata:10.7483/OPENDATA.…``
stands for the ROOT files of a record. What these are is asked of the portal's API (``/api/records/<number>``,
``/api/records?q=doi:…``), as its own client does (https://cernopendata-client.readthedocs.io).
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from ..config import RemoteSettings
from ..errors import InputError
from ..files import parse_json, read_json, write_json
from .fingerprints import Fingerprints
from .remote import fetch, fetch_bytes

__all__ = ["RecordFile", "fetch_record", "files_of_record", "is_record"]

SCHEME = "opendata:"
_FORM = "opendata:12100, opendata:12100?files=1-10, or with a DOI in place of the number"
_OPTIONS = ("files", "names", "protocol")
_CHECKED = "portal.json"
_BLOCK = 1 << 24


@dataclass(frozen=True)
class RecordFile:
    """A file of a record: its address, its size in bytes, and its checksum, as ``adler32:0123abcd``."""

    url: str
    size: int
    checksum: str

    @property
    def name(self) -> str:
        """The file's name."""
        return urlsplit(self.url).path.rpartition("/")[2]


def is_record(entry: str) -> bool:
    """Whether an entry of a study's files means a record of the portal."""
    return entry.startswith(SCHEME)


def files_of_record(entry: str, settings: RemoteSettings) -> list[RecordFile]:
    """The ROOT files that an entry stands for, in the portal's order; nothing is copied.

    Parameters
    ----------
    entry
        ``opendata:<number or DOI>``; after a ``?``, joined by ``&``: ``files=1-10,12`` takes those in these places,
        ``names=*_MC_10.root,*_MC_19.root`` those with such names, ``protocol=root`` asks XRootD in place of the web.
    settings
        The portal, and how long and how often it is asked.

    Raises
    ------
    InputError
        If the entry is not of this form, or the portal does not answer, or has no such record or files.
    """
    record, _, query = entry.removeprefix(SCHEME).partition("?")
    pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=False)
    options = dict(pairs)
    if not record or len(options) != len(pairs) or set(options) - set(_OPTIONS):
        raise InputError(f"{entry}: expected {_FORM}; options are {', '.join(_OPTIONS)}")
    protocol = options.get("protocol", settings.protocol)
    if protocol not in ("http", "root"):
        raise InputError(f"{entry}: protocol {protocol}: must be http or root")
    portal = settings.portal.rstrip("/")
    try:
        metadata = _metadata(entry, record, portal, settings)
        found = [_file(each, portal, protocol) for each in _listed(metadata, portal, settings)]
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        raise InputError(f"{entry}: the portal {portal} describes its files in a way that is not known here") from None
    found = [file for file in found if file.name.endswith(".root")]
    if names := options.get("names"):
        wanted = names.split(",")
        if missing := [name for name in wanted if not any(fnmatchcase(file.name, name) for file in found)]:
            raise InputError(f"{entry}: the record has no file {missing[0]}")
        found = [file for file in found if any(fnmatchcase(file.name, name) for name in wanted)]
    if not found:
        raise InputError(f"{entry}: the record has no ROOT files")
    return [found[place - 1] for place in _places(entry, options["files"], len(found))] if "files" in options else found


def fetch_record(entry: str, folder: Path, settings: RemoteSettings, progress: bool = True) -> list[Path]:
    """Local copies of the files of a record, whose checksums are those of the portal.

    Raises
    ------
    InputError
        As of `files_of_record`, if a file cannot be had, or if it has another checksum.
    """
    copies = []
    for file in files_of_record(entry, settings):
        copy = fetch(file.url, folder, settings, progress)
        known = Fingerprints(copy.parent / "checksums.json")
        note = {"portal": file.checksum, "copy": known.of(copy)}
        record = copy.parent / _CHECKED
        if not (record.exists() and read_json(record) == note):  # the portal's takes as long as to read the file
            found = _adler32(copy) if file.checksum.startswith("adler32:") else file.checksum
            if found != file.checksum:
                copy.unlink()
                raise InputError(f"{file.url}: its checksum is {found}, of the record {file.checksum}; try again")
            write_json(record, note)
        copies.append(copy)
    return copies


def _metadata(entry: str, record: str, portal: str, settings: RemoteSettings) -> dict[str, Any]:
    if not record.isdecimal():
        asked = quote(f'"{record}"', safe="")
        url = f"{portal}/api/records?page=1&size=1&q=doi:{asked}"
        hits = _json(url, settings).get("hits", {})
        if hits.get("total") != 1:
            raise InputError(f"{entry}: the portal {portal} has {hits.get('total', 'no')} records with this DOI")
        record = str(hits["hits"][0]["id"])
    metadata: dict[str, Any] = _json(f"{portal}/api/records/{record}", settings).get("metadata", {})
    return metadata


def _json(url: str, settings: RemoteSettings) -> dict[str, Any]:
    try:
        answer = parse_json(fetch_bytes(url, settings))
    except ValueError:
        raise InputError(f"{url}: the answer is no JSON; is this the portal?") from None
    if not isinstance(answer, dict):
        raise InputError(f"{url}: the answer is not that of the portal's API")
    return answer


def _listed(metadata: dict[str, Any], portal: str, settings: RemoteSettings) -> list[dict[str, Any]]:
    """The files of a record, with those of its file indices, which lie in the record or in files of their own."""
    listed = []
    for each in metadata.get("files") or []:
        if each["uri"].endswith("_file_index.json"):
            listed += parse_json(fetch_bytes(_file(each, portal, "http").url, settings))
        else:
            listed.append(each)
    for index in metadata.get("_file_indices") or []:
        listed += index["files"]
    return listed


def _file(each: dict[str, Any], portal: str, protocol: str) -> RecordFile:
    uri = each["uri"]
    url = portal + "/" + urlsplit(uri).path.lstrip("/") if protocol == "http" else uri
    if protocol == "root" and not url.startswith("root://"):  # the portal could name a file of this machine
        raise ValueError(url)
    return RecordFile(url, int(each["size"]), str(each["checksum"]).lower())


def _places(entry: str, text: str, most: int) -> list[int]:
    """The places that ``1-10,12`` means, from 1."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last:
            raise InputError(f"{entry}: files={text}: expected places such as 1-10 or 1,4,7-9")
        if last > most:
            raise InputError(f"{entry}: files={text}: the record has {most} files")
        found += range(first, last + 1)
    return list(dict.fromkeys(found))


def _adler32(path: Path) -> str:
    value = 1
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            value = zlib.adler32(block, value)
    return f"adler32:{value:08x}"
