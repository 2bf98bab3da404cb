"""Every page's commands, run as a reader would: `nox -s docs_runs`, for it takes many minutes."""

from __future__ import annotations

from pathlib import Path

import pytest
from blocks import README, REPOSITORY, blocks, pages
from execute import run_page, with_stand_ins
from furnish import furnish
from outputs import main_job_output, outputs, shown
from test_doc_outputs import assert_same, main_job_shown

PAGES = [
    page.relative_to(REPOSITORY).as_posix()
    for page in pages()
    if any(block.runs for block in blocks(page.read_text(encoding="utf-8")))
]


@pytest.mark.docs
@pytest.mark.parametrize("page", PAGES)
def test_a_page_can_be_followed_from_top_to_bottom(page: str, tmp_path: Path, toy_root: Path) -> None:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    furnish(tmp_path, text, toy_root)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "example").symlink_to(REPOSITORY / "reports" / "example")
    told = {block.start: after.text for block, after in outputs(text)}
    for block, done in run_page(text, tmp_path):
        if done is not None and block.start in told:
            assert_same(shown(done.stdout), told[block.start], f"{page}:{block.line}")


@pytest.mark.docs
def test_the_main_job_as_typed_prints_what_the_readme_shows(tmp_path: Path) -> None:
    text = README.read_text(encoding="utf-8")
    assert_same(shown(main_job_output(text, tmp_path)), main_job_shown(), "README.md")
    assert (tmp_path / "reports" / "all" / "index.html").is_file()


def test_stand_ins_are_given_where_a_block_asks_for_them() -> None:
    page = "```bash run hub\npython -m harness -m method=padim\npython -m harness.report\n```\n"
    (block,) = blocks(page)
    run, report = block.commands()
    assert with_stand_ins(run, block) == f"{run} backbone.weights=weights.safetensors"
    assert with_stand_ins(report, block) == report
    (block,) = blocks("```bash run data\npython -m harness.report experiment=autovi dataset=autovi\n```\n")
    assert with_stand_ins(*block.commands(), block).endswith("quick=true weights=random backbone.weights=random")
    (block,) = blocks("```bash run data\npython -m harness.data check dataset=autovi\n```\n")
    assert with_stand_ins(*block.commands(), block) == block.commands()[0]
