"""The integrity checks alone: `python -m harness.data check dataset=folder dataset.root=FOLDER`."""

import sys
from collections.abc import Sequence

from harness.arguments import require_assignments, split
from harness.data.checks import check_category
from harness.data.readers import DatasetLike, dataset_root, list_categories, read_category
from harness.entry import call
from harness.errors import HarnessError
from harness.terminal import counted

USAGE = "Usage: python -m harness.data check dataset=NAME [dataset.root=FOLDER] [category=a,b] [--config-dir DIR]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the categories named (default: all of the data set); 0 sound, 1 errors found, 2 misused."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if {"-h", "--help"} & set(words):
        print(USAGE)
        return 0
    if "check" not in words:
        print(USAGE, file=sys.stderr)
        return 2
    words.remove("check")
    try:
        from harness.schema import compose

        given = split(words)
        require_assignments(given.overrides, "the check")
        named = [o.partition("=")[2] for o in given.overrides if o.startswith("category=")]
        others = [o for o in given.overrides if not o.startswith("category=")]
        dataset: DatasetLike = compose([*others, *given.searchpath]).dataset
        names = [name for value in named for name in value.strip("[]").split(",")]
        categories = names if names and names != ["all"] else list_categories(dataset)
        absent = [] if names and names != ["all"] else _absent(dataset, categories)
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return _report(dataset, categories, absent)


def _report(dataset: DatasetLike, categories: Sequence[str], absent: Sequence[str]) -> int:
    images = masks = errors = warnings = 0
    if absent:
        warnings += 1
        print(f"warning: {dataset_root(dataset)} lacks {', '.join(absent)}, which {dataset.name} has.")
    for name in categories:
        try:
            category = read_category(dataset, name)
        except HarnessError as error:
            errors += 1
            print(f"error: {error}")
            continue
        images += len(category.samples)
        masks += sum(len(sample.masks) for sample in category.samples)
        for problem in check_category(category):
            errors += problem.severity == "error"
            warnings += problem.severity == "warning"
            print(f"{problem.severity}: {problem.text}")
    seen = f"{counted(images, 'image')} and {counted(masks, 'mask')}"
    of = f"{len(categories)} {'category' if len(categories) == 1 else 'categories'}"
    print(f"Checked {seen} of {of}: {counted(errors, 'error')}, {counted(warnings, 'warning')}.")
    return int(errors > 0)


def _absent(dataset: DatasetLike, found: Sequence[str]) -> list[str]:
    return sorted(set(dataset.categories or ()) - set(found))


if __name__ == "__main__":
    sys.exit(call(main, "harness.data"))
