"""`DistillationTrainer`: trains a student on L_SE and what a distillation method takes from a teacher."""

import copy
import inspect
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback, TrainingArguments

from ..distillation import DistillationMethod, Stage, build_method
from ..distillation.activations import activations, forward_options, module_of, recording
from ..models.manner import MannerModel, MannerOutput
from ..utils.files import replaced_at_end
from .arguments import DistillationConfig, as_config
from .checks import check_method, check_terms
from .items import unwrapped
from .teacher_cache import TargetCache
from .trainer import EnhancementTrainer

METHOD_FILE = "method.safetensors"  # in a checkpoint: parameters and buffers of the method, if it has any


class DistillationTrainer(EnhancementTrainer):
    """
    Trains a student on enhancement_weight x L_SE + beta x the sum of the method's terms, with a frozen teacher.

    A `MannerModel` as the teacher computes no more than the method reads; on a CPU, on folded weights
    (`MannerModel.fuse`). Parameters of the method are trained with the student's, at the learning rate of the
    arguments, or with the last group of an optimizer that is given; they are saved in the checkpoints and resumed.

    Args:
        model: the student.
        teacher: any module that takes noisy audio (B, T), or a folder or Hub id of a `MannerModel`; that of `args` by
            default. It is frozen in place, and never saved or optimised; what `torch.compile` or `DataParallel` wrapped
            is run without. A method that needs none is given none.
        args: `DistillationConfig`, its defaults by default. Other `TrainingArguments` are taken over into one.
        method: what to transfer (see `mvat_hf.distillation`); by default what `args` name. A `beta` of 0 is plain
            training to the bit. With `model_init`, every run begins with a copy that has learnt nothing.
        kwargs: see `EnhancementTrainer`.

    Raises:
        ValueError: the method cannot work between this teacher and student.
    """

    args: DistillationConfig
    config_class = DistillationConfig

    def __init__(
        self,
        model: MannerModel | None = None,
        teacher: nn.Module | str | Path | None = None,
        args: TrainingArguments | None = None,
        method: DistillationMethod | None = None,
        **kwargs,
    ):
        args = as_config(args, DistillationConfig)
        options: Any = args.method_kwargs
        if method is not None:
            check_method(method, options)
        self.given = copy.deepcopy(method)  # as it is before it has learnt anything
        built = build_method(args.method, **options) if method is None else method
        self.method = built if args.beta > 0 else None
        self.taught_by: Any = args.teacher_model_name_or_path if teacher is None else teacher
        if self.method is not None and self.method.needs_teacher:
            self.find_teacher()
        self.teacher: nn.Module | None = None
        self.placed: nn.Module | None = None  # the teacher, where it is run
        self.teacher_options: dict[str, Any] = {}
        self.cache: TargetCache | None = None
        self.seen: dict[str, Tensor] = {}  # of the student's modules that the method reads, in this pass
        super().__init__(model=model, args=args, **kwargs)
        self.begin(self.model)
        self.add_callback(MethodGradientCallback(self))

    def find_teacher(self) -> Any:
        """The network that teaches, loaded if a name was given; None if nothing was."""
        if isinstance(self.taught_by, (str, Path)):
            self.taught_by = MannerModel.from_pretrained(self.taught_by)
        if self.taught_by is not None and not isinstance(self.taught_by, nn.Module):
            kind = type(self.taught_by).__name__
            raise ValueError(
                f"teacher must be a module, a folder or a Hub id, got an object of class {kind}; of an exported model, "
                "give the checkpoint"
            )
        return unwrapped(self.taught_by)

    def _hp_search_setup(self, trial: Any) -> None:
        """As of `EnhancementTrainer`; where the model was made anew the method is too, as the arguments now say."""
        fixed = ["teacher_model_name_or_path", *(["method", "method_kwargs"] if self.given is not None else [])]
        before = {name: getattr(self.args, name) for name in fixed}
        super()._hp_search_setup(trial)
        if moved := [name for name, value in before.items() if getattr(self.args, name) != value]:
            raise ValueError(
                f"a trial set {', '.join(moved)}, expected the teacher to stay, and a method that trials change to be "
                "named by DistillationConfig"
            )
        if self.model_init is not None:
            self.method, options = None, cast(dict[str, Any], self.args.method_kwargs)
            if self.args.beta > 0:
                given = self.given
                self.method = build_method(self.args.method, **options) if given is None else copy.deepcopy(given)
            self.begin(self.model)

    def begin(self, student: Any) -> None:
        """Make the method, which has learnt nothing yet, and the teacher ready for a student."""
        method, network = self.method, unwrapped(student)
        self.teacher, self.teacher_options, self.cache = None, {}, None
        if method is None:
            return
        taught_by = self.find_teacher() if method.needs_teacher else None
        if taught_by is network:
            raise ValueError("the teacher is the student, and a teacher is frozen in place: expected another model")
        if taught_by is not None:
            self.teacher = taught_by.requires_grad_(False).eval()
        check(method, network, taught_by)
        if method.needs_teacher:
            self.prepare_teacher(network)
        method.prepare(network, taught_by)
        method.to(self.args.device)
        if self.args.world_size > 1:
            for value in method.state_dict().values():
                torch.distributed.broadcast(value, 0)

    def prepare_teacher(self, student: MannerModel) -> None:
        """Put the teacher where it is run, with the options that record what is read of it, and its cache."""
        method, teacher = self.method, self.teacher
        assert method is not None and teacher is not None
        if isinstance(teacher, MannerModel):
            self.teacher_options |= forward_options(method.read_of_teacher)
            self.teacher_options["last_level"] = method.last_level(student.config, teacher.config)
        if self.args.teacher_cache is not None:
            how = {**self.teacher_options, "bf16": self.args.bf16, "fp16": self.args.fp16}
            self.cache = TargetCache(self.args.teacher_cache, teacher, method, **how)
        if self.placed is None:
            if isinstance(teacher, MannerModel) and self.args.device.type == "cpu":
                teacher.fuse(torch.bfloat16 if self.args.bf16 else None)
            self.placed = self.accelerator.prepare_model(teacher, evaluation_mode=True)
        self.teacher = self.placed

    def run_facts(self) -> dict[str, Any]:
        """As in `EnhancementTrainer`, with the teacher and the method."""
        name = getattr(self.teacher, "name_or_path", "") or f"a {type(self.teacher).__name__} without a name"
        method = "none" if self.method is None else type(self.method).__name__
        options = f", {self.method.built_with}" if self.method is not None and self.method.built_with else ""
        facts = {
            "teacher": None if self.teacher is None else name,
            "method": f"{method}, beta {self.args.beta}{options}",
        }
        return {**super().run_facts(), **facts}

    @property
    def stage(self) -> Stage:
        """The factors of the loss at this step."""
        steps = self.state.max_steps
        progress = min(self.state.global_step / steps, 1.0) if steps > 0 else 0.0
        return Stage() if self.method is None else self.method.stage(progress)

    @property
    def teaches(self) -> bool:
        """Whether this step's loss has anything of the method."""
        return self.method is not None and self.stage.distillation > 0

    def compute_loss(self, model: nn.Module, inputs: dict, return_outputs: bool = False, num_items_in_batch=None):
        if self.method is None or not self.teaches:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        with recording(self.network, self.method.reads) as self.seen:
            asked = {**inputs, **self.method.forward_options}
            return super().compute_loss(model, asked, return_outputs, num_items_in_batch)

    def total_loss(self, inputs: dict, outputs: MannerOutput) -> Tensor:
        if self.method is None and self.args.enhancement_weight == 1:
            return super().total_loss(inputs, outputs)
        enhancement, terms = self.enhancement_loss(inputs, outputs)
        terms["enhancement"] = enhancement
        stage = self.stage
        loss = self.args.enhancement_weight * stage.enhancement * enhancement
        if self.method is not None and self.teaches:
            taken = self.distil(self.method, inputs, outputs)
            check_terms(self.method, taken, terms)
            distance = torch.stack(list(taken.values())).sum()
            terms |= {**taken, "distillation": distance}
            loss = loss + self.args.beta * stage.distillation * distance
        self.note_terms(terms)
        return loss

    def distil(self, method: DistillationMethod, inputs: Mapping[str, Any], outputs: MannerOutput) -> dict[str, Tensor]:
        """The method's terms for a batch and what the student made of it."""
        batch = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
        taught: Mapping[str, Any] = {}
        if method.needs_teacher:
            audio = method.teacher_input(batch)
            taught = self.teach(audio) if self.cache is None else self.cache(audio, self.teach)
        student: Any = self.model
        with self.accelerator.autocast() if method.autocast else nullcontext():
            return method(activations(student, outputs, method.reads, self.seen), taught, batch)

    @torch.no_grad()
    def teach(self, audio: Tensor) -> dict[str, Any]:
        """The activations of the teacher's pass over `audio` (B, T) that the method reads."""
        method, teacher = self.method, self.teacher
        assert method is not None and teacher is not None
        inner = unwrapped(self.accelerator.unwrap_model(teacher))
        with recording(inner, method.read_of_teacher) as seen:
            return activations(inner, teacher(audio, **self.teacher_options), method.read_of_teacher, seen)

    def create_optimizer(self, model=None):
        """As in `EnhancementTrainer`, with the method's parameters beside the student's."""
        fresh = self.optimizer is None
        optimizer = super().create_optimizer(model)
        known = {id(one) for group in optimizer.param_groups for one in group["params"]}
        own = [] if self.method is None else self.method.parameters()
        missing = [one for one in own if one.requires_grad and id(one) not in known]
        if missing and fresh:
            group = {"params": missing, "lr": self.args.learning_rate, "weight_decay": self.args.weight_decay}
            optimizer.add_param_group(group)
        elif missing:  # a scheduler that was given knows the groups there are
            optimizer.param_groups[-1]["params"].extend(missing)
        return optimizer

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """As in transformers, and what the method has learnt."""
        if self.args.should_save and self.method is not None and (state := self.method.state_dict()):
            with replaced_at_end(Path(output_dir) / METHOD_FILE) as partial:
                save_file({name: value.cpu().contiguous().clone() for name, value in state.items()}, partial)
        super()._save_optimizer_and_scheduler(output_dir)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """As in transformers, and what the method had learnt."""
        if checkpoint is not None and self.method is not None and self.method.state_dict():
            path = Path(checkpoint) / METHOD_FILE
            if not path.is_file():
                raise ValueError(
                    f"{checkpoint} holds no {METHOD_FILE}, expected what {type(self.method).__name__} has learnt: the "
                    "run had another method, or save_only_model, which leaves it out"
                )
            self.method.load_state_dict(load_file(path, device=str(self.args.device)))
        super()._load_optimizer_and_scheduler(checkpoint)


class MethodGradientCallback(TrainerCallback):
    """Gradients of the method's parameters: before a step the same in all processes and clipped as the student's are,
    after it gone. Trainer and DistributedDataParallel look after the student's alone."""

    def __init__(self, trainer: DistillationTrainer):
        self.trainer = trainer  # the method is another one where the model is made anew

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        parameters = [] if self.trainer.method is None else list(self.trainer.method.parameters())
        if args.world_size > 1:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad = self.trainer.accelerator.reduce(parameter.grad, "mean")
        if args.max_grad_norm:
            nn.utils.clip_grad_norm_(parameters, args.max_grad_norm)

    def on_optimizer_step(self, args, state, control, **kwargs):
        if self.trainer.method is not None:
            self.trainer.method.zero_grad()


def check(method: DistillationMethod, student: MannerModel, teacher: nn.Module | None) -> None:
    """Raise ValueError where the method cannot work between these two."""
    for model, names in ((student, method.reads), (teacher, method.read_of_teacher)):
        if model is None:
            continue
        taken = inspect.signature(model.forward).parameters
        for name in names:
            option = forward_options([name])
            if option and not set(option) <= set(taken):
                raise ValueError(
                    f'{type(method).__name__} reads "{name}", which {type(model).__name__} does not give: expected a '
                    "MannerModel, or a method that reads audio_values or modules by their names"
                )
            if not option and name != "audio_values":
                module_of(model, name)
    if not method.needs_teacher:
        return
    if teacher is None:
        raise ValueError(f"{type(method).__name__} needs a teacher, got none: expected a module, a folder or a Hub id")
    if isinstance(teacher, MannerModel):
        method.check(student.config, teacher.config)


__all__ = ["DistillationTrainer"]
