"""The command `selftrain`: few labels, many images, and what the unlabelled ones are worth."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version

COMMANDS = {
    "new": ("selftrain.new", "make a project: an empty folder with all that a run needs"),
    "init": ("selftrain.init", "look at your images and write params.yaml for them"),
    "status": ("selftrain.status", "what a run would do now, and how long it would take"),
    "run": ("selftrain.run", "run what is to be run; again after a stop, it goes on"),
    "report": ("selftrain.report", "the last run's table, and where its page is"),
    "ui": ("selftrain.ui", "every run, figure and model in MLflow"),
    "preview": ("selftrain.preview", "draw what augmentation does to your images"),
    "pick": ("selftrain.pick", "ask for labels of the images that are most worth one"),
    "answers": ("selftrain.answers", "take the answers of a labelling tool"),
    "predict": ("selftrain.predict", "classify images: one table"),
    "export": ("selftrain.export", "write the model as ONNX, or as a folder that MLflow serves"),
    "submit": ("cluster.submit", "run on a Ray cluster, the results here"),
    "gc": ("cluster.gc", "remove shards in storage that no commit names"),
}
HELP = ("-h", "--help", "help")


def main() -> int:
    """Run the command that the first argument names; the exit code, 2 for none of that name."""
    program, name, *rest = [*sys.argv, ""] if len(sys.argv) == 1 else sys.argv
    if name == "--version":
        print(f"selftrain {version('selftrain')}")
        return 0
    if name in COMMANDS:
        sys.argv = [program, *rest]
        code: int = import_module(COMMANDS[name][0]).main()
        return code
    if name and name not in HELP:
        near = get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        print(f"selftrain {name}: no such command; {hint}selftrain --help", file=sys.stderr)
        return 2
    print("selftrain COMMAND [--help]\n")
    for command, (_, meaning) in COMMANDS.items():
        print(f"  {command:<9} {meaning}")
    print("\nA project's folder is where they run; `selftrain new FOLDER` makes one.")
    return 0 if name else 2


if __name__ == "__main__":
    sys.exit(main())
