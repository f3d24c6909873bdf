"""The project's promises about itself: README's commands exist, the image is safe, the text names no machine."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()

# Package registries: which one is asked is the business of the machine, never of the project. Written with a break, so
# that this file does not name them either.
REGISTRY_HOSTS = tuple(
    name.replace("|", "")
    for name in (
        "pypi|.org",
        "pythonhosted|.org",
        "npmjs|.org",
        "npmjs|.com",
        "deb.debian|.org",
        "download.pytorch|.org",
        "crates|.io",
    )
)
MACHINE_PATH = re.compile(r"""(?<![\w./:-])(?:\.\./shared|/(?:work|root|opt/wheels|opt/pypi|tmp/venv)(?=[/\s`'")]))""")
SOURCES = re.compile(r"planner/catalog/.*\.(jsonl|json|toml)$")  # data cites the pages that it comes from


def requirement_names(requirements: list[str]) -> list[str]:
    return [canonicalize_name(Requirement(requirement).name) for requirement in requirements]


def constraint_lines() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def tracked_files() -> list[str]:
    try:
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [name for name in listing.stdout.split("\0") if (ROOT / name).is_file()]


def text_of(name: str) -> str:
    return (ROOT / name).read_bytes().decode(errors="replace")


def test_readme_begins_with_the_two_commands() -> None:
    block = README.split("```")[1]
    commands = [line.partition("#")[0].strip() for line in block.splitlines()[1:] if line.strip()]
    assert commands == ["make serve", "make test"]
    assert README.index("```") < 400


def test_every_make_command_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    for name in ("README.md", "CONTRIBUTING.md", ".ci/run"):
        assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text_of(name), re.MULTILINE)) <= targets, name


def test_every_make_target_explains_itself_in_help() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == set(re.findall(r"^([a-z-]+):.*## \w", MAKEFILE, re.MULTILINE))


def test_continuous_integration_runs_the_command_of_the_readme() -> None:
    assert text_of(".ci/run").rstrip().endswith("\nmake test")


def test_the_image_runs_as_an_ordinary_user_and_reports_its_health() -> None:
    final_stage = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    user = re.search(r"^USER (\S+)$", final_stage, re.MULTILINE)
    health = re.search(r"^HEALTHCHECK .*?\n\s+CMD (.*)$", final_stage, re.MULTILINE | re.DOTALL)
    assert user is not None
    assert user[1] not in {"root", "0"}
    assert final_stage.index("USER ") < final_stage.index("\nCMD ")
    assert health is not None
    assert "/livez" in health[1]
    assert "VOLUME /data" in final_stage


def test_the_image_is_built_from_everything_in_the_wheel() -> None:
    allowed = text_of(".dockerignore")
    for part in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["include"]:
        assert f"COPY {part[1:]} {part[1:]}" in DOCKERFILE
        assert f"\n!{part[1:]}\n" in allowed


def test_the_licence_is_there_and_named() -> None:
    assert "Apache License" in text_of("LICENSE")[:200]
    assert PROJECT["project"]["license"] == "Apache-2.0"


def test_no_tracked_file_names_a_package_registry_or_a_path_of_one_machine() -> None:
    found: list[str] = []
    for name in tracked_files():
        text = text_of(name)
        found += [f"{name}: {host}" for host in REGISTRY_HOSTS if host in text and not SOURCES.match(name)]
        found += [f"{name}: {match[0]}" for match in MACHINE_PATH.finditer(text) if name != "tests/test_project.py"]
    assert not found


def test_every_version_is_exact_and_every_dependency_has_one() -> None:
    lines = constraint_lines()
    assert not [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)]
    constrained = {canonicalize_name(line.partition("==")[0]) for line in lines}
    wanted = requirement_names(PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"])
    assert not set(wanted) - constrained


def test_no_version_range_has_an_upper_end() -> None:
    ranges = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
    assert not [str(one) for one in ranges for part in one.specifier if part.operator != ">="]


def test_every_import_is_of_a_declared_dependency() -> None:
    graph = grimp.build_graph("planner", "app", include_external_packages=True)
    external = {module for module in graph.modules if graph.is_module_squashed(module)} - sys.stdlib_module_names
    distributions = packages_distributions()
    imported = {canonicalize_name(name) for module in external for name in distributions[module]}
    declared = set(requirement_names(PROJECT["project"]["dependencies"]))
    parts_of_declared = {"starlette", "pydantic-core", "markupsafe", "sqlalchemy"}  # borders of what is declared
    assert not imported - declared - parts_of_declared


def test_every_dependency_is_argued_for() -> None:
    argued = text_of("docs/adr/0006-dependencies.md").lower()
    wanted = requirement_names(PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"])
    assert not [name for name in wanted if f"| {name} |" not in argued]


def test_every_setting_is_in_the_readme() -> None:
    assert not [name for name in Settings.model_fields if f"| `TRAINFIT_{name.upper()}`" not in README]


def test_every_decision_is_listed_and_has_a_status() -> None:
    index = text_of("docs/adr/README.md")
    records = sorted(path.name for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"))
    assert [name[:4] for name in records] == [f"{number:04d}" for number in range(1, len(records) + 1)]
    for name in records:
        assert f"]({name})" in index
        assert re.search(
            r"^Status: (accepted|superseded by \d{4}), \d{4}-\d\d-\d\d$", text_of(f"docs/adr/{name}"), re.MULTILINE
        )


def broken_links(document: Path) -> list[str]:
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", document.read_text())
    return [f"{document.relative_to(ROOT)}: {target}" for target in targets if not (document.parent / target).exists()]


def test_every_relative_link_in_the_documents_leads_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    assert not [broken for document in documents for broken in broken_links(document)]


def test_only_jobs_load_the_verifier_and_the_calibration() -> None:
    """import-linter's `protected` contract says this too, but not before every module that it names exists."""
    graph = grimp.build_graph("planner", "app")
    loaders = {
        importer
        for module in graph.modules
        if module.startswith(("planner.verify", "planner.calibration"))
        for importer in graph.find_modules_that_directly_import(module)
    }
    own = ("planner.verify", "planner.calibration", "app.jobs")
    assert not [importer for importer in loaders if not importer.startswith(own)]
