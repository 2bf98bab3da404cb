"""Writes outputs into pages: `python docs/tools/outputs.py [PAGE ...]` runs their blocks and README's main job anew.

Without pages: README and all that have a `text` block below one that is run. It takes minutes, for README's main job is
run as typed.
"""

from __future__ import annotations

import itertools
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from blocks import README, REPOSITORY, Block, blocks, main_job, pages
from execute import checked, run_block
from furnish import furnish

BEGIN, END = "<!-- output of the main job: python docs/tools/outputs.py README.md -->", "<!-- end of output -->"


def main(arguments: list[str]) -> int:
    """Rewrite the outputs of the pages named."""
    for page in [Path(name).resolve() for name in arguments] or [page for page in pages() if _has_outputs(page)]:
        text = page.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            text = with_outputs(text, Path(folder), page)
        if page == README:
            with tempfile.TemporaryDirectory() as folder:
                text = with_main_job(text, main_job_output(text, Path(folder)))
        page.write_text(text, encoding="utf-8")
        print(page.relative_to(REPOSITORY))
    return 0


def outputs(page: str) -> Iterator[tuple[Block, Block]]:
    """Yield the blocks that are run and have their output shown below, each with the block of the output."""
    found = list(blocks(page))
    for block, after in itertools.pairwise(found):
        between = page[block.start + len(block.text) : after.start]
        if block.runs and after.language == "text" and between.strip() == "```\n\n```text":
            yield block, after


def with_outputs(page: str, folder: Path, path: Path) -> str:
    """Return a page with its outputs replaced by those of a run now: Python in the repository, shell in `folder`."""
    furnish(folder, page.replace("rename('photos')", ""))  # what blocks that are not run here would make
    made = {
        after.start: run_block(block, REPOSITORY if block.language == "python" else folder).stdout
        for block, after in outputs(page)
    }
    for _, after in reversed(list(outputs(page))):
        page = page[: after.start] + shown(made[after.start]) + page[after.start + len(after.text) :]
    return page


def shown(output: str) -> str:
    """Return an output as it stands in a page."""
    return "\n".join(line.rstrip() for line in output.rstrip().splitlines()) + "\n"


def main_job_output(readme: str, folder: Path) -> str:
    """Run README's main job, installation left out; return what it prints."""
    return "".join(f"{checked(['bash', '-c', command], folder).stdout}" for command in main_job(readme))


def with_main_job(readme: str, output: str) -> str:
    """Return README with the output of its main job."""
    block = f"{BEGIN}\n```text\n{shown(output)}```\n{END}"
    assert readme.count(BEGIN) == readme.count(END) == 1, "README.md has no place for the output of the main job"
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: block, readme, flags=re.DOTALL)


def _has_outputs(page: Path) -> bool:
    return page == README or any(outputs(page.read_text(encoding="utf-8")))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
