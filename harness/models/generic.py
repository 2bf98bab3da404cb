"""Any of anomalib's image models by name: `method=anomalib method.model=Fastflow`.

What must be known of a model before anything is trained (is there one of that name, does it take a backbone, is it a
memory bank) is read from its source, for importing anomalib takes seconds that a finished run should not cost.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from harness.errors import ConfigError

_OWN = "{} loads more than a backbone, which it would download as training starts: method={} takes it from weights.dir."
REFUSED = {  # what would go wrong only after the model is built, or in silence
    "Draem": _OWN.format("Draem", "draem"),
    "Dsr": _OWN.format("Dsr", "dsr"),
    "EfficientAd": _OWN.format("EfficientAd", "efficient_ad"),
    "CFM": "CFM compares colour with depth images, and the harness reads no depth images.",
    "VlmAd": "VlmAd asks a vision-language model that a service runs (Ollama, OpenAI), and has no scores of its own.",
    "MHPatchcore": "MHPatchcore can be scored only after its third pass, and the harness scores after every one.",
}
OWN_WEIGHTS = {  # loaded past weights.dir, and not known by content
    "WinClip": "CLIP's from open_clip",
    "AnomalyVFM": "RADIO's from the Hugging Face hub",
}
ARGUMENTS = {"dtd": ("dtd_dir", "anomaly_source_path"), "imagenette": ("imagenet_dir",)}  # anomalib's for our items


@dataclass(frozen=True)
class Described:
    """What a model's source tells.

    Args:
        name: of the class.
        package: anomalib's name of the model: `reverse_distillation`.
        arguments: that its constructor takes.
        one_pass: whether one pass over the data is all the training there is: a memory bank, or a zero-shot model.
        pretrained: whether it creates networks that have weights.
    """

    name: str
    package: str
    arguments: frozenset[str]
    one_pass: bool
    pretrained: bool

    @property
    def path(self) -> str:
        """Where it is imported from."""
        return f"anomalib.models.image.{self.name}"


def is_name(model: str) -> bool:
    """Whether `method.model` names one of anomalib's models, and not the path of a class."""
    return "." not in model


def canonical(model: str) -> str:
    """Return a model as anomalib writes it, whatever the case and underscores; the path of a class as it is.

    Raises:
        ConfigError: for a name that anomalib has not.
    """
    return describe(model).name if is_name(model) else model


def describe(model: str) -> Described:
    """Return what is known of a model by its name.

    Raises:
        ConfigError: for a name that anomalib has not, with those that are close.
    """
    known = _packages()
    if (plain := _plain(model)) in known:
        return _describe(*known[plain])
    close = [known[match][0] for match in get_close_matches(plain, known, n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(close)}?" if close else "it has " + ", ".join(name for name, _ in known.values())
    raise ConfigError(f"method.model={model} is no image model of anomalib's; {hint}")


def model_names() -> list[str]:
    """Return every image model of anomalib's, as it writes them."""
    return sorted({name for name, _ in _packages().values()}, key=str.lower)


def run_name(model: str) -> str:
    """Return what a model is called in runs and tables: anomalib's name for it, marked where it would be another's.

    A name that is unknown stays as it is: who asks for the model itself gets the error.
    """
    from harness.choices import CONF_DIR

    try:
        package = describe(model).package
    except ConfigError:
        return model
    return f"anomalib_{package}" if (CONF_DIR / "method" / f"{package}.yaml").exists() else package


def epochs(model: str, epochs: int) -> int:
    """Return the epochs of a model that learns by steps, or 1 for one that learns in one pass, or not at all."""
    try:
        return 1 if describe(model).one_pass else epochs
    except ConfigError:
        return epochs


def argument_of(item: str, accepted: Container[str]) -> str:
    """Return the argument that takes an item of `method.needs`: anomalib's name for it, or else the item's own."""
    return next((name for name in ARGUMENTS.get(item, ()) if name in accepted), item)


def _plain(name: str | None) -> str:
    return (name or "").replace("_", "").lower()


def _root() -> Path:
    spec = find_spec("anomalib")  # of a top-level package: found without being imported
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "models" / "image"


@cache
def _packages() -> Mapping[str, tuple[str, str]]:
    """Return class and package of every image model, by the plain form of the class's name and of the package's."""
    tree = ast.parse((_root() / "__init__.py").read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module]
    found = [(alias.name, str(node.module)) for node in imports for alias in node.names]
    by_package = {_plain(package): (name, package) for name, package in found}
    return by_package | {_plain(name): (name, package) for name, package in found}


@cache
def _describe(name: str, package: str) -> Described:
    folder = _root() / package
    tree = ast.parse((folder / "lightning_model.py").read_text(encoding="utf-8"))
    cls = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    methods = {node.name: node for node in cls.body if isinstance(node, ast.FunctionDef)}
    taken = methods["__init__"].args
    arguments = {argument.arg for argument in (*taken.args, *taken.kwonlyargs)} - {"self"}
    bases = {node.id for node in cls.bases if isinstance(node, ast.Name)}
    sources = "".join(path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.py")))
    pretrained = re.search(r"create_model|TimmFeatureExtractor\(|get_model_weights|_Weights\.", sources) is not None
    one_pass = "MemoryBankMixin" in bases or "training_step" not in methods
    return Described(name, package, frozenset(arguments), one_pass, pretrained)
