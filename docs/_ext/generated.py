"""Writes the reference pages that come from the code, into docs/generated/: the command line and the NWB types."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

SPECIFICATION = Path(__file__).parents[2] / "ndx-nuclr" / "spec" / "ndx-nuclr.extensions.yaml"


def command_line() -> str:
    """Help of all commands as Markdown, by typer's own generator: a section for each command."""
    generator = [sys.executable, "-m", "typer", "spikeinterface_nuclr.cli", "utils", "docs", "--name", "nuclr"]
    text = subprocess.run(generator, check=True, capture_output=True, encoding="utf-8").stdout
    text = text[text.index("## ") :]
    return re.sub(r"(?<=/)\*", r"\\*", text)  # patterns such as data/*/*.nwb are not emphasis


def nwb_types() -> str:
    """The types of ndx-nuclr as reStructuredText: a section and a table each."""
    groups = yaml.safe_load(SPECIFICATION.read_text(encoding="utf-8"))["groups"]
    return "\n".join(_section(group) for group in groups)


def _section(group: dict) -> str:
    name = group["neurodata_type_def"]
    rows = [("name", "kind", "type", "required", "description")]
    for kind in ("attribute", "dataset", "link"):
        rows += [_row(kind, member) for member in group.get(f"{kind}s", [])]
    cells = [f"   {'  ' if column else '* '}- {cell}" for row in rows for column, cell in enumerate(row)]
    head = [name, "-" * len(name), "", group["doc"], "", f"Extends ``{group['neurodata_type_inc']}``.", ""]
    table = [".. list-table::", "   :header-rows: 1", "   :widths: 22 12 20 10 60", ""]
    return "\n".join([*head, *table, *cells, ""])


def _row(kind: str, member: dict) -> tuple[str, ...]:
    contents = member.get("dtype") or member.get("neurodata_type_inc") or member.get("target_type")
    shape = f" ({', '.join(member['dims'])})" if "dims" in member else ""
    optional = member.get("required") is False or member.get("quantity") in ("?", "*")
    description = member["doc"].replace("`", "``")
    return f"``{member['name']}``", kind, f"{contents}{shape}", "no" if optional else "yes", description


def write(app) -> None:
    """Write both, before Sphinx reads the pages that include them."""
    folder = Path(app.srcdir) / "generated"
    folder.mkdir(exist_ok=True)
    (folder / "commands.inc").write_text(command_line(), encoding="utf-8")
    (folder / "types.inc").write_text(nwb_types(), encoding="utf-8")


def setup(app):
    """Register with Sphinx."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
