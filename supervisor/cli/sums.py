"""A sum of money on the command line."""

import math
from typing import Any

import click

from supervisor.core.commands import MAX_TOP_UP_USD


class _Sum(click.ParamType):  # type: ignore[type-arg]  # generic in the newest click only
    """More than 0 USD, and no more than anybody means."""

    name = "usd"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            usd = float(value)
        except ValueError:
            usd = math.nan
        if not 0 < usd <= MAX_TOP_UP_USD:
            self.fail(
                f"'{value}' is no sum: give US dollars, more than 0 and at most {MAX_TOP_UP_USD}, such as 2.50.",
                param,
                ctx,
            )
        return usd


class TakesSum(click.Command):
    """A command with a sum: one below zero is a wrong sum, and no option that nobody knows."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            wrong = next((word for word in given if word.startswith(error.option_name) and _is_number(word)), None)
            if wrong is not None:
                param = next(param for param in self.params if isinstance(param.type, _Sum))
                param.type.convert(wrong, param, ctx)
            raise


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


SUM = _Sum()
