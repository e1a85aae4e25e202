"""README and documentation: names, links, figures and options in them exist. The site itself is built by .ci/run."""

import ast
import re
from pathlib import Path

import pytest
import typer

import spikeinterface_nuclr
from spikeinterface_nuclr.cli import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BUILT = {"_build", "generated", "gallery"}
PAGES = [
    ROOT / "README.md",
    ROOT / "ndx-nuclr" / "README.md",
    *(page for page in sorted(DOCS.rglob("*.md")) if page.relative_to(DOCS).parts[0] not in BUILT),
]
# Options of other programs that the pages show.
OTHERS = {"--log-file", "--logdir", "--mice", "--calcium"}


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def prose(page):
    """A page without its blocks of code; directives, which name figures and pages, stay."""
    return re.sub(r"```(bash|python|text)\n.*?```", "", page.read_text(), flags=re.DOTALL)


def anchors(page):
    """Anchors of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def commands():
    """All commands by name, such as "decoder fit"."""
    group = typer.main.get_command(app)
    named = dict(group.commands)
    for name, command in group.commands.items():
        named |= {f"{name} {inner}": sub for inner, sub in getattr(command, "commands", {}).items()}
    return named


def options_of(command):
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {
        "--help"
    }


def test_every_public_name_is_in_the_reference():
    reference = (DOCS / "reference" / "api.rst").read_text()
    listed = re.findall(r"^   (\w+)$", reference, re.MULTILINE)
    assert sorted(listed) == sorted(spikeinterface_nuclr.__all__)


def test_the_readme_fits_on_two_screens():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 90


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_figures_exist(page):
    text = prose(page)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    targets += re.findall(r"```\{(?:figure|include)\} (\S+)", text) + re.findall(r"\{download\}`[^`]*<([^>]+)>`", text)
    for target in targets:
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if path.is_relative_to(DOCS / "gallery"):  # a page that is made of an example
            path = ROOT / "examples" / path.with_suffix(".py").name
        if path.parent == DOCS / "generated":
            continue
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_exist(page):
    known = commands()
    for line in "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines():
        words = line.partition(" #")[0].split()
        if words[:1] != ["nuclr"]:
            continue
        name = " ".join(words[1:3]) if " ".join(words[1:3]) in known else words[1]
        given = {word.partition("=")[0] for word in words if re.fullmatch(r"--?[a-z][\w-]*(=.*)?", word)}
        assert given <= options_of(known[name]), line
    every = set().union(*map(options_of, known.values())) | OTHERS
    for code in re.findall(r"`([^`\n]+)`", prose(page)):
        if not code.startswith(("pip ", "pytest", "sphinx-build", "ruff")):
            assert set(re.findall(r"(?<!\S)--[a-z][\w-]*", code)) <= every, code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_import_what_exists(page):
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "spikeinterface_nuclr":
                assert {alias.name for alias in node.names} <= set(spikeinterface_nuclr.__all__)
