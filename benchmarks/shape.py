"""Sizes of q and k, for every benchmark of the rotation alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """B batch, S tokens, N query and K key heads, H head_dim."""

    B: int
    S: int
    N: int
    K: int
    H: int

    def __str__(self) -> str:
        return f"B{self.B} S{self.S} N{self.N}/{self.K} H{self.H}"

    @property
    def elements(self) -> int:
        return self.B * self.S * (self.N + self.K) * self.H
