"""``cfcam audit``: its commands."""

from __future__ import annotations

import typer

from . import authenticate, compare, keygen, profile, run, sign

__all__ = ["app"]

app = typer.Typer(
    help="Which explanations to trust: findings about every photo, within a budget.", no_args_is_help=True
)
app.command("run")(run.run)
app.command("authenticate")(authenticate.authenticate)
app.command("compare")(compare.compare)
app.command("profile")(profile.profile)
app.command("sign")(sign.sign)
app.command("keygen")(keygen.keygen)
