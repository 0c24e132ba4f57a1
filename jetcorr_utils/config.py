"""The study: every setting of an analysis as one typed, validated, immutable object.

A study is read once, at the edge (command line, notebook parameters), from YAML, and passed down. Nothing else in the
package reads settings from anywhere. `load_study("quick")` finds the studies that come with the project,
`load_study("my.yaml")` reads a file, and overrides such as `{"models.pfn.training.epochs": 3}` come from papermill or
from `jetcorr run -p`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
    ValidationError,
    model_validator,
)

from . import extensions
from .addresses import check_no_secrets, without_secrets
from .architectures import (
    ModelSettings,
    NetworkSettings,
    ParticleNetSettings,
    PfnSettings,
    TrainingSettings,
    load_architectures,
)
from .errors import InputError, StudyError
from .files import at_home
from .jerc import short_name
from .jets.regressions import REGRESSIONS
from .looks import show_study
from .plain_yaml import as_text, is_plain, parse_yaml, plain
from .settings import MAX_REPLICAS, Batch, Jets, Seed, Settings, Workers
from .settings_help import did_you_mean

__all__ = [
    "IMAGE", "ClusterSettings", "DataSettings", "ExportSettings", "Image", "Label", "ModelSettings",
    "NetworkSettings", "ParticleNetSettings", "PfnSettings", "PhysicsSettings", "RemoteSettings", "ServingSettings",
    "SimulationSettings", "SliceSettings", "Study", "TrainingSettings", "TuningSettings", "load_study",
    "parse_parameter", "parse_value", "project_root", "resource_name", "study_path",
]  # fmt: skip

# Besides its own errors: a date that does not exist, a number of thousands of digits, a thousand nested brackets
_NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)
_NO_ALIASES = ("*", "&", "@", "`", "%")  # what a text may begin with on a command line, where nothing has an anchor

Fraction = Annotated[float, Field(gt=0, lt=1)]
MAX_SEEDS = 20
LONGEST_NAME = 64
_NOT_MODELS = frozenset({
    *REGRESSIONS, "file",
    "raw", "l1", "standard", "baseline", "data", "training", "tuning", "export", "precision", "inference", "variations",
    "trees", "trees_kinematics", "oracle_flavour", "oracle_fractions",
})  # fmt: skip
"""Names of other corrections, and of what else metrics.json holds."""


class SliceSettings(Settings):
    """Further jets, from hard collisions only, as CMS's samples in slices of pthat have them."""

    jets: Jets = Field(description="how many to simulate")
    min_pthat: PositiveFloat = Field(description="smallest transverse momentum of the hard process, GeV")
    leading: PositiveInt | None = Field(None, description="jets of each event, those of highest pt; default: all")


class SimulationSettings(Settings):
    """The embedded default data: how many jets to simulate, and from which seed."""

    jets: Jets = Field(40_000, description="how many to simulate")
    slices: tuple[SliceSettings, ...] = Field(
        (), description="further jets where the flat spectrum has few; each slice has a seed of its own, from seed + 10"
    )
    reuse: Annotated[PositiveInt, Field(le=1000)] = Field(
        1, description="events of each collision, each with another pileup and detector, all on one side of the split"
    )
    parameters: dict[str, int | float | tuple[float, ...]] = Field(
        {}, description="of another generator, pileup or detector, by dotted name, such as detector.hcal_spread; "
        "its standard corrections are derived first"
    )  # fmt: skip
    seed: Seed = Field(1, description="of the random numbers; also the run number of the events")
    workers: Workers | None = Field(None, description="processes; default: one a core. The jets do not depend on it")


class SelectionSettings(Settings):
    """Which jets enter the study (paper: gen pt > 20 GeV, abs(gen eta) < 2.5, on top of the ntuple's own cuts)."""

    min_pt: NonNegativeFloat = Field(30.0, description="standard-corrected jet pt, GeV")
    max_abs_eta: PositiveFloat = Field(2.5, description="largest abs(eta) of the jet")
    min_gen_pt: NonNegativeFloat = Field(20.0, description="generator jet pt, GeV")
    max_abs_gen_eta: PositiveFloat = Field(2.5, description="largest abs(eta) of the generator jet")


class SplitSettings(Settings):
    """Shares of events (never of jets) held out; the rest trains. Decided by a hash of run, lumi and event."""

    validation: Fraction = Field(0.1, description="share of the events to choose epochs and settings by")
    test: Fraction = Field(0.4, description="share of the events for the results")
    seed: Seed = Field(0, description="another one deals the events out anew")

    @model_validator(mode="after")
    def _leaves_training_data(self) -> SplitSettings:
        if self.validation + self.test >= 1:
            raise ValueError("validation + test must leave a share of the events for training")
        return self


class RemoteSettings(Settings):
    """How long and how often to try to read files at a distance (``s3://``, ``root://``, ``https://``)."""

    attempts: PositiveInt = Field(4, description="tries before a file has failed")
    wait: NonNegativeFloat = Field(1.0, description="seconds before the second attempt; twice as long after each")
    timeout: PositiveFloat = Field(60.0, description="seconds without an answer before an attempt has failed")
    portal: str = Field("https://opendata.cern.ch", description="asked for the files of a record (``opendata:12100``)")
    protocol: Literal["http", "root"] = Field("http", description="how files of a record are copied from the portal")


class DataSettings(Settings):
    """Where the jets come from: `files` (paths, globs or URLs), or the simulation if there are none."""

    files: tuple[str, ...] = Field((), description="paths, patterns or URLs of ROOT files; default: the simulation")
    simulation: SimulationSettings = SimulationSettings()
    selection: SelectionSettings = SelectionSettings()
    split: SplitSettings = SplitSettings()
    candidates: Literal["jet", "window"] = Field(
        "jet", description="the particles of a cloud: those clustered into the jet, or all that are stored around it"
    )
    collection: str = Field(
        "Jet", min_length=1, description="the jets, where a file has several collections: Jet, FatJet, … of NanoAOD"
    )
    tolerated_strangers: float = Field(
        0.01,
        ge=0,
        le=1,
        description="largest share of a file's jets whose candidates, if found by links, do not sum up to the raw pt",
    )
    corrections: str | None = Field(
        None,
        min_length=1,
        description="a file of CMS's official corrections (jet_jerc.json.gz), by which jets are corrected anew from "
        "their raw pt; default: as the files have them",
    )
    compound: str = Field("L1L2L3Res", min_length=1, description="which of these corrections: a compound or a level")
    target: Literal["corrected", "raw"] = Field(
        "corrected",
        description="what networks correct: the pt after the standard correction, or the raw pt, as CMS's regressions",
    )
    neutrinos: bool = Field(
        False,
        description="whether the pt of generator jets includes the neutrinos in them; needs NanoAOD's GenPart",
    )
    remote: RemoteSettings = RemoteSettings()
    directory: str = Field(
        "data", min_length=1, description="generated data and caches; relative to the project's folder"
    )


class Choice(Settings):
    """A parameter that takes one of some values."""

    choices: Annotated[tuple[int | float | str, ...], Field(min_length=1)] = Field(
        description="the values to draw from"
    )

    def __str__(self) -> str:
        return ", ".join(map(str, self.choices))


class Interval(Settings):
    """A number between `min` and `max`; `log` samples its logarithm evenly; whole numbers if both ends are."""

    min: int | float = Field(description="lower end")
    max: int | float = Field(description="upper end, included")
    log: bool = Field(False, description="sample the logarithm evenly")

    @model_validator(mode="after")
    def _in_order(self) -> Interval:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        if self.log and self.min <= 0:
            raise ValueError(f"a log interval needs min above 0, not {self.min}")
        return self

    def __str__(self) -> str:
        return f"{self.min:g} to {self.max:g}{', logarithmic' if self.log else ''}"


def _kind_of_space(value: Any) -> str:
    """Tells which of the two is meant, so that an error speaks of that one only."""
    return "choice" if isinstance(value, Choice) or (isinstance(value, dict) and "choices" in value) else "interval"


Space = Annotated[
    Annotated[Choice, Tag("choice")] | Annotated[Interval, Tag("interval")], Discriminator(_kind_of_space)
]


class TuningSettings(Settings):
    """The search for better hyperparameters of one model of the study."""

    model: str = Field("pfn", description="the name of the model in `models` that the search starts from")
    trials: Annotated[int, Field(ge=1, le=1000)] = Field(12, description="networks to train, the study's own included")
    epochs: PositiveInt = Field(4, description="of each trial")
    max_jets: PositiveInt | None = Field(8_000, description="train each trial on at most this many jets")
    sampler: Literal["random", "tpe"] = Field("random", description="how to draw: random, or tpe, which learns")
    pruner: Literal["none", "halving"] = Field("none", description="halving ends the worse trials early; or none")
    grace: PositiveInt = Field(2, description="epochs within which a trial must do better than a constant")
    workers: Workers = Field(1, description="processes; the trials do not depend on it")
    seed: Seed = Field(1, description="of the draws")
    space: dict[str, Space] = Field(
        default_factory=dict,
        description="by the names of the model's settings, `training.` before those of the training",
    )


class ExportSettings(Settings):
    """How the models are written for the server."""

    opset: PositiveInt = Field(18, description="version of the ONNX operators")
    triton_release: str | None = Field(None, description="release of Triton that must run the models, like 24.10")
    tolerance: PositiveFloat = Field(1e-5, description="largest relative difference from PyTorch")
    max_batch_size: Batch = Field(4096, description="jets in a request, at most")


def _on_or_off(value: Any) -> Any:
    """What readers of YAML 1.1 make of ``on`` and ``off``."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class ServingSettings(Settings):
    """How predictions are asked for."""

    url: str | None = Field(None, description="a Triton server that runs already; default: start one on loopback")
    protocol: Literal["http", "grpc"] = Field("http", description="of the requests: http or grpc")
    shared_memory: Annotated[Literal["auto", "on", "off"], BeforeValidator(_on_or_off)] = Field(
        "auto", description="hand tensors to a server on this machine through shared memory; auto: where it can be"
    )
    batch_sizes: tuple[Batch, ...] = Field((1, 16, 256, 1024), description="jets in a request, to measure speed")
    seconds_per_batch_size: PositiveFloat = Field(2.0, description="time to measure each, s")


LABEL = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
Label = Annotated[str, Field(pattern=LABEL)]
IMAGE = r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$"
Image = Annotated[str, Field(pattern=IMAGE)]
_PART = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_NAME = rf"^{_PART}(\.{_PART})*$"
_Name = Annotated[str, Field(pattern=_NAME, max_length=253)]
_QUANTITY = r"^[0-9]+(\.[0-9]+)?([mkMGTPE]|[KMGTPE]i)?$"
_Quantity = Annotated[str, Field(pattern=_QUANTITY)]
_FOLDER = r"^/[A-Za-z0-9._/-]*$"
_Folder = Annotated[str, Field(pattern=_FOLDER)]
"""What Kubernetes takes for a namespace, an image, another name (RFC 1123), an amount, and the place of a volume."""


_WORDS = {
    LABEL: "name of one part: up to 63 small letters, digits and '-', a letter or digit at the begin and the end",
    IMAGE: "image: letters, digits and . _ - / : @ only",
    _NAME: "name: small letters, digits, '-' and '.', a letter or digit at the begin and the end of each part",
    _QUANTITY: "quantity as Kubernetes writes it: 2, 500m, 8Gi",
    _FOLDER: "folder of a pod: an absolute path of letters, digits and . _ - /",
}


def resource_name(name: Any, of: str) -> str:
    """The name of a resource as Kubernetes takes it, and so no path to another place.

    Raises
    ------
    InputError
        If it does not; `of` says whose name it is.
    """
    if not isinstance(name, str) or not re.fullmatch(_NAME, name) or len(name) > 253:
        raise InputError(f"{of} {name!r}: is no {_WORDS[_NAME]}, 253 in all: so Kubernetes names things")
    return name


def _release_name(value: Any) -> Any:
    """The name of a release as a text: YAML reads 1.10 as a number."""
    return f"{value:.2f}" if isinstance(value, float) else value


class ClusterSettings(Settings):
    """The Kubeflow cluster that runs the study where one does. Of all its settings, `batch` alone changes a result."""

    namespace: Label | None = Field(None, description="default: that of the pod or of the kubeconfig")
    kubeflow: Annotated[Literal["1.10", "1.11", "26.03"], BeforeValidator(_release_name)] | None = Field(
        None, description="release; default: what the API server says that it has"
    )
    image: Image | None = Field(
        None, description="of the notebook server, the steps and the trainings; default: that of the pod that starts "
        "them, else jetcorr:latest",
    )  # fmt: skip
    image_pull_secrets: tuple[_Name, ...] = Field((), description="secrets with the registry's credentials")
    triton_image: Image = Field(
        "nvcr.io/nvidia/tritonserver:26.08-py3",
        description="NVIDIA's server; releases before 25.07 can be taken over by a request (CVE-2025-23310, -23319). "
        "Its ONNX Runtime must know the opset of the exported models (`jetcorr export --triton-release`)",
    )
    volume: _Name = Field("jetcorr", description="the volume claim with data and run folders")
    mount: _Folder = Field("/mnt/jetcorr", description="where every pod mounts the volume")
    size: _Quantity = Field("100Gi", description="asked for the volume")
    storage_class: _Name | None = Field(None, description="of the volume; default: the cluster's own default")
    secret: _Name = Field(
        "jetcorr-s3", description="with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL; may be absent"
    )
    s3_endpoint: str | None = Field(None, description="address of the S3 server; default: as the secret says")
    cpu: _Quantity = Field("4", description="of a pod that trains")
    memory: _Quantity = Field("16Gi", description="of a pod that trains")
    gpus: NonNegativeInt = Field(0, description="of a pod that trains")
    nodes: PositiveInt = Field(2, description="pods of a distributed training")
    parallel_trials: PositiveInt = Field(5, description="trials of an experiment at the same time")
    batch: Literal["split", "kept"] = Field(
        "split", description="of a distributed training: the model's batch split among the processes, or kept by each, "
        "with a learning rate that is larger by the square root of their number",
    )  # fmt: skip
    model_registry: Annotated[str, Field(pattern=r"^https?://[^\s/]+$")] | None = Field(
        None, description="address of Kubeflow's Model Registry, http(s)://host:port, where the pipeline's last step "
        "registers the exported models",
    )  # fmt: skip
    queue: Label | None = Field(None, description="of Kueue, that trainings and trials wait in")
    runtime: _Name = Field("torch-distributed", description="the ClusterTrainingRuntime that TrainJobs refer to")
    timeout: PositiveFloat | None = Field(
        None, description="seconds within which a training or a search must end; default: a day for a training, for "
        "a search what follows from its trials and the time that the first one took",
    )  # fmt: skip
    start_timeout: PositiveFloat = Field(900.0, description="seconds within which an inference service must be ready")
    patience: PositiveFloat = Field(300.0, description="seconds to wait for an API server that does not answer")


class PhysicsSettings(Settings):
    """How the response is measured."""

    replicas: Annotated[PositiveInt, Field(le=MAX_REPLICAS)] = Field(
        200, description="bootstrap replicas behind every statistical error"
    )
    seed: Seed = Field(1, description="of the bootstrap")
    min_jets: PositiveInt = Field(100, description="a bin with fewer jets has no value")
    min_flavour_jets: PositiveInt = Field(20, description="a bin with fewer jets of any flavour has no flavour gain")
    closure: bool = Field(False, description="derive a residual correction of each network on the validation jets")
    limits: bool = Field(False, description="train boosted trees, and find what oracles reach, on the same jets")
    prior: tuple[PositiveFloat, ...] = Field(
        (), description="test also on spectra that fall as pt to minus these powers, by weights"
    )
    variations: dict[str, dict[str, int | float | tuple[float, ...]]] = Field(
        {}, description="test also on other simulations: parameters by dotted name, such as generator.tune, by a title"
    )  # fmt: skip
    variation_jets: Jets = Field(30_000, description="jets of each of them")


def _further_seeds(name: str, model: dict[str, Any], number: int) -> dict[str, Any]:
    """The settings of the 2nd to the last of `number` trainings of a model, by name."""
    training = model.get("training", {})
    first = training.get("seed", TrainingSettings().seed) if isinstance(training, dict) else None
    if not isinstance(first, int):
        return {}
    return {
        f"{name}_seed{n}": model | {"training": training | {"seed": first + n - 1}, "seed_of": name}
        for n in range(2, number + 1)
    }


class Study(Settings):
    """All settings of one analysis, from its data to its figures."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=LONGEST_NAME)] = Field(
        description="of the study; default: that of its file, with - for what a name may not have"
    )
    extensions: tuple[str, ...] = Field(
        (), description="modules of one's own that add columns, networks, metrics or formats, and that are run: Python "
        "files, relative to the study's file, or names of modules that can be imported",
    )  # fmt: skip
    data: DataSettings = DataSettings()
    models: Annotated[dict[str, ModelSettings], Field(min_length=1)]
    seeds: dict[str, Annotated[int, Field(ge=1, le=MAX_SEEDS)]] = Field(
        {}, description="how often to train a model, from seeds that follow each other; the further ones are models "
        "of their own, <model>_seed2 and so on, and their spread is a part of the errors",
    )  # fmt: skip
    tuning: TuningSettings = TuningSettings()
    export: ExportSettings = ExportSettings()
    serving: ServingSettings = ServingSettings()
    physics: PhysicsSettings = PhysicsSettings()
    cluster: ClusterSettings = ClusterSettings()

    @model_validator(mode="before")
    @classmethod
    def _add_seeds(cls, settings: Any) -> Any:
        """Spell out the trainings from further seeds as models; what is mistyped is left to the other checks."""
        if not isinstance(settings, dict) or not isinstance(settings.get("seeds"), dict) or not settings["seeds"]:
            return settings
        models, added = settings.get("models"), {}
        for name, number in settings["seeds"].items():
            if not isinstance(models, dict) or name not in models:
                raise ValueError(f"seeds.{name}: there is no model of this name")
            if isinstance(models[name], dict) and isinstance(number, int):
                added |= _further_seeds(name, models[name], min(number, MAX_SEEDS))
        return settings | {"models": {**models, **added, **models}}  # those that are there already stay as they are

    @model_validator(mode="after")
    def _names_fit(self) -> Study:
        for name in self.models:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                raise ValueError(f"models.{name}: a model's name has lower-case letters, digits and underscores only")
            if len(name) > LONGEST_NAME:  # it is a folder's, and a part of branches, figures and Kubernetes' names
                raise ValueError(f"models.{name[:20]}…: a model's name has {LONGEST_NAME} letters at most")
            if name in _NOT_MODELS or name.endswith("_closed"):  # as what has a residual correction is called
                raise ValueError(f"models.{name}: metrics.json has other figures under this name; choose another")
            self._check_relations(name)
        if self.tuning.model not in self.models:
            raise ValueError(f"tuning.model is {self.tuning.model!r}, but models has {', '.join(self.models)}")
        self._check_searched()
        return self

    def _check_searched(self) -> None:
        """The search may replace its model by one of other settings, with which no other can be compared."""
        name = self.tuning.model
        compared = [other for other, model in self.models.items() if name in (model.variant_of, model.seed_of)]
        if self.tuning.space and compared:
            raise ValueError(
                f"tuning.model: {', '.join(compared)} would be compared with what the search makes of {name!r}: "
                "have it search for a model that no other names, as study default does with pfn_tuned"
            )

    def _check_relations(self, name: str) -> None:
        model = self.models[name]
        others = [other for other in self.models if other != name]
        for relation in ("variant_of", "seed_of"):
            if getattr(model, relation) not in (None, *others):
                raise ValueError(f"models.{name}.{relation}: there is no other model {getattr(model, relation)!r}")
        if model.scan is not None and model.scan not in (known := model.names()):
            raise ValueError(f"models.{name}.scan: {model.scan!r} is not a setting; there are {', '.join(known)}")


def project_root() -> Path:
    """The folder of the project: the one that holds this package, notebooks/ and pipelines/."""
    return Path(__file__).resolve().parent.parent


def study_path(name: str | Path) -> Path:
    """The file of a study: that of one that comes with the project, by its name, or a path.

    A file of such a name in the current folder, which may be anybody's and can name code, is given as ``./quick``.

    Raises
    ------
    StudyError
        If there is none.
    """
    path = at_home(name)
    folder = project_root() / "pipelines" / "studies"
    if path.name == str(name) and (folder / f"{name}.yaml").is_file():
        return folder / f"{name}.yaml"
    if path.is_file():
        return path
    if str(name) and path.exists():
        what = "a folder" if path.is_dir() else "a pipe, a device or a socket"
        raise StudyError(f"study {str(name)!r}: is {what}, not a file")
    if path.suffix in {".yaml", ".yml"}:
        raise StudyError(f"study {str(name)!r}: there is no such file")
    known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
    raise StudyError(f"study {str(name)!r}: neither a file nor one of {known}")


def _name_of(path: Path) -> str:
    """The name of a study that does not say one: that of its file, which may be of any characters."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem).strip("_.-")[:LONGEST_NAME] or "study"


def parse_value(name: str, value: Any) -> Any:
    """The value of a parameter; a text is read as YAML, since on a command line everything is a text.

    A text that begins like a YAML alias, such as the pattern ``*.root``, is taken as it is, and so is a path: YAML
    would cut it off before a " #" and take a ": " in it for a mapping.

    Raises
    ------
    StudyError
        If the text is not YAML.
    """
    if not isinstance(value, str) or value.startswith((*_NO_ALIASES, "/", "./", "../", "~/")):
        return value
    try:
        return parse_yaml(value)
    except _NOT_YAML as error:
        raise StudyError(
            f"parameter {name!r}: {without_secrets(repr(value))} is not YAML: {_one_line(error)}; "
            "a text with special characters needs quotes inside quotes: \"'…'\""
        ) from None


def parse_parameter(name: str, value: Any) -> Any:
    """The value of a notebook's parameter, which papermill writes into its code: a plain value, see `is_plain`.

    Raises
    ------
    StudyError
        If it is anything else; bytes would not be quoted in the code, for example.
    """
    value = plain(parse_value(name, value))
    if not is_plain(value):
        raise StudyError(
            f"parameter {name!r}: {without_secrets(str(value))[:60]!r}: use texts, finite numbers, booleans, null, "
            "and lists and mappings (by text) of these"
        )
    return value


def _one_line(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem:
        place = error.problem_mark
        where = f" (line {place.line + 1}, column {place.column + 1})" if place else ""
        hint = "; a text that begins with * needs quotes" if "alias" in f"{error.context} {error.problem}" else ""
        return without_secrets(" ".join(f"{error.problem}{where}{hint}".split()))[:250]
    return without_secrets(" ".join(str(error).split()))[:200]


def _override(settings: dict[str, Any], dotted: str, value: Any) -> None:
    """Set `settings["a"]["b"]` for the dotted name `a.b`; a text value is read as YAML, as on a command line."""
    *parents, last = dotted.split(".")
    if not all([*parents, last]):
        raise StudyError(f"parameter {dotted!r}: is no name of a setting, such as models.pfn.training.epochs")
    place = settings
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise StudyError(f"parameter {dotted!r}: {parent!r} has no settings of its own")
    place[last] = parse_value(dotted, value)


def _path(settings: Any, location: Sequence[int | str]) -> str:
    """Where a setting stands, by the names written there: pydantic adds which kind of setting it took one for."""
    names = []
    for number, part in enumerate(location):
        inside = part in settings if isinstance(settings, dict) else isinstance(part, int)
        if inside or number == len(location) - 1:
            names.append(str(part))
        if inside and isinstance(settings, dict | list | tuple):
            settings = settings[part]
    return ".".join(names)


def _mistake(settings: Any, found: Mapping[str, Any], overrides: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether a mistake in a study is one of the overrides, and where it is, what is wrong, which name may be meant."""

    where, what = " ".join(_path(settings, found["loc"]).split()), found["msg"].removeprefix("Value error, ")
    if found["type"] == "extra_forbidden":
        what = f"there is no such setting{did_you_mean(Study, where)}"
    if found["type"] == "string_pattern_mismatch":
        what = f"{found['input']!r} is no {_WORDS.get(found['ctx']['pattern'], what)}"
    text = what if not where or what.startswith(where) else f"{where}: {what}"
    return any(f"{where}.".startswith(f"{name}.") for name in overrides), text


def _load_extensions(settings: dict[str, Any], folder: Path) -> None:
    """Import the modules that the study names, and note them as this study in another folder can load them.

    What is mistyped is left to the check of all settings.
    """
    names = as_text(settings.get("extensions", []))
    names = [names] if isinstance(names, str) else names
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        models = settings.get("models")
        models = models.values() if isinstance(models, dict) else []
        given = [model["architecture"] for model in models if isinstance(model, dict) and "architecture" in model]
        known = extensions.load(names, folder)
        known += load_architectures([name for name in given if isinstance(name, str)], folder)
        settings["extensions"] = list(dict.fromkeys(known))


def load_study(name: str | Path, overrides: Mapping[str, Any] | None = None) -> Study:
    """Read and validate a study. What it names of its owner's is imported, and figures are told how its models look.

    Parameters
    ----------
    name
        The name of a study in pipelines/studies/, or the path of a YAML file.
    overrides
        Values by dotted name, for example ``{"models.pfn.training.epochs": 3}``.

    Raises
    ------
    StudyError
        If the file is missing, is not YAML, or has a setting that is unknown or out of range; the message names it. Or
        if a module of its `extensions`, which are imported, cannot be.
    """
    path = study_path(name)
    try:
        settings = parse_yaml(path.read_text(encoding="utf-8"))
    except _NOT_YAML as error:
        raise StudyError(f"study {path}: not YAML: {_one_line(error)}") from None
    if not isinstance(settings, dict):
        raise StudyError(f"study {path}: expected settings by name, found {type(settings).__name__}")
    settings.setdefault("name", _name_of(path))
    for dotted, value in (overrides or {}).items():
        _override(settings, dotted, value)
    try:
        check_no_secrets(settings)
        _load_extensions(settings, path.parent)
    except InputError as error:
        raise StudyError(f"study {path}: {error}") from error.__cause__
    try:
        study = Study.model_validate(settings)
    except ValidationError as error:
        mistakes = dict.fromkeys(_mistake(settings, found, overrides or {}) for found in error.errors())
        given = [f"parameter {text}" for by_parameter, text in mistakes if by_parameter]
        written = [text for by_parameter, text in mistakes if not by_parameter]
        raise StudyError("; ".join(given + [f"study {path}: {'; '.join(written)}"] * bool(written))) from None
    show_study(study.models, short_name(study.data.compound) if study.data.corrections else None)
    return study
