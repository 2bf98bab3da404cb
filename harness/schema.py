"""The typed configuration: every group of `conf/` has a dataclass, so a misspelt key or a wrong type is an error.

`method` is the one open group: its keys beyond :data:`METHOD_KEYS` are keyword arguments of the model's constructor,
so a method is added with one YAML and no edit here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.choices import CONF_DIR
from harness.data.protocol_rules import check_protocol
from harness.errors import ConfigError, did_you_mean
from harness.hydra_errors import explain
from harness.uri import require_readable

METHOD_KEYS = frozenset(  # read by the harness; what else a method's YAML holds goes to the model
    {
        "name", "version", "model", "epochs", "batch_size", "passes", "backbone", "backbones", "layers", "frozen",
        "needs", "normalise", "supervised", "task", "holdout", "tuned_on_test", "least_size",
    }
)  # fmt: skip


@dataclass
class DatasetConfig:
    """A data set: where it lies and how it is laid out. `name` is what tables print; a folder is named after itself."""

    layout: str = MISSING  # toy | mvtec | loco | visa | autovi
    name: str | None = None  # null: the name of the folder
    root: str | None = None  # folder with one folder a category in it
    download: bool = False  # fetch what is not there, where the data set is public
    categories: list[str] | None = None  # these only, also for category=all
    default_category: str | None = None  # without category=
    select: Any = None  # column of metadata.csv -> value(s): these images only
    normals: Any = None  # the same of the good images; defective ones all stay
    rotation: str | None = None  # column of the degrees, clockwise, that turn an image upright
    traits: Any = None  # what categories have in common -> these categories: the report's usage guide goes by it


@dataclass
class PreprocessConfig:
    """How an image becomes a square model input; the same for training and test images."""

    mode: str = "pad"  # resize | center_crop | pad | window
    size: int = 256
    resize: int | None = None
    window: list[int] | None = None
    fill: float = 0.0
    standardise: bool = False
    grey: bool = False


@dataclass
class AugmentConfig:
    """What happens to training images each time they are seen; nothing by default."""

    rotation: float = 0.0  # degrees
    rotation_p: float = 0.5
    noise_variance: list[float] = field(default_factory=lambda: [0.0, 0.0])  # on the scale of 8-bit pixels
    noise_p: float = 0.5


@dataclass
class ProtocolConfig:
    """Which images train, validate and test; see `harness.data.protocols`. What a protocol does not use is null."""

    name: str = "one_class"
    validation: float | None = None  # share of the images that are drawn from
    test: float | None = None
    shots: int | str | None = None  # good training images, or all
    folds: int | None = None
    fold: int | None = None  # the one that tests, from 0
    defects: float | None = None  # share of the defective images that is kept
    synthetic: bool | None = None  # validation images get synthetic defects
    group: str | None = None  # pattern of file names, or column of metadata.csv, whose images stay together
    order: str | None = None  # name, or column of metadata.csv: first images train, later ones test


@dataclass
class BackboneConfig:
    """The network under a method, by its timm name."""

    name: str | None = None
    weights: str = "hub"  # hub | random | a local file
    options: dict[str, Any] = field(default_factory=dict)  # further arguments of timm.create_model, as pad_type: same


@dataclass
class WeightsConfig:
    """Where weights and auxiliary images lie: one folder, or an item's own place. See `conf/weights/default.yaml`."""

    dir: str | None = None
    efficient_ad_teacher: str | None = None  # of each item: a path, hub, random, or null: known names below `dir`
    imagenette: str | None = None
    dsr_dictionary: str | None = None
    dtd: str | None = None


@dataclass
class TrainerConfig:
    """How a run is computed. Only `max_epochs` and `precision` can change numbers and are part of the run key."""

    max_epochs: int | None = None  # a cap on the method's own epochs
    quick: bool = False  # methods in the small form that they give with ${quick:FULL,SMALL}
    precision: str = "32-true"
    device: str = "auto"
    threads: int = 1
    workers: int = 0
    eval_batch_size: int = 32
    cache_images: bool = True


@dataclass
class MetricsConfig:
    """Where pixel metrics are scored."""

    resolution: str = "model"  # model | native
    frame: str = "visible"  # visible | full: what a crop hides counts as scored lowest
    heatmaps: int = 8


@dataclass
class FeaturesConfig:
    """The store of frozen features. Only `dtype` can change numbers; float16 is part of the run key."""

    store: str = "disk"  # off | memory | disk
    directory: str = "runs/features"
    limit_gib: float = 20.0  # of the folder, or of the process with store=memory
    resident_gib: float = 4.0  # what may stay in memory, ready for the training step
    dtype: str = "float32"  # float32 | float16


@dataclass
class TrackingConfig:
    """The MLflow store, and where everything else of a run lies."""

    uri: str = "sqlite:///runs/mlflow.db"
    directory: str = "runs"
    patience: float = 1800.0  # seconds that a server which does not answer is waited for


@dataclass
class LauncherConfig:
    """How the runs of a sweep are launched: no part of a run, and the same results."""

    name: str = "serial"  # serial | local | joblib | slurm | ray
    jobs: int | None = 1  # at once; null: as many as the machine or the cluster takes


@dataclass
class SlurmConfig(LauncherConfig):
    """What a job of `launcher=slurm` is given."""

    executor: str = "auto"  # slurm | local: processes of this machine | auto: Slurm where there is one
    partition: str | None = None
    account: str | None = None
    minutes: int = 60
    memory_gib: float | None = None
    cpus: int = 1
    gpus: int | None = None
    runs_per_job: int = 1
    setup: list[str] = field(default_factory=list)  # lines of the job's script, before Python starts
    sbatch: Any = None  # any other option of sbatch: value


@dataclass
class RayConfig(LauncherConfig):
    """What a task of `launcher=ray` is given, and where."""

    address: str | None = None  # of a cluster; null: one on this machine
    cpus: int = 1
    gpus: float | None = None  # null: one where the cluster has some


@dataclass
class Config:
    """One run, or under `-m` what its cells have in common."""

    method: Any = MISSING
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    category: str | None = None  # with -m also all
    seed: int = 0  # of everything drawn: weights, batches, splits
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    launcher: LauncherConfig = field(default_factory=LauncherConfig)
    timing: bool = False  # measure times for a speed table, and nothing else
    quick: bool = False  # everything in its smallest form: to see that a command runs, not what comes out
    dry: bool = False  # list the runs, and estimate what they cost
    experiment: str = "adhoc"  # name of the MLflow experiment
    grids: list[Any] = field(default_factory=list)  # products of values, of which -m runs the union
    quick_grids: list[Any] = field(default_factory=list)  # in place of `grids` under quick=true


LAUNCHERS: dict[str, type[LauncherConfig]] = {"slurm": SlurmConfig, "ray": RayConfig}  # with settings of their own

CHOICES: dict[tuple[str, str], tuple[str, ...]] = {
    ("dataset", "layout"): ("toy", "mvtec", "loco", "visa", "autovi"),
    ("launcher", "name"): ("serial", "local", "joblib", "slurm", "ray"),
    ("preprocess", "mode"): ("resize", "center_crop", "pad", "window"),
    ("trainer", "precision"): ("32-true", "16-mixed", "bf16-mixed"),
    ("trainer", "device"): ("auto", "cpu", "cuda", "mps"),
    ("features", "store"): ("off", "memory", "disk"),
    ("features", "dtype"): ("float32", "float16"),
    ("metrics", "resolution"): ("model", "native"),
    ("metrics", "frame"): ("visible", "full"),
}

POSITIVE: tuple[tuple[str, str], ...] = (
    ("trainer", "max_epochs"),
    ("trainer", "threads"),
    ("trainer", "eval_batch_size"),
    ("preprocess", "size"),
    ("preprocess", "resize"),
    ("method", "epochs"),
    ("method", "batch_size"),
    ("method", "passes"),
)

COUNTS: tuple[tuple[str, str], ...] = (("trainer", "workers"), ("metrics", "heatmaps"))


def register() -> None:
    """Tell Hydra about the schema that `conf/config.yaml` builds on, and about the harness's sweeper."""
    store = ConfigStore.instance()
    store.store("schema", Config)
    for name, kind in LAUNCHERS.items():
        store.store(name, kind, group="hydra/harness_launcher")  # under hydra/ so that no help lists them
    store.store("grid", {"_target_": "hydra_plugins.anomaly_harness.GridSweeper"}, group="hydra/sweeper")
    OmegaConf.register_new_resolver("quick", _full_or_quick, replace=True)
    OmegaConf.register_new_resolver("tiny", _full_or_tiny, replace=True)
    OmegaConf.register_new_resolver("tiny_size", _full_or_tiny_size, replace=True)
    OmegaConf.register_new_resolver("capped", _capped, replace=True)
    OmegaConf.register_new_resolver("by_backbone", _by_backbone, replace=True)
    OmegaConf.register_new_resolver("anomalib_name", _anomalib_name, replace=True)
    OmegaConf.register_new_resolver("anomalib_epochs", _anomalib_epochs, replace=True)


def _full_or_quick(full: Any, small: Any, *, _root_: DictConfig) -> Any:
    """Resolve `${quick:FULL,SMALL}`: a method's setting in its paper's form, or in its form for laptops."""
    return small if _root_.trainer.quick else full


def _full_or_tiny(full: Any, small: Any, *, _root_: DictConfig) -> Any:
    """Resolve `${tiny:FULL,SMALL}`: a setting as it is, or under `quick=true`."""
    return small if _root_.quick else full


def _full_or_tiny_size(size: int, *, _root_: DictConfig) -> int:
    """Resolve `${tiny_size:SIZE}`: under `quick=true` a quarter, but no less than the method needs."""
    return max(size // 4, int(_root_.method.get("least_size") or 0)) if _root_.quick else size


def _anomalib_name(model: str) -> str:
    """Resolve `${anomalib_name:MODEL}`: what runs of an anomalib model are called."""
    from harness.models import generic

    return generic.run_name(model)


def _anomalib_epochs(model: str, epochs: int) -> int:
    """Resolve `${anomalib_epochs:MODEL,EPOCHS}`: as many, or 1 for a memory bank."""
    from harness.models import generic

    return generic.epochs(model, epochs)


def _capped(epochs: int, *, _root_: DictConfig) -> int:
    """Resolve `${capped:EPOCHS}`: epochs that `trainer.max_epochs` caps as it does a method's own."""
    return capped(epochs, _root_.trainer.max_epochs)


def capped(epochs: int, cap: int | None) -> int:
    """Return epochs, or `trainer.max_epochs` where that is less."""
    return epochs if cap is None else min(epochs, cap)


def _by_backbone(choices: Mapping[str, Any], other: Any, *, _root_: DictConfig) -> Any:
    """Resolve `${by_backbone:{NAME:VALUE,…},OTHER}`: a setting that goes with the network, by its timm name."""
    return choices.get(str(_root_.backbone.name).partition(".")[0], other)


def augments(augment: Any) -> bool:
    """Whether training images are changed at all."""
    return bool(augment["rotation"]) or any(augment["noise_variance"])


def stores_half(features: Any) -> bool:
    """Whether features are stored in half precision, which changes numbers."""
    return features["store"] != "off" and features["dtype"] != "float32"


def _validate_choice(group: str, key: str, value: Any) -> None:
    if value not in (choices := CHOICES[group, key]):
        raise ConfigError(f"{group}.{key}={value} is not possible; choose one of {', '.join(choices)}.")


def validate_launcher(launcher: DictConfig) -> None:
    """Refuse settings of the launcher that have no meaning.

    Raises:
        ConfigError: as :func:`validate`.
    """
    _validate_choice("launcher", "name", launcher.name)
    if launcher.jobs not in (None, -1) and not _is_count(launcher.jobs, 1):
        raise ConfigError(f"launcher.jobs={launcher.jobs} is not possible; give a whole number of at least 1, or null.")


def validate(config: DictConfig) -> None:
    """Refuse values that have the right type but no meaning, with the values that have one.

    Raises:
        ConfigError: naming the key, its value and what is possible.
    """
    _validate_keys(config)
    for group, key in CHOICES:
        if group in config:
            _validate_choice(group, key, config[group][key])
    for least, keys in ((1, POSITIVE), (0, COUNTS)):
        for group, key in keys:
            value = config[group].get(key)
            if value is not None and not _is_count(value, least):
                raise ConfigError(f"{group}.{key}={value} is not possible; give a whole number of at least {least}.")
    if "launcher" in config:  # a run has none
        validate_launcher(config.launcher)
    for key in ("limit_gib", "resident_gib"):
        if not config.features[key] >= 0:  # not a number is neither
            raise ConfigError(f"features.{key}={config.features[key]} is not possible; give gibibytes, 0 or more.")
    if not config.tracking.patience >= 0:
        raise ConfigError(f"tracking.patience={config.tracking.patience} is not possible; give seconds, 0 or more.")
    if not 0 <= config.preprocess.fill <= 1:
        raise ConfigError(f"preprocess.fill={config.preprocess.fill} is not possible; give a grey value from 0 to 1.")
    _validate_augment(config.augment)
    method = config.method
    check_protocol(config.protocol, bool(method.get("supervised")), method.name)
    if not 0 <= (method.get("holdout") or 0) < 1:
        raise ConfigError(f"method.holdout={method.holdout} is not possible; give a share of the training images.")
    least = config.method.get("least_size")
    if least is not None and config.preprocess.size < least:
        raise ConfigError(
            f"preprocess.size={config.preprocess.size} is too small for {method.name}, which needs {least}."
        )
    if not 0 <= config.seed < 2**32:
        raise ConfigError(f"seed={config.seed} is not possible; give a whole number from 0 to {2**32 - 1}.")


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _validate_keys(config: DictConfig) -> None:
    """Refuse what a + has added beside the schema, and a store without an address."""
    known = [f.name for f in fields(Config)]
    for key in map(str, config):
        if key not in known:
            near = did_you_mean(key, known)
            raise ConfigError(
                f"There is no setting {key}{near}: a + adds arguments of the model only, as +method.{key}=…"
            )
    if not config.tracking.uri:
        raise ConfigError("tracking.uri= is not possible; give tracking.uri=sqlite:///FOLDER/mlflow.db or a server's.")
    require_readable(config.tracking.uri)


def _validate_augment(augment: DictConfig) -> None:
    for key in ("rotation_p", "noise_p"):
        if not 0 <= augment[key] <= 1:
            raise ConfigError(f"augment.{key}={augment[key]} is not possible; give a probability.")
    if not 0 <= augment.rotation <= 45:
        raise ConfigError(f"augment.rotation={augment.rotation} is not possible; give degrees from 0 to 45.")
    variance = list(augment.noise_variance)
    if len(variance) != 2 or not 0 <= variance[0] <= variance[1]:
        raise ConfigError(f"augment.noise_variance={variance} is not possible; give [lowest,highest].")


def compose(overrides: Sequence[str] = ()) -> DictConfig:
    """Compose one configuration outside a Hydra job, as the report and the data checks do.

    Raises:
        ConfigError: when an override names a key or a choice that does not exist.
    """
    register()
    if GlobalHydra.instance().is_initialized():
        raise RuntimeError("compose() is for use outside Hydra jobs")
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        try:
            config = hydra_compose("config", overrides=list(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(explain(error)) from error
    return config


def flatten(config: DictConfig) -> dict[str, Any]:
    """Return the resolved configuration as one level of dotted keys; lists stay values."""

    def walk(tree: dict[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for key, value in tree.items():
            if isinstance(value, dict) and value:
                yield from walk(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return dict(walk(plain, ""))


def one_line(error: BaseException) -> str:
    """Return an exception's text as one line, with its type where the text alone would not tell."""
    text = " ".join(str(error).split())
    return text or type(error).__name__
