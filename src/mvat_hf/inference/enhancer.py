"""The protocol of a model that enhances, and loading one: an object, a Hub id, a folder or an exported file."""

import logging
import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ..acceleration.runtime import OnnxManner
from ..acceleration.runtime_choice import check_runtime
from .exported_checkpoints import load_checkpoint, load_exported

if TYPE_CHECKING:
    import torch

    from ..models.manner import MannerOutput

KEPT_MODELS = 4  # of Hub ids in a process, the least recently used goes first
LOADING = threading.Lock()

logger = logging.getLogger(__name__)


@runtime_checkable
class Enhancer(Protocol):
    """What a model must have to enhance; `MannerModel` and the exported `OnnxManner` have it.

    It may have more. If it has a method `enhance_rows`, from float32 arrays (B, T) to the same, that is called in place
    of the model, without tensors: so `OnnxManner` needs no torch.
    """

    @property
    def config(self) -> Any:
        """With `sampling_rate` in Hz."""
        ...

    @property
    def device(self) -> "torch.device": ...

    @property
    def dtype(self) -> "torch.dtype": ...

    def __call__(self, input_values: "torch.Tensor") -> "MannerOutput":
        """Noisy audio (B, T) to `audio_values` (B, T)."""
        ...

    def eval(self) -> Any:
        """The model in evaluation mode."""
        ...


def load_model(
    model: Enhancer | str | Path,
    device: "str | torch.device | None" = None,
    runtime: str = "auto",
    *,
    precision: str = "exact",
    seconds: float | None = None,
    dtype: "str | torch.dtype | None" = None,
    revision: str | None = None,
    token: str | bool | None = None,
) -> Enhancer:
    """
    The model itself, or the one in a Hub id, a folder or a .onnx file.

    Args:
        device: where it is moved; None leaves it.
        runtime: "torch" for a `MannerModel`; "onnx" (ONNX Runtime) or "openvino" for an `OnnxManner` on the CPU.
            That needs no torch if the graph is beside the weights, in the package or in the user's cache, where one is
            put when it is exported. "auto" is `acceleration.runtime_choice.choose_runtime`; it is PyTorch for another
            device or a `dtype`, and where the others fail. It leaves a model that is given as it is.
        precision: "exact" to 1e-4 of the output's peak; "fast" lets OpenVINO compute in bfloat16 on CPUs that have it.
        seconds: length of the audio, if it is known: "auto" takes OpenVINO for long audio.
        dtype, revision, token: see transformers' `from_pretrained`; the last two are for a Hub id.

    Raises:
        ValueError: `model` is no model, or cannot take an option. OSError: there is no such model.
    """
    check_runtime(runtime)
    dtype = parse_dtype(dtype) if isinstance(dtype, str) else dtype
    check_options(model, device, runtime, dtype, revision, token)
    if is_exported(model):
        return model if isinstance(model, OnnxManner) else load_exported(str(model), runtime, precision)
    if isinstance(model, (str, Path)):
        named = {"dtype": dtype, "revision": revision, "token": token}
        options = {key: value for key, value in named.items() if value is not None}
        return load_named(model, device, runtime, precision, seconds, options)
    loaded: Any = model
    if runtime not in ("auto", "torch"):
        from ..acceleration.export import onnx_graph

        return OnnxManner(onnx_graph(loaded), runtime, precision)
    return on_device(loaded if dtype in (None, "auto") else loaded.to(dtype), device)


def check_options(
    model: Any,
    device: "str | torch.device | None",
    runtime: str,
    dtype: "str | torch.dtype | None",
    revision: str | None,
    token: str | bool | None,
) -> None:
    """ValueError if `model` is none, or cannot take one of the options."""
    named, exported = isinstance(model, (str, Path)), is_exported(model)
    what = model if named else type(model).__name__
    if (revision is not None or token is not None) and (exported or not named or Path(model).exists()):
        raise ValueError(f"revision and token are for a Hub id, got {what}")
    if exported:
        if str(device or "cpu").partition(":")[0] != "cpu":
            raise ValueError(f"{what} runs on the CPU, got device {device}")
        if dtype is not None:
            raise ValueError(f"{what} computes as it was exported, got dtype {dtype}")
        return
    if runtime not in ("auto", "torch") and not takes_graph(device, dtype):
        raise ValueError(f"runtime {runtime} runs on the CPU in float32, got device {device}, dtype {dtype}")
    if named and (fault := name_fault(model)):
        raise ValueError(f"model {str(model)!r} {fault}" if model == "" else f"{model} {fault}")
    if not named and not isinstance(model, Enhancer):
        raise ValueError(f"model must be a model, a Hub id, a folder or a .onnx file, got {what}")


def is_exported(model: Any) -> bool:
    """Whether it is an exported model, or a file of one."""
    return isinstance(model, OnnxManner) or (isinstance(model, (str, Path)) and Path(model).suffix == ".onnx")


def takes_graph(device: "str | torch.device | None", dtype: "str | torch.dtype | None") -> bool:
    """Whether another runtime than PyTorch can give what is asked for."""
    return str(device or "cpu") == "cpu" and dtype is None


def load_named(
    model: str | Path,
    device: "str | torch.device | None",
    runtime: str,
    precision: str,
    seconds: float | None,
    options: dict[str, Any],
) -> Enhancer:
    """The model of a folder or a Hub id: its graph in the runtime that is chosen, or a `MannerModel` on `device`."""
    if runtime != "torch" and takes_graph(device, options.get("dtype")):
        chosen = load_checkpoint(model, runtime, precision, seconds, options)
        if chosen is not None:
            return chosen
    from ..models.manner import MannerModel

    logger.info(f"{model}: PyTorch")
    return on_device(MannerModel.from_pretrained(model, **options), device)


def on_device(model: Any, device: "str | torch.device | None") -> Enhancer:
    """The model where it is asked for; ValueError where it cannot be."""
    try:
        return model if device is None else model.to(device)
    except (RuntimeError, AssertionError) as error:  # torch has no one error for a device that is not there
        raise ValueError(f"device {device} cannot be used: {error}") from error


def parse_dtype(name: str) -> "torch.dtype | str":
    """The type of that name, "auto" as it is; ValueError where torch has none."""
    import torch

    dtype = name if name == "auto" else getattr(torch, name, None)
    if not isinstance(dtype, (str, torch.dtype)):
        raise ValueError(f"dtype must be one of torch's, such as bfloat16, got {name}")
    return dtype


def model_to_use(model: Enhancer | str | Path, device: "str | torch.device | None" = None, **options) -> Enhancer:
    """`load_model` for one use: a Hub id is loaded once in a process, for each revision, device and dtype."""
    if isinstance(model, str) and "/" in model and not Path(model).exists() and not model.endswith(".onnx"):
        with LOADING:
            return load_once(model, None if device is None else str(device), **options)
    return load_model(model, device, **options)


@lru_cache(KEPT_MODELS)
def load_once(model: str, device: str | None, **options) -> Enhancer:
    return load_model(model, device, **options)


def is_preset(name: str) -> bool:
    from ..models.manner import PRESETS  # takes transformers

    return name in PRESETS


def name_fault(model: str | Path) -> str | None:
    """Why a name cannot be that of a model, for likely slips; None for others."""
    if model == "":
        return "is an empty string, expected a folder or a Hub id, such as mvat/manner-s-8.1gf"
    if "/" not in str(model) and not Path(model).exists() and is_preset(str(model)):
        return "is a preset, which has no weights: expected a folder or a Hub id, such as mvat/manner-s-8.1gf"
    if not Path(model).is_file():
        return None
    upstream = Path(model).suffix in (".pth", ".pt", ".th")
    return "is a file, expected a " + ("folder as `mvat convert` makes of it" if upstream else "checkpoint folder")
