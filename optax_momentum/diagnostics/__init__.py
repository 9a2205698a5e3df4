"""Diagnostics of momentum: its memory, noise and stability, and live measurements.

impulse_response, gain, noise_gain, half_life    how past gradients act on updates
stability_limit, convergence_rate,
measured_convergence_rate                        behavior on a quadratic loss
telemetry                                        measurements of a run in progress
"""

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
