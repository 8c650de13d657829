"""The ``remediator completion`` command."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from remediator.cli import _output


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands in a shell.

    \b
    Examples:
      remediator completion bash > /etc/bash_completion.d/remediator
      remediator completion zsh > "${fpath[1]}/_remediator"
      remediator completion fish > ~/.config/fish/completions/remediator.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None, "click knows the three shells"
    _output.echo(kind(ctx.find_root().command, {}, "remediator", "_REMEDIATOR_COMPLETE").source())
