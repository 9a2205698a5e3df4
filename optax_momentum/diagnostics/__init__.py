"""What a momentum does: its memory and noise, its limits, and a live run's readings."""

from optax_momentum.diagnostics._quadratic import (
    convergence_rate,
    measured_convergence_rate,
    stability_limit,
)
from optax_momentum.diagnostics._response import (
    gain,
    half_life,
    impulse_response,
    noise_gain,
)
from optax_momentum.diagnostics._telemetry import TelemetryState, telemetry

__all__ = [
    "TelemetryState",
    "convergence_rate",
    "gain",
    "half_life",
    "impulse_response",
    "measured_convergence_rate",
    "noise_gain",
    "stability_limit",
    "telemetry",
]
