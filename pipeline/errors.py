"""The errors a user can meet; each message is one line that says what, where and what would do."""

MOST_SHOWN = 4000  # characters of a message


def visible(text: str, most: int | None = None) -> str:
    """`text` with what is not printable (line ends, control characters, marks of direction and of
    no width, lone surrogates) written as escapes; the middle goes where it is over `most`
    characters.

    Whatever shows a name, on a terminal, a page or a figure, shows it through this.
    """
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    if most is None or len(shown) <= most:
        return shown
    tail = (most - 1) // 2
    return f"{shown[: most - 1 - tail]}…{shown[-tail:]}"


def counted(count: int, noun: str) -> str:
    """ "1 image", "1,200 images": a number and what it counts, in the singular or plural."""
    plural = noun if count == 1 else f"{noun}es" if noun.endswith(("s", "x")) else f"{noun}s"
    return f"{count:,} {plural}"


class SelftrainError(Exception):
    """What a user can mend; shown as one line, without a traceback. All others here are kinds."""

    exit_code = 1

    def __str__(self) -> str:
        """The message on one line: what can't be printed, as in a file's name, is escaped."""
        return visible(super().__str__(), MOST_SHOWN)


class ParameterError(SelftrainError):
    """A value that is not allowed, in params.yaml or on the command line."""

    exit_code = 2


class SourceError(SelftrainError):
    """A data source that can't be read, or holds nothing usable."""


class DataError(SelftrainError):
    """A prepared folder, shard or manifest that is missing, cut or altered."""


class StorageError(SelftrainError):
    """Shared storage that does not answer, or refuses what is asked of it."""


class CheckpointError(SelftrainError):
    """A model file that can't be loaded."""


class ModelError(SelftrainError):
    """A network that can't be built as the parameters have it."""


class SelectionError(SelftrainError):
    """A selection that leaves nothing to train on."""


class RegressionError(SelftrainError):
    """A generation that is a step back, where guard.on_regression = stop."""


class TrainingError(SelftrainError):
    """Training that can't go on, as with a loss that is not finite."""


class MachineError(SelftrainError):
    """A disk, a limit or a folder of the machine that does not let a stage work."""


class BusyError(SelftrainError):
    """Another process is at work on the same stage."""


class ClusterError(SelftrainError):
    """A Ray cluster that can't be reached or used, or a job that failed there."""
