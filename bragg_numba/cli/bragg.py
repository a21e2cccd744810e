"""``bragg-numba``: saved experiments, series of frames, and everything around them."""

from __future__ import annotations

import importlib
import importlib.util
import sys

from bragg_numba.cli.console import REFUSED, Parser, UsageError, guarded, open_streams, printed

#: Sub-command -> its module, and what it does. A module has ``HELP`` (a line), ``add_arguments(parser)`` and
#: ``run(arguments) -> status``; it is imported when its sub-command is used.
COMMANDS: dict[str, tuple[str, str]] = {
    "render": ("bragg_numba.cli.render", "render a saved experiment to an HDF5 frame"),
    "series": ("bragg_numba.cli.series", "render many frames with several workers"),
    "export": ("bragg_numba.cli.export", "write frames in other formats"),
    "noise": ("bragg_numba.cli.noise", "turn photons into what a detector counts"),
    "background": ("bragg_numba.cli.background", "render what scatters beside the crystal, for nonBragg's flags"),
    "profile": ("bragg_numba.cli.profile", "make a table of F from a frame's background"),
    "refine": ("bragg_numba.cli.refine", "fit an experiment's parameters to a frame"),
    "view": ("bragg_numba.cli.view", "look at a frame"),
    "info": ("bragg_numba.cli.info", "say what a frame, a series or an experiment holds"),
    "trace": ("bragg_numba.cli.trace", "show every number on the way to one pixel"),
    "diverge": ("bragg_numba.cli.diverge", "find the first number in which two traces differ"),
    "parity": ("bragg_numba.cli.parity", "compare with the C program over many command lines"),
    "compile": ("bragg_numba.cli.compile", "compile the CPU's kernels now, so that no later run has to"),
    "bench": ("bragg_numba.cli.bench", "measure this machine's speed"),
    "cuda-report": ("bragg_numba.cli.cuda_report", "say what the CUDA kernels compile to"),
}


def commands() -> dict[str, tuple[str, str]]:
    """Return those of ``COMMANDS`` that this installation has."""
    return {name: entry for name, entry in COMMANDS.items() if importlib.util.find_spec(entry[0])}


def main(argv=None) -> int:
    """Run one sub-command.

    Parameters
    ----------
    argv
        Words without the program's name; None: those of this process.

    Returns
    -------
    int
        0 on success, 2 when the input was refused (one sentence on stderr), 130 when interrupted; a
        sub-command may have other statuses of its own.
    """
    words = [str(word) for word in (sys.argv[1:] if argv is None else argv)]
    return guarded(lambda: _run(words))


def entry() -> None:
    """Console script."""
    open_streams()
    sys.exit(printed(main(), REFUSED))


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(help_text(), end="")
        return 0 if words else 2
    if words[0] in ("-version", "--version"):
        from bragg_numba.versions import __version__

        print(f"bragg-numba {__version__}")
        return 0
    found = commands()
    if words[0] not in found:
        import difflib

        near = difflib.get_close_matches(words[0], found, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(found)}"
        raise UsageError(f"bragg-numba has no command {words[0][:80]!r} ({hint})")
    module = importlib.import_module(found[words[0]][0])
    parser = Parser(prog=f"bragg-numba {words[0]}", description=module.HELP)
    module.add_arguments(parser)
    try:
        arguments = parser.parse_args(words[1:])
    except SystemExit:  # argparse leaves this way after it has printed the help
        return 0
    return module.run(arguments)


def help_text() -> str:
    """The sub-commands, one line each."""
    lines = ["usage: bragg-numba COMMAND ...", "       bragg-numba COMMAND --help", "", "Commands:"]
    lines += [f"  {name:<12} {text}" for name, (_, text) in commands().items()]
    lines += ["", "nanobragg-numba takes nanoBragg's own flags; nb-compare compares the two programs."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    entry()
