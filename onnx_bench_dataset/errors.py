"""Errors that a user can cause: each says what was wrong, where, and what to do."""


class OnnxBenchError(Exception):
    """Base of every error that onnx-bench raises for something a user can cause or mend."""


class ArchitectureError(OnnxBenchError):
    """An architecture string is not in its search space."""

    def __init__(self, space: str, architecture: str, position: int, rule: str) -> None:
        """Point at the character of `architecture` (0-based `position`) that breaks `rule`."""
        shown = architecture if len(architecture) <= 300 else architecture[:300] + "…"
        where = f"\n  {shown}\n  {' ' * position}^" if position <= 300 else f"\n  {shown}"
        super().__init__(f"not an architecture of {space}: character {position + 1}: {rule}{where}")
        self.space = space
        self.architecture = architecture
        self.position = position
        self.rule = rule

    def __reduce__(self) -> tuple[type, tuple[str, str, int, str]]:
        """Let the error cross a process boundary whole."""
        return type(self), (self.space, self.architecture, self.position, self.rule)


class ShapeError(OnnxBenchError):
    """A network cannot be made at the input shape or number of classes asked for."""


class UnsupportedModelError(OnnxBenchError):
    """A model is broken, or uses a part of ONNX that the operation asked for does not cover."""


class TextError(OnnxBenchError):
    """A text does not describe a network."""

    def __init__(self, line: int, column: int, rule: str, shown: str = "") -> None:
        """Point at a line and column, both from 1, where `rule` is broken; `shown` is that line."""
        place = f"line {line}, column {column}: {rule}"
        if 0 < column <= 200:
            shown = shown if len(shown) <= 300 else shown[:300] + "…"
            place += f"\n  {shown}\n  {' ' * (column - 1)}^"
        super().__init__(place)
        self.line = line
        self.column = column
        self.rule = rule
        self.shown = shown

    def __reduce__(self) -> tuple[type, tuple[int, int, str, str]]:
        """Let the error cross a process boundary whole."""
        return type(self), (self.line, self.column, self.rule, self.shown)


class UnknownNameError(OnnxBenchError):
    """A space, config, split or source of that name does not exist."""


class SourceError(OnnxBenchError):
    """A published benchmark file is missing, truncated, altered or not what its name says."""


class BuildError(OnnxBenchError):
    """A dataset folder cannot be written, resumed or replaced."""


class LoadError(OnnxBenchError):
    """A dataset cannot be found or read."""


class UploadError(OnnxBenchError):
    """A dataset folder cannot be published, or what is published is something else."""


class DesignError(OnnxBenchError):
    """Architectures cannot be designed as asked: experts are missing or wrong, or too many are wanted."""


class PredictorError(OnnxBenchError):
    """A predictor cannot learn from what it is given, or its file is not one of this version."""
