"""`mien completion`: a script that lets a shell complete commands, options and files."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}

# Most arguments are pictures, files or names. Where click knows no completion the shell should offer files.
_FILES_OTHERWISE = {
    "bash": ("complete -o nosort -F", "complete -o nosort -o bashdefault -o default -F"),
    "zsh": (
        '    if [ -n "$completions" ]; then\n',
        '    if [[ -z "$response" ]]; then\n        _path_files -f\n    fi\n\n    if [ -n "$completions" ]; then\n',
    ),
    "fish": ("complete --no-files --command", "complete --command"),
}


@click.command()
@click.argument("shell", type=click.Choice(list(SHELLS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that completes commands, options and files in a shell.

    \b
    bash:  mien completion bash > ~/.local/share/bash-completion/completions/mien
    zsh:   mien completion zsh > ~/.zfunc/_mien     (a folder of your fpath)
    fish:  mien completion fish > ~/.config/fish/completions/mien.fish
    """
    click.echo(script(ctx.find_root().command, shell), nl=False)


def script(cli: click.Command, shell: str) -> str:
    """Return the script of a shell for the command `mien`."""
    # Not its `source`, which starts a bash to look at its version.
    completer = SHELLS[shell](cli, {}, "mien", "_MIEN_COMPLETE")
    text = completer.source_template % completer.source_vars()
    stands, instead = _FILES_OTHERWISE[shell]
    return text.replace(stands, instead).lstrip("\n")
