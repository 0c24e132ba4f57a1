"""The table of networks: for each its settings, its class, how it is exported, what it costs, and how it looks.

`pfn` and `particlenet` are entries like any other. A network of one's own is one file, which a study names by itself::

    models:
      deep_sets: {architecture: "my_networks:DeepSets", pooling: sum}

where ``DeepSets``, in my_networks.py beside the study, is a `models.CloudNetwork` (its attributes `settings_class` and
`padded_class` are looked at) or an `Architecture`. Or a file among the study's `extensions` enters it under a name of
its own by `add_architecture`. The names in checkpoints and other files are only ever looked up here.

Networks are named by ``module:Class`` where importing them takes long: settings are needed where torch is not.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import AfterValidator, Field, NonNegativeFloat, PlainValidator, PositiveFloat, PositiveInt, SerializeAsAny
from pydantic_core import PydanticCustomError

from . import extensions
from .errors import InputError
from .jets.columns import Features, groups_of
from .settings import Batch, Layers, Seed, Settings, Width

if TYPE_CHECKING:
    from .export.graphs import PaddedNetwork
    from .models import CloudNetwork

__all__ = [
    "ARCHITECTURES", "Architecture", "ConvolutionSettings", "Look", "ModelSettings", "NetworkSettings",
    "ParticleNetSettings", "PfnSettings", "TrainingSettings", "add_architecture", "expected_cost", "load_architectures",
]  # fmt: skip


_LARGEST = 1e30
"""Of what torch multiplies numbers of single precision by: more would be infinite, and end with its traceback."""


class TrainingSettings(Settings):
    """How one network is trained."""

    epochs: PositiveInt = Field(15, description="passes over the training jets, at most")
    batch_size: Batch = Field(500, description="jets in a step")
    learning_rate: PositiveFloat = Field(2e-3, le=_LARGEST, description="the highest one, after the warm-up")
    optimizer: Literal["adam", "adamw", "ranger", "rmsprop", "adagrad"] = Field(
        "adamw", description="adam, adamw, ranger, rmsprop or adagrad"
    )
    weight_decay: NonNegativeFloat = Field(1e-4, le=_LARGEST, description="of the optimiser")
    schedule: Literal["cosine", "plateau", "constant"] = Field(
        "cosine", description="of the learning rate: cosine, plateau or constant"
    )
    warmup: NonNegativeFloat = Field(1.0, description="epochs of linear warm-up")
    gradient_clip: PositiveFloat = Field(1.0, description="largest norm of a gradient")
    patience: PositiveInt = Field(6, description="epochs without a better validation loss before the training stops")
    flavour_balance: NonNegativeFloat = Field(0.0, description="weight λ of the flavour-neutral term of the loss")
    resolution_weight: NonNegativeFloat = Field(0.2, description="weight of the quantile loss of the second output")
    max_jets: PositiveInt | None = Field(None, description="train on at most this many jets")
    shard_jets: PositiveInt | None = Field(
        None, description="jets that are shuffled together, from random blocks of the cache; for a cache larger than "
        "the memory, which must hold so many; default: all",
    )  # fmt: skip
    seed: Seed = Field(1, description="of the initial weights and of the order of the jets")


def _known_features(features: Features) -> Features:
    try:
        groups_of(features)
    except InputError as error:
        raise ValueError(str(error).removeprefix("features ")) from None
    return features


class NetworkSettings(Settings):
    """What all networks have: inputs, the head, the training, and how the model belongs to others of the study."""

    architecture: str = Field(description="pfn, particlenet, or file:Class for a network of one's own")
    features: Annotated[Features, AfterValidator(_known_features)] = Field(
        "open",
        description="groups of columns, such as [kinematics, class, pileup], columns, or the name of a set of them: "
        "open (what the open data has), rich (with the candidates' calorimeter fractions), full (all that the "
        "simulation has), paper or thesis (what the published networks were given)",
    )
    fc_layers: Layers = Field(2, description="layers of the head")
    fc_dim: Width = Field(64, description="width of the layers of the head")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="in the head")
    training: TrainingSettings = TrainingSettings()
    variant_of: str | None = Field(
        None, description="the model that this is a variant of; figures of the main models leave it out"
    )
    scan: str | None = Field(
        None, description="the setting that a series of models varies, like training.max_jets; this is a point of it"
    )
    seed_of: str | None = Field(None, description="the model that this is a further training of, from another seed")

    RELATIONS: ClassVar = frozenset({"variant_of", "scan", "seed_of"})
    NOT_SEARCHED: ClassVar = frozenset({"architecture", "features", "training"}) | RELATIONS
    """What no search may change; a class of one's own may name more."""

    @classmethod
    def names(cls) -> list[str]:
        """The settings that models can differ in, and that a search may vary, by dotted name."""
        own = [name for name in cls.model_fields if name not in cls.NOT_SEARCHED]
        return own + [f"training.{name}" for name in TrainingSettings.model_fields]

    def key(self) -> str:
        """As for all settings, without how the model belongs to others: the same network is trained."""
        return Settings.key(self.model_copy(update=dict.fromkeys(self.RELATIONS)))


class ConvolutionSettings(NetworkSettings):
    """What both networks of the paper have; the names are those of the published search space."""

    conv_layers: Layers = Field(3, description="layers of the per-particle network, or of each EdgeConv block")
    conv_dim: Width = Field(64, description="width of these layers")


class PfnSettings(ConvolutionSettings):
    """Particle Flow Network, arXiv:1810.05165."""

    architecture: Literal["pfn"]


class ParticleNetSettings(ConvolutionSettings):
    """ParticleNet, arXiv:1902.08570."""

    architecture: Literal["particlenet"]
    blocks: Layers = Field(3, description="EdgeConv blocks")
    k: Annotated[PositiveInt, Field(le=1024)] = Field(16, description="nearest neighbours")


class Look(NamedTuple):
    """How a model is drawn; a colour or marker of None is the next free one of a figure."""

    colour: str | None
    marker: str | None
    label: str


def _per_particle(settings: Any, multiplicity: float) -> float:
    return multiplicity * getattr(settings, "conv_layers", 3) * getattr(settings, "conv_dim", settings.fc_dim) ** 2


def _per_edge(settings: ParticleNetSettings, multiplicity: float) -> float:
    return settings.blocks * settings.k * _per_particle(settings, multiplicity)


@dataclass(frozen=True)
class Architecture:
    """One kind of network.

    Attributes
    ----------
    network
        Its class, a `models.CloudNetwork`, which is made from the settings; or ``module:Class``, imported when needed.
    settings
        The class of its settings, which says what a study may give, and what a search may vary.
    padded
        What is exported for it, an `export.graphs.PaddedNetwork`, or ``module:Class``. None: the network itself is
        traced, which may be slower, and is refused if it does what cannot be traced.
    cost
        About the number of multiply-adds a jet in the body, from the settings and the mean number of particles.
    look
        Of the first model of this kind in figures; default: the next free colour and marker, and its own name.
    """

    network: type[CloudNetwork] | str
    settings: type[NetworkSettings] = NetworkSettings
    padded: type[PaddedNetwork] | str | None = None
    cost: Callable[[Any, float], float] = _per_particle
    look: Look | None = None

    def build(self, settings: NetworkSettings) -> CloudNetwork:
        """The network of `settings`, untrained."""
        return _resolved(self.network)(settings)

    def twin(self, model: CloudNetwork) -> PaddedNetwork | None:
        """What is exported for a trained network, if there is something of its own."""
        return _resolved(self.padded)(model) if self.padded else None


def _resolved(named: Any) -> Any:
    return pkgutil.resolve_name(named) if isinstance(named, str) else named


ARCHITECTURES: dict[str, Architecture] = {
    "pfn": Architecture(
        "jetcorr_utils.models.particle_flow:ParticleFlowNetwork",
        PfnSettings,
        "jetcorr_utils.export.graphs:PaddedPfn",
        look=Look("#bd1f01", "^", "PFN"),
    ),
    "particlenet": Architecture(
        "jetcorr_utils.models.particlenet:ParticleNet",
        ParticleNetSettings,
        "jetcorr_utils.export.graphs:PaddedParticleNet",
        cost=_per_edge,
        look=Look("#3f90da", "o", "ParticleNet"),
    ),
}


def add_architecture(name: str, architecture: Architecture) -> None:
    """Enter a network into the table.

    Raises
    ------
    InputError
        If there is one of this name already.
    """
    if name in ARCHITECTURES:
        raise InputError(f"architecture {name!r}: there is one of this name already; choose another")
    ARCHITECTURES[name] = architecture


def expected_cost(settings: NetworkSettings, multiplicity: float) -> float:
    """About the number of multiply-adds a jet: enough to tell long trainings from short ones before they run.

    `multiplicity` is the mean number of particles of a jet.
    """
    return ARCHITECTURES[settings.architecture].cost(settings, multiplicity) + settings.fc_layers * settings.fc_dim**2


def load_architectures(names: Iterable[str], folder: str | Path) -> list[str]:
    """Enter the networks named ``file:Class`` into the table, and return the extensions that they are in.

    Parameters
    ----------
    names
        As the owner of a study has written them: their files are imported.
    folder
        That of the study's file.

    Raises
    ------
    InputError
        If a file cannot be imported, or has no such network in it.
    """
    files = []
    for name in names:
        file, _, wanted = name.rpartition(":")
        if not file:
            continue
        module = extensions.load_module(file, folder)
        files.append(extensions.absolute(file, folder))
        extensions.repeat_in_workers(load_architectures, (name,), str(Path(folder).resolve()))
        if name in ARCHITECTURES:
            continue
        found = getattr(module, wanted, None)
        if isinstance(found, type) and hasattr(found, "settings_class"):
            found = Architecture(found, found.settings_class, found.padded_class)
        if not isinstance(found, Architecture):
            raise InputError(f"architecture {name!r}: {file} has no CloudNetwork or Architecture {wanted!r}")
        add_architecture(name, found)
    return files


def _of_architecture(settings: Any) -> NetworkSettings:
    """The settings of a model by those of its architecture."""
    if isinstance(settings, NetworkSettings):
        return settings
    name = settings.get("architecture") if isinstance(settings, dict) else None
    if not isinstance(name, str) or name not in ARCHITECTURES:
        hint = "the study that names it must be loaded first" if ":" in str(name) else "or file:Class for one's own"
        raise PydanticCustomError(
            "architecture", "architecture {name}: there are {known}; {hint}",
            {"name": repr(name), "known": ", ".join(ARCHITECTURES), "hint": hint},
        )  # fmt: skip
    return ARCHITECTURES[name].settings.model_validate(settings)


ModelSettings = Annotated[SerializeAsAny[NetworkSettings], PlainValidator(_of_architecture)]
"""The settings of one model, of the class that its architecture has."""
