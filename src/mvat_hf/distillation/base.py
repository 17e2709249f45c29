"""The seam where a distillation method plugs in.

A method is one class in one file of this folder: that file is all there is to write. `register` gives it its name, its
options are the arguments of its constructor, its parameters are trained, saved and resumed. A method of one's own
outside the package is registered just so, or handed to `DistillationTrainer` as it is.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from torch import Tensor, nn

from ..models.manner.configuration_manner import MannerConfig
from .activations import Activations, forward_options


class Stage(NamedTuple):
    """Factors of the loss in a part of a run: of the enhancement loss, and of the method's terms."""

    enhancement: float = 1.0
    distillation: float = 1.0


class DistillationMethod(nn.Module):
    """
    A term of the student's loss from the teacher: `forward` gives terms, and the trainer adds beta x their sum.

    reads: what it reads of the student and the teacher: "audio_values", "view_features", "hidden_states" (see
        `MannerOutput`), or names of modules, whose outputs are then read.
    teacher_reads: what it reads of the teacher, where that is something else; None: `reads`.
    needs_teacher: False for a method that has none.
    autocast: True for a method with networks that are to run in the precision of the run (bf16, fp16), as student and
        teacher do; else it computes in float32.
    """

    reads: tuple[str, ...] = ("audio_values",)
    teacher_reads: tuple[str, ...] | None = None
    needs_teacher = True
    autocast = False
    _built_with: Mapping[str, Any] = {}  # underscored: no part of a cache's key

    def forward(self, student: Activations, teacher: Activations, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """
        Args:
            student, teacher: what it reads of either, by name; of the teacher without gradient.
            inputs: the batch, "input_values" (the noisy audio) and "labels" (the clean), each (B, T).

        Returns:
            scalars by name: they are logged by it, and summed.
        """
        raise NotImplementedError

    def check(self, student: MannerConfig, teacher: MannerConfig) -> None:
        """Raise ValueError where the method cannot work between these two."""
        if student.sampling_rate != teacher.sampling_rate:
            raise ValueError(
                "teacher and student must share a sampling rate, "
                f"got {teacher.sampling_rate} and {student.sampling_rate} Hz"
            )

    def prepare(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Called once before training: parameters whose shapes depend on the two are made here."""

    def stage(self, progress: float) -> Stage:
        """The factors of the loss at `progress` (from 0 to 1) of the run. Where the method's is 0, it is not called."""
        return Stage()

    def teacher_input(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Input of the teacher (B, T)."""
        return inputs["input_values"]

    def last_level(self, student: MannerConfig, teacher: MannerConfig) -> int | None:
        """Decoder level that the teacher's pass may end at (see `MannerModel.forward`); None: it is needed whole."""
        return None

    def compact(self, teacher: Activations) -> Activations:
        """Less of the teacher's activations that gives the same terms: what a cache keeps, laid out as they are."""
        return teacher

    @property
    def built_with(self) -> Mapping[str, Any]:
        """The options that `build_method` was given for it."""
        return self._built_with

    @property
    def forward_options(self) -> dict[str, bool]:
        """Options of `MannerModel.forward` that record what the method reads of the student."""
        return forward_options(self.reads)

    @property
    def read_of_teacher(self) -> tuple[str, ...]:
        """The activations that are read from the teacher."""
        return self.reads if self.teacher_reads is None else self.teacher_reads


METHODS: dict[str, type[DistillationMethod] | None] = {"none": None}
Method = TypeVar("Method", bound=type[DistillationMethod])


def register(name: str) -> Callable[[Method], Method]:
    """Class decorator: the name of a method, for `build_method`, recipes and the command line.

    Raises:
        ValueError: another class has the name.
    """

    def named(method: Method) -> Method:
        known = METHODS.get(name)
        if name in METHODS and (known is None or known.__qualname__ != method.__qualname__):
            raise ValueError(f'the name "{name}" belongs to another distillation method: {known}')
        METHODS[name] = method
        return method

    return named


def build_method(name: str, **options: Any) -> DistillationMethod | None:
    """The method of a name in `METHODS`, `options` to its constructor; None for "none".

    Raises:
        ValueError: unknown name, an option that the method does not have, or none that it needs.
    """
    if name not in METHODS:
        raise ValueError(f'unknown distillation method "{name}", expected one of: {", ".join(METHODS)}')
    method = METHODS[name]
    known = options_of(method)
    anything = any(one.kind is one.VAR_KEYWORD for one in known)
    names = [one.name for one in known if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
    if not anything and (unknown := [option for option in options if option not in names]):
        raise ValueError(
            f'the distillation method "{name}" has no option {", ".join(unknown)}, '
            f"expected {', '.join(names) or 'none'}"
        )
    if missing := [
        one.name for one in known if one.name in names and one.default is one.empty and one.name not in options
    ]:
        raise ValueError(
            f'the distillation method "{name}" needs the option {", ".join(missing)}, got {options or "none"}'
        )
    if method is None:
        return None
    built = method(**options)
    built._built_with = options
    return built


def options_of(method: type[DistillationMethod] | None) -> list[inspect.Parameter]:
    """The arguments of a method's constructor."""
    if method is None or method.__init__ is nn.Module.__init__:
        return []
    return list(inspect.signature(method).parameters.values())


def choices(what: str, chosen: Any, known: tuple[str, ...]) -> tuple[str, ...]:
    """`chosen` (a name, names with commas between, or a list) as a tuple; ValueError where it is none of `known`."""
    names = tuple(part.strip() for part in chosen.split(",")) if isinstance(chosen, str) else tuple(chosen)
    if not names or not set(names) <= set(known):
        got = ", ".join(str(name) for name in names) or "none"
        raise ValueError(f"{what} must be one or more of {', '.join(known)}, got {got}")
    return names
