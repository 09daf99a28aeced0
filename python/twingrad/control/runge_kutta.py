"""Explicit Runge-Kutta methods as data, and the one stepper that serves them all.

The same file on the Julia side is `julia/src/control/runge_kutta.jl`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Tableau:
    """Coefficients of an explicit method with s stages: `A` (s, s) strictly lower triangular, `w` (s,) all nonzero."""

    A: tuple[tuple[float, ...], ...]
    w: tuple[float, ...]

    @property
    def adjoint(self) -> tuple[tuple[float, ...], ...]:
        """Ã (s, s), ã_ij = w_j a_ji / w_i: the symplectic partner, strictly upper triangular.

        Written for a step backwards from p_{k+1}, which makes it explicit. Source: Benning et al. 2019, after
        Hager, Numer. Math. 87, 2000, and Sanz-Serna, SIAM Review 58(1), 2016.
        """
        stages = range(len(self.w))
        return tuple(tuple(self.w[j] * self.A[j][i] / self.w[i] for j in stages) for i in stages)


TABLEAUS: dict[str, Tableau] = {
    "euler": Tableau(A=((0.0,),), w=(1.0,)),
    "improved-euler": Tableau(A=((0.0, 0.0), (1.0, 0.0)), w=(1 / 2, 1 / 2)),
    "kutta3": Tableau(
        A=((0.0, 0.0, 0.0), (1 / 2, 0.0, 0.0), (-1.0, 2.0, 0.0)),
        w=(1 / 6, 2 / 3, 1 / 6),
    ),
    "kutta4": Tableau(
        A=((0.0, 0.0, 0.0, 0.0), (1 / 2, 0.0, 0.0, 0.0), (0.0, 1 / 2, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0)),
        w=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
    ),
}


def combine(coefficients: Sequence[float], terms: Sequence[Tensor]) -> Tensor | float:
    """Σ_j coefficients[j] terms[j] over the terms with a nonzero coefficient; 0.0 where there is none."""
    return sum((c * term for c, term in zip(coefficients, terms, strict=False) if c != 0.0), 0.0)


def step(tableau: Tableau, f: Callable[[Tensor], Tensor], y: Tensor, dt: Tensor, alpha: float) -> Tensor:
    """One step: α y + Δt Σ_i w_i f(Y_i) with Y_i = y + Δt Σ_j a_ij f(Y_j).

    Args:
        tableau: the method.
        f: right-hand side; the control is constant within a step.
        y: state, any shape.
        dt: time step, a scalar.
        alpha: 1 for a residual network, 0 for a plain one.
    """
    stages: list[Tensor] = []
    for row in tableau.A:
        stages.append(f(y + dt * combine(row, stages)))
    return alpha * y + dt * combine(tableau.w, stages)
