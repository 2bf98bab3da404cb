"""Skip-GANomaly: losses, networks and updates against explicit computations; learning; plain anomalib."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.deploy import ExportType
from anomalib.engine import Engine
from datamodule import make_datamodule
from lightning.pytorch import Trainer
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader

from harness.errors import ConfigError
from harness.models.skip_ganomaly import SkipGanomaly
from harness.models.skip_ganomaly.loss import DiscriminatorLoss, GeneratorLoss
from harness.models.skip_ganomaly.torch_model import SkipGanomalyModel
from harness.schema import compose

MakeImages = Callable[[int, int, bool], torch.Tensor]
OFF = {"post_processor": False, "evaluator": False, "visualizer": False}


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-logits))


def _module(**arguments: object) -> SkipGanomaly:
    return SkipGanomaly(depth=4, width=4, latent_size=6, pre_processor=False, **OFF, **arguments)


def _fit(model: SkipGanomaly, batches: list[torch.Tensor], epochs: int) -> Trainer:
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(model, DataLoader([ImageBatch(image=images) for images in batches], batch_size=None))
    return trainer


@pytest.fixture
def trained(make_images: MakeImages) -> SkipGanomalyModel:
    """A small network whose running means have seen images, in eval mode."""
    model = SkipGanomalyModel(depth=4, width=4, latent_size=6)
    for seed in range(3):
        model.discriminator(model(make_images(seed, 4, False)))
    return model.eval()


class TestLosses:
    def test_the_generators_terms_are_those_of_the_formulas(self) -> None:
        generator = np.random.default_rng(0)
        images, fakes = generator.normal(size=(2, 3, 3, 4, 5))
        logits = generator.normal(0, 3, 3)
        real, fake = generator.normal(size=(2, 3, 6, 1, 2))

        parts = GeneratorLoss(2.0, 50.0, 3.0)(*map(torch.from_numpy, (images, fakes, logits, real, fake)))

        assert float(parts.adversarial) == pytest.approx(2 * np.mean([-np.log(_sigmoid(x)) for x in logits]))
        assert float(parts.contextual) == pytest.approx(50 * sum(abs(images - fakes).ravel()) / images.size)
        assert float(parts.latent) == pytest.approx(3 * sum((real - fake).ravel() ** 2) / real.size)
        assert float(parts.total) == pytest.approx(float(parts.adversarial + parts.contextual + parts.latent))

    def test_the_discriminators_loss_is_that_of_the_formula(self) -> None:
        real, fake = np.random.default_rng(1).normal(0, 3, (2, 5))
        expected = -np.log(_sigmoid(real)).mean() - np.log(1 - _sigmoid(fake)).mean()
        loss = DiscriminatorLoss()(torch.from_numpy(real), torch.from_numpy(fake))
        assert float(loss) == pytest.approx(expected)

    def test_defaults_are_the_papers(self) -> None:
        loss = SkipGanomaly(**OFF, depth=2).generator_loss
        assert (loss.adversarial_weight, loss.contextual_weight, loss.latent_weight) == (1, 50, 1)


class TestNetworks:
    def test_the_generator_is_the_u_net_of_its_weights(
        self, trained: SkipGanomalyModel, make_images: MakeImages
    ) -> None:
        images, weights = make_images(1, 2, True), trained.generator.state_dict()

        def normalised(features: torch.Tensor, name: str) -> torch.Tensor:
            mean, variance, scale, shift = (
                weights[f"{name}.{part}"].view(1, -1, 1, 1)
                for part in ("running_mean", "running_var", "weight", "bias")
            )
            return (features - mean) / (variance + 1e-5).sqrt() * scale + shift

        def down(features: torch.Tensor, name: str) -> torch.Tensor:
            return F.conv2d(features, weights[f"encoder.{name}.weight"], stride=2, padding=1)

        def up(features: torch.Tensor, name: str) -> torch.Tensor:
            decoded = F.conv_transpose2d(features.clamp(min=0), weights[f"{name}.1.weight"], stride=2, padding=1)
            return normalised(decoded, f"{name}.2")

        def leaky(features: torch.Tensor) -> torch.Tensor:
            return torch.where(features > 0, features, 0.2 * features)

        first = leaky(down(images, "blocks.0.0"))
        second = leaky(normalised(down(first, "blocks.1.0"), "encoder.blocks.1.1"))
        third = leaky(normalised(down(second, "blocks.2.0"), "encoder.blocks.2.1"))
        latent = down(third, "last")
        decoded = torch.cat((up(latent, "innermost"), third), 1)
        decoded = torch.cat((up(decoded, "ups.1"), second), 1)
        decoded = torch.cat((up(decoded, "ups.0"), first), 1).clamp(min=0)
        expected = F.conv_transpose2d(
            decoded, weights["outermost.weight"], weights["outermost.bias"], stride=2, padding=1
        )

        assert latent.shape == (2, 6, 4, 4)
        torch.testing.assert_close(trained.generator(images), expected)

    @pytest.mark.parametrize("share", [0.0, 0.9])
    def test_score_and_map_are_those_of_the_formula(
        self, share: float, trained: SkipGanomalyModel, make_images: MakeImages
    ) -> None:
        trained.reconstruction_weight = share
        images = make_images(1, 3, True)
        fakes = trained.generator(images)
        features = [trained.discriminator(x)[1].detach().numpy().astype(float) for x in (images, fakes)]
        x, y = images.numpy().astype(float), fakes.detach().numpy().astype(float)

        with torch.no_grad():
            output = trained(images)

        for i in range(3):
            pixels = ((x[i] - y[i]) ** 2).mean(axis=0)
            latent = ((features[0][i] - features[1][i]) ** 2).mean()
            assert float(output.pred_score[i]) == pytest.approx(share * pixels.mean() + (1 - share) * latent, rel=1e-4)
            np.testing.assert_allclose(output.anomaly_map[i, 0].numpy(), pixels, rtol=1e-4, atol=1e-6)

    def test_the_features_are_what_the_classifier_judges(
        self, trained: SkipGanomalyModel, make_images: MakeImages
    ) -> None:
        logits, features = trained.discriminator(make_images(1, 2, True))
        judge = trained.discriminator.classifier
        activated = torch.where(features > 0, features, 0.2 * features)
        expected = torch.einsum("nchw,c->nhw", activated, judge.weight.flatten()).mean(dim=(1, 2)) + judge.bias
        torch.testing.assert_close(logits, expected)

    @pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 80), (50, 37), (16, 16)])
    def test_any_shape_is_reconstructed(self, height: int, width: int, trained: SkipGanomalyModel) -> None:
        images = torch.rand(2, 3, height, width)
        output = trained(images)
        assert output.pred_score.shape == (2,)
        assert output.anomaly_map.shape == (2, 1, height, width)
        assert trained.train()(images[:1]).shape == (1, 3, height, width)

    def test_padding_repeats_the_border(self, trained: SkipGanomalyModel) -> None:
        images = torch.rand(1, 3, 30, 27)
        padded = torch.from_numpy(np.pad(images.numpy(), ((0, 0), (0, 0), (0, 2), (0, 5)), mode="edge"))
        assert trained.generator(images).equal(trained.generator(padded)[..., :30, :27])

    def test_scores_do_not_depend_on_the_batch(self, trained: SkipGanomalyModel, make_images: MakeImages) -> None:
        images = make_images(1, 5, True)
        together = trained(images)
        for i in range(5):
            alone = trained(images[i : i + 1])
            torch.testing.assert_close(alone.pred_score[0], together.pred_score[i])
            torch.testing.assert_close(alone.anomaly_map[0], together.anomaly_map[i])

    def test_a_perfect_reconstruction_scores_zero(self) -> None:
        model = SkipGanomalyModel(depth=3, width=4).eval()
        images = torch.zeros(2, 3, 16, 16)
        model.generator.outermost.bias.data.zero_()
        model.generator.outermost.weight.data.zero_()
        assert model(images).pred_score.tolist() == [0, 0]

    def test_weights_are_drawn_as_dcgans(self) -> None:
        model = SkipGanomalyModel(depth=5, width=16)
        convolution = model.generator.encoder.blocks[3][0].weight.detach()
        scale = model.generator.encoder.blocks[3][1].weight.detach()
        assert float(convolution.std()) == pytest.approx(0.02, rel=0.02)
        assert abs(float(convolution.mean())) < 1e-3
        assert float(scale.mean()) == pytest.approx(1, abs=0.01)
        assert float(scale.std()) == pytest.approx(0.02, rel=0.3)

    def test_the_papers_network_ends_at_one_position(self) -> None:
        model = SkipGanomaly(width=4, pre_processor=SkipGanomaly.configure_pre_processor((256, 256)), **OFF)
        assert model.hparams["depth"] == 8
        *stages, latent = model.model.generator.encoder(torch.rand(1, 3, 256, 256))
        assert latent.shape == (1, 100, 1, 1)
        assert [stage.shape[1] for stage in stages] == [4, 8, 16, 32, 32, 32, 32]

    @pytest.mark.parametrize("arguments", [{"depth": 1}, {"depth": 3, "reconstruction_weight": 1.1}])
    def test_impossible_settings_are_refused(self, arguments: dict[str, object]) -> None:
        with pytest.raises(ConfigError, match="is not possible"):
            SkipGanomaly(**arguments)

    def test_without_an_image_size_a_depth_must_be_given(self) -> None:
        with pytest.raises(ConfigError, match="give depth"):
            SkipGanomaly(pre_processor=False)


class TestTraining:
    def test_the_updates_are_those_of_an_explicit_loop(self, make_images: MakeImages) -> None:
        batches = [make_images(seed, count, False) for seed, count in ((0, 4), (1, 4), (2, 1))]
        model = _module(learning_rate=1e-3, beta1=0.4)
        reference = deepcopy(model.model).train()
        g, d = reference.generator, reference.discriminator
        g_adam = torch.optim.Adam(g.parameters(), lr=1e-3, betas=(0.4, 0.999))
        d_adam = torch.optim.Adam(d.parameters(), lr=1e-3, betas=(0.4, 0.999))
        losses = []
        for images in batches:
            fake = g(images)
            real_logits, real_features = d(images)
            fake_logits, fake_features = d(fake)
            terms = [
                -torch.log(torch.sigmoid(fake_logits)).mean(),
                50 * (fake - images).abs().mean(),
                (fake_features - real_features).square().mean(),
            ]
            g_loss = sum(terms)
            for weight, gradient in zip(
                g.parameters(), torch.autograd.grad(g_loss, list(g.parameters()), retain_graph=True), strict=True
            ):
                weight.grad = gradient
            g_adam.step()
            d_loss = -torch.log(torch.sigmoid(real_logits)).mean()
            d_loss = d_loss - torch.log(1 - torch.sigmoid(d(fake.detach())[0])).mean()
            d_adam.zero_grad()
            d_loss.backward()
            d_adam.step()
            losses.append([float(value.detach()) for value in (g_loss + d_loss, g_loss, d_loss, *terms)])

        trainer = _fit(model, batches, epochs=1)

        for name, value in reference.state_dict().items():
            torch.testing.assert_close(model.model.state_dict()[name], value, rtol=1e-3, atol=1e-5, msg=name)
        expected = np.average(losses, axis=0, weights=[4, 4, 1])
        parts = ("", "_generator", "_discriminator", "_adversarial", "_contextual", "_latent")
        logged = [float(trainer.callback_metrics[f"train/loss{part}"]) for part in parts]
        np.testing.assert_allclose(logged, expected, rtol=1e-4)

    def test_equal_seeds_give_equal_models(self, make_images: MakeImages) -> None:
        batches = [make_images(0, 4, False)]
        states = []
        for seed in (3, 3, 4):
            torch.manual_seed(seed)
            model = _module()
            _fit(model, batches, epochs=2)
            states.append(model.model.eval()(make_images(1, 2, True)).pred_score)
        assert states[0].equal(states[1])
        assert not states[0].equal(states[2])

    def test_defects_are_found_and_located(self, make_images: MakeImages) -> None:
        model = SkipGanomaly(depth=5, width=8, pre_processor=False, **OFF)
        trainer = _fit(model, list(make_images(0, 32, False).split(4)), epochs=10)
        assert float(trainer.callback_metrics["train/loss_contextual"]) < 25  # near 40 before training

        model.eval()
        with torch.no_grad():
            good, damaged = (model.model(make_images(seed, 12, bad)) for seed, bad in ((5, False), (6, True)))
        labels = [0] * 12 + [1] * 12
        assert roc_auc_score(labels, torch.cat((good.pred_score, damaged.pred_score))) > 0.95
        # The damage lies within 8 pixels of the map's edge nowhere: what is highest must not lie there either.
        peaks = damaged.anomaly_map.flatten(1).argmax(dim=1)
        assert np.mean([8 <= peak // 64 < 56 and 8 <= peak % 64 < 56 for peak in peaks.tolist()]) > 0.8

    def test_a_fresh_model_with_the_same_state_scores_the_same(self, make_images: MakeImages) -> None:
        model = _module()
        _fit(model, [make_images(0, 4, False)], epochs=1)
        again = _module()
        again.load_state_dict(model.state_dict())
        images = make_images(1, 3, True)
        assert again.eval().model(images).pred_score.equal(model.eval().model(images).pred_score)


class TestAnomalib:
    def test_the_engine_fits_tests_predicts_and_exports(
        self, folder: Path, tmp_path: Path, make_images: MakeImages
    ) -> None:
        data = make_datamodule(folder, train_batch_size=5, eval_batch_size=3)
        model = SkipGanomaly(width=4, visualizer=False, pre_processor=SkipGanomaly.configure_pre_processor((64, 64)))
        arguments = {"accelerator": "cpu", "default_root_dir": tmp_path, "enable_progress_bar": False, "logger": False}
        engine = Engine(max_epochs=2, **arguments)
        engine.fit(model=model, datamodule=data)
        assert engine.trainer.current_epoch == 2

        (results,) = engine.test(model=model, datamodule=data)
        assert 0 <= results["image_AUROC"] <= 1
        assert 0 <= results["pixel_AUROC"] <= 1
        predictions = engine.predict(model=model, datamodule=data)
        assert sum(len(batch.pred_score) for batch in predictions) == 8

        images = make_images(1, 4, True)
        expected = model.cpu().eval().model(images).pred_score
        exported = engine.export(model=model, export_type=ExportType.TORCH, export_root=tmp_path)
        loaded = torch.load(exported, weights_only=False)["model"].eval()
        torch.testing.assert_close(loaded.model(images).pred_score, expected)

        engine.trainer.save_checkpoint(tmp_path / "model.ckpt")
        again = SkipGanomaly.load_from_checkpoint(tmp_path / "model.ckpt", map_location="cpu")
        assert again.eval().model(images).pred_score.equal(expected)

    def test_it_traces_as_the_exporters_need(self, trained: SkipGanomalyModel, make_images: MakeImages) -> None:
        dynamic = {0: torch.export.Dim("batch", min=1, max=16)}
        program = torch.export.export(trained, (make_images(1, 2, True),), dynamic_shapes=(dynamic,))
        more = make_images(2, 5, True)
        torch.testing.assert_close(program.module()(more).pred_score, trained(more).pred_score)


def test_the_yaml_holds_the_settings_of_table_9() -> None:
    config = compose(["method=skip_ganomaly", "dataset=mvtec_ad"])
    method = config.method
    assert config.preprocess.standardise
    assert (config.preprocess.size, method.epochs, method.learning_rate, method.beta1) == (256, 30, 2e-4, 0.5)
    assert (method.adversarial_weight, method.contextual_weight, method.latent_weight) == (1, 50, 1)
    assert (method.latent_size, method.width) == (100, 64)
    assert compose(["method=skip_ganomaly"]).method.width == 16
