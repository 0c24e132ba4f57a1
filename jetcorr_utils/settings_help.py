"""Every setting of a study by its dotted name, with default and meaning: `jetcorr settings`, and "did you mean"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, NamedTuple, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from .architectures import ARCHITECTURES, NetworkSettings
from .errors import InputError
from .settings import Settings

__all__ = ["Setting", "did_you_mean", "known_settings", "settings_text"]


class Setting(NamedTuple):
    """One line of the list.

    Attributes
    ----------
    name
        Dotted, with ``<name>`` where a study gives names of its own.
    default
        As YAML has it; "needed" where there is none.
    meaning
        What it is, with its unit.
    """

    name: str
    default: str
    meaning: str


def known_settings(study: type[Settings]) -> Iterator[Setting]:
    """All settings, in the order of the class `config.Study`; those of the networks for each architecture."""
    yield from _of_class(study, "", None)


def settings_text(study: type[Settings], path: str = "") -> str:
    """The settings at or below a dotted path, such as ``models.pfn.training``, as a table for a terminal.

    Raises
    ------
    InputError
        If there is none.
    """
    wanted = path.strip(".").split(".") if path else []
    found = [setting for setting in known_settings(study) if _is_below(setting.name, wanted)]
    if not found:
        raise InputError(f"settings {path}: there is none of this name{did_you_mean(study, path)}")
    widths = [max(len(setting[column]) for setting in found) for column in (0, 1)]
    rows = (f"{setting.name:{widths[0]}}  {setting.default:{widths[1]}}  {setting.meaning}" for setting in found)
    return "\n".join(row.rstrip() for row in rows)


def did_you_mean(study: type[Settings], path: str) -> str:
    """A part of a sentence that names the setting nearest to one that does not exist; empty if none is near."""
    *parents, last = path.split(".")
    beside = {
        setting.name.split(".")[len(parents)]: None
        for setting in known_settings(study)
        if _is_below(setting.name, parents) and setting.name.count(".") >= len(parents)
    }
    beside.pop(last, None)  # of another architecture
    if near := difflib.get_close_matches(last, beside, 1, 0.6):
        return f"; did you mean {'.'.join([*parents, near[0]])}?"
    elsewhere = [setting.name for setting in known_settings(study) if setting.name.split(".")[-1] == last]
    elsewhere = [name for name in elsewhere if not _is_below(name, parents)]
    return f"; did you mean {elsewhere[0]}?" if elsewhere else ""


def _is_below(name: str, wanted: list[str]) -> bool:
    parts = name.split(".")
    same = (part == given or part.startswith("<") for part, given in zip(parts, wanted, strict=False))
    return len(parts) >= len(wanted) and all(same)


def _of_class(cls: type[Settings], prefix: str, default: Any, skip: Iterable[str] = ()) -> Iterator[Setting]:
    for name, field in cls.model_fields.items():
        if name not in skip:
            value = field.default if default is None else getattr(default, name)
            yield from _of_field(f"{prefix}{name}", field, value)


def _of_field(name: str, field: FieldInfo, default: Any) -> Iterator[Setting]:
    if name == "models":
        yield from _of_models(f"{name}.<name>.")
        return
    inner = _settings_classes(field.annotation)
    if isinstance(default, Settings):
        yield from _of_class(type(default), f"{name}.", default)
    elif inner:
        yield Setting(name, _as_yaml(field, default), field.description or "")
        place = f"{name}.<name>." if get_origin(field.annotation) is dict else f"{name}.<number>."
        for cls in inner:
            yield from _of_class(cls, place, None)
    else:
        yield Setting(name, _as_yaml(field, default), field.description or "")


def _of_models(prefix: str) -> Iterator[Setting]:
    yield from _of_class(NetworkSettings, prefix, None)
    takers: dict[Setting, list[str]] = {}  # which architectures have it
    for name, architecture in ARCHITECTURES.items():
        for setting in _of_class(architecture.settings, prefix, None, skip=NetworkSettings.model_fields):
            takers.setdefault(setting, []).append(name)
    for setting, names in takers.items():
        yield setting._replace(meaning=f"{setting.meaning} ({', '.join(names)})")


def _settings_classes(annotation: Any) -> list[type[Settings]]:
    """The classes of settings that a tuple, a mapping or a choice of some has in it."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    parts = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    return [cls for part in parts for cls in _settings_classes(part)]


def _as_yaml(field: FieldInfo, default: Any) -> str:
    if default is PydanticUndefined:
        default = field.default_factory() if field.default_factory else PydanticUndefined  # type: ignore[call-arg]
    if default is PydanticUndefined:
        return "needed"
    if isinstance(default, bool) or default is None:
        return {True: "true", False: "false", None: "null"}[default]
    if isinstance(default, tuple):
        return f"[{', '.join(map(str, default))}]"
    return str(default)
