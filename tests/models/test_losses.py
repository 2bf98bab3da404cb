"""The losses against their formulas."""

import pytest
import torch

from harness.errors import ConfigError
from harness.models.radl.loss import HCELoss
from harness.models.simplenet.loss import TruncatedL1Loss


@pytest.mark.parametrize("tau", [1.0, 0.5, 0.25, 0.1])
def test_hce_is_equations_5_to_7(tau: float) -> None:
    real, fake = torch.empty(200, 1, dtype=torch.float64), torch.empty(300, 1, dtype=torch.float64)
    for logits in (real, fake):
        logits.uniform_(-1, 1)  # where 1 − σ(f/τ) has digits left in float64
    f_real, f_fake = torch.sigmoid(real / tau), torch.sigmoid(fake / tau)
    y_real, y_fake = 1, 0
    expected_real = -(y_real * f_real.log() + (1 - y_real) * (1 - f_real).log()).mean()
    expected_fake = -(y_fake * f_fake.log() + (1 - y_fake) * (1 - f_fake).log()).mean()

    parts = HCELoss(tau)(real, fake)

    torch.testing.assert_close(parts.real, expected_real)
    torch.testing.assert_close(parts.fake, expected_fake)
    torch.testing.assert_close(parts.total, expected_real + expected_fake)


@pytest.mark.parametrize("logit", [1e4, -1e4])
def test_hce_is_finite_with_finite_gradients_at_extreme_logits(logit: float) -> None:
    real, fake = torch.full((4,), logit, requires_grad=True), torch.full((4,), logit, requires_grad=True)
    parts = HCELoss(0.5)(real, fake)
    parts.total.backward()

    assert torch.isfinite(parts.total)
    assert torch.isfinite(real.grad).all()
    assert torch.isfinite(fake.grad).all()
    torch.testing.assert_close(parts.total, torch.tensor(2e4))  # one side right: 0, the other wrong: |f|/τ


def test_hce_weighs_hard_patches_more_as_tau_falls() -> None:
    """The gradient of a misjudged patch over that of a well judged one grows: "hardness-aware"."""

    def ratio(tau: float) -> float:
        real = torch.tensor([-1.0, 1.0], requires_grad=True)
        HCELoss(tau)(real, torch.zeros(1)).total.backward()
        return float(real.grad[0] / real.grad[1])

    assert ratio(0.25) > ratio(0.5) > ratio(1.0) > 1


def test_truncated_l1_is_the_released_formula() -> None:
    real, fake, th = torch.randn(100, 1), torch.randn(100, 1), 0.5
    true_loss = torch.clip(-real + th, min=0)
    fake_loss = torch.clip(fake + th, min=0)

    parts = TruncatedL1Loss(th)(real, fake)

    torch.testing.assert_close(parts.total, true_loss.mean() + fake_loss.mean())
    torch.testing.assert_close(parts.real, true_loss.mean())


def test_a_temperature_is_positive() -> None:
    with pytest.raises(ConfigError, match="tau=0"):
        HCELoss(0)
