"""Sessions of the house: `nox` runs the gate (lint, tests, docs), `nox -t night` what takes too long for it.

Words behind `--` go to the command of the session: `nox -s tests -- tests/stats -k welch`.
"""

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "tests", "docs"]

APART = ("real", "chaos", "cluster", "scale", "determinism", "docs")  # markers of the tests that are not in the gate
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def install(session: nox.Session, extras: str = "") -> None:
    """Install the package with its pinned dependencies, compiled: or every process would compile what it imports."""
    package = f".[{extras}]" if extras else "."
    session.install("-c", "constraints.txt", package, env={"UV_COMPILE_BYTECODE": "1"})


def marked(session: nox.Session, marker: str, extras: str = "test") -> None:
    """Run the tests of one marker, one after the other."""
    install(session, extras)
    session.run("pytest", "-m", marker, *session.posargs, env=ONE_THREAD)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and format."""
    session.install("-c", "constraints.txt", "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def tests(session: nox.Session) -> None:
    """Types and tests, on the package as installed."""
    install(session, "test,lint")
    session.run("mypy")
    chosen = " and ".join(f"not {marker}" for marker in APART)
    workers = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
    session.run("pytest", *workers, "-m", chosen, *session.posargs, env=ONE_THREAD)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into site/; a warning is an error."""
    session.install("-c", "constraints.txt", "mkdocs-material", "mkdocstrings[python]", "ruff")  # reads the code only
    session.run("mkdocs", "build", "--strict", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session(tags=["night"])
def docs_runs(session: nox.Session) -> None:
    """Run the commands of README and the documentation, as a reader would; those that need a cluster aside."""
    marked(session, "docs", "test,slurm")


@nox.session(tags=["night"])
def real(session: nox.Session) -> None:
    """Checks on the real images and weights in ../shared; skipped where they are absent."""
    marked(session, "real")


@nox.session(tags=["night"])
def chaos(session: nox.Session) -> None:
    """Faults: kills, full disks, lost servers, no memory, clocks that go back."""
    marked(session, "chaos")


@nox.session(tags=["night"])
def cluster(session: nox.Session) -> None:
    """Past one machine: Hydra's launchers in their local forms, 500 runs on PostgreSQL, shared storage."""
    marked(session, "cluster or scale", "test,joblib,slurm,ray,postgres")


@nox.session(tags=["night"])
def determinism(session: nox.Session) -> None:
    """Every method twice, in another process and with other workers: the numbers are the same."""
    marked(session, "determinism")


@nox.session
def audit(session: nox.Session) -> None:
    """Known vulnerabilities of the pinned dependencies, asked of PyPI; an index that does not know them is an error."""
    session.install("-c", "constraints.txt", "pip-audit")
    session.run("pip-audit", "--strict", "--no-deps", "--disable-pip", "-r", "constraints.txt", *session.posargs)


@nox.session
def example(session: nox.Session) -> None:
    """Make reports/example: runs what of its grid is not finished in runs/example, then renders; and the pictures."""
    install(session, "test")
    place = "tracking.directory=runs/example"
    session.run("python", "-m", "harness", "-m", "experiment=toy", place)
    session.run("python", "-m", "harness.report", "experiment=toy", "name=example", place)
    session.run("python", "docs/tools/picture.py")
    session.run("python", "docs/tools/mlflow_pictures.py")


@nox.session
def bench(session: nox.Session) -> None:
    """Make reports/benchmark: all suites, or those named (`nox -s bench -- grid coreset`), or `models`; hours."""
    install(session, "test")
    if session.posargs[:1] == ["models"]:  # every image model of anomalib's, tried offline and untrained
        session.run("python", "-m", "benchmarks.models", *session.posargs[1:])
    else:
        session.run("python", "-m", "benchmarks", *session.posargs)
