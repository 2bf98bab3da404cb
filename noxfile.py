"""Sessions of the house: `nox` runs the gate (lint, tests); the others are run by hand."""

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "tests"]


@nox.session
def lint(session: nox.Session) -> None:
    """Style and format."""
    session.install("-c", "constraints.txt", "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def tests(session: nox.Session) -> None:
    """Types and tests, on the package as installed."""
    session.install("-c", "constraints.txt", ".[test,lint]")
    session.run("mypy")
    session.run(
        "pytest",
        "-n",
        "2",
        "--dist",
        "loadfile",
        "--no-loadscope-reorder",
        "-m",
        "not real",
        *session.posargs,
        env={"OMP_NUM_THREADS": "1"},
    )


@nox.session
def real(session: nox.Session) -> None:
    """Checks on the real images and weights in ../shared; skipped where they are absent."""
    session.install("-c", "constraints.txt", ".[test]")
    session.run("pytest", "-m", "real", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def example(session: nox.Session) -> None:
    """Make reports/example: runs what of its grid is not finished in runs/example, then renders."""
    session.install("-c", "constraints.txt", ".")
    place = "tracking.directory=runs/example"
    session.run("python", "-m", "harness", "-m", "experiment=toy", place)
    session.run("python", "-m", "harness.report", "experiment=toy", "name=example", place)


@nox.session
def bench(session: nox.Session) -> None:
    """Make reports/benchmark: all suites, or those named (`nox -s bench -- grid coreset`); hours on two cores."""
    session.install("-c", "constraints.txt", ".[test]")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def models(session: nox.Session) -> None:
    """Make reports/benchmark/models.md: every image model of anomalib's, tried offline and untrained."""
    session.install("-c", "constraints.txt", ".[test]")
    session.run("python", "-m", "benchmarks.models", *session.posargs)
