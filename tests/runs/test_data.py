"""The batches of a run: everyone who asks has their own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.data.geometry import build_geometry
from harness.identity import identify
from harness.runs.data import RunData, draw, image_data, images_of, placeholder_data
from harness.schema import compose


def make_data(toy_root: Path, *overrides: str, stored: bool = False) -> RunData:
    config = compose([f"dataset.root={toy_root}", "preprocess.size=32", "method.batch_size=5", *overrides])
    identity = identify(config)
    drawn = draw(config, identity)
    if stored:
        return placeholder_data(config, identity, drawn, torch.device("cpu"))
    return image_data(config, identity, drawn, build_geometry(config.preprocess))


@pytest.mark.parametrize("kind", ["in this process", "in a worker", "stored"])
def test_a_model_that_looks_through_its_images_takes_none_from_the_training(kind: str, toy_root: Path) -> None:
    """EfficientAD does as the training starts, when Lightning has begun the first epoch already."""
    data = make_data(toy_root, f"trainer.workers={int(kind == 'in a worker')}", stored=kind == "stored")
    undisturbed = [batch.image_path for batch in data.train_dataloader()]
    training = iter(data.train_dataloader())
    begun = next(training).image_path
    looked = [batch.image_path for batch in data.train_dataloader()]
    assert [begun, *(batch.image_path for batch in training)] == undisturbed == looked
    assert len({path for paths in undisturbed for path in paths}) == 40


def test_a_method_that_validates_gets_images_that_it_does_not_train_on(toy_root: Path) -> None:
    data = make_data(toy_root, "+method.holdout=0.25")
    trained, held = (
        {p for b in loader for p in b.image_path} for loader in (data.train_dataloader(), data.val_dataloader())
    )
    assert (len(trained), len(held)) == (30, 10) and not trained & held
    assert data.validates and data.validation is None
    plain = make_data(toy_root)
    assert not plain.validates and plain.val_dataloader() == []


def test_the_rows_of_stored_features_are_the_places_of_their_images(toy_root: Path) -> None:
    overrides = ("protocol=supervised", "+method.holdout=0.2")
    data = make_data(toy_root, *overrides, stored=True)
    config = compose([f"dataset.root={toy_root}", *overrides])
    images = images_of(draw(config, identify(config)))
    from harness.features.placeholder import rows_of

    for loader in (data.train_dataloader(), data.val_dataloader(), data.validation, data.test):
        for batch in loader:
            rows = rows_of(batch.image).tolist()
            assert [str(images[row].path) for row in rows] == batch.image_path
