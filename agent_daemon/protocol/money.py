"""Sums of money in words, the same wherever they are told."""

import math

_DUST_USD = 1e-6


def amount(usd: float) -> str:
    """A sum in USD with as many digits as it takes: ``12.30``, ``0.05``, ``0.0080``, ``0.000012``."""
    cents = round(usd, 2)
    if abs(usd) >= 1 or abs(usd - cents) < _DUST_USD:
        return f"{cents + 0.0:.2f}"  # (no -0.00)
    return f"{usd:.4f}" if abs(usd) >= 1e-4 else f"{usd:.6f}"


def rounded_up(usd: float) -> str:
    """The least sum in whole cents that is not less."""
    return f"{math.ceil((usd - _DUST_USD) * 100) / 100:.2f}"
