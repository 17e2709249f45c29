"""The protocol of a model that enhances, and loading one: an object, a Hub id, a folder or an exported file."""

import logging
import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ..acceleration.choice import check_runtime
from ..acceleration.runtime import OnnxManner
from .runtimes import load_checkpoint, load_exported

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
            put when it is exported. "auto" is `acceleration.choice.choose_runtime`; it is PyTorch for another device or
            a `dtype`, and where the others fail. It leaves a model that is given as it is.
        precision: "exact" to 1e-4 of the output's peak; "fast" lets OpenVINO compute in bfloat16 on CPUs that have it.
        seconds: length of the audio, if it is known: "auto" takes OpenVINO for long audio.
        dtype, revision, token: see transformers' `from_pretrained`; the last two are for a Hub id.

    Raises:
        ValueError: `model` is no model, or cannot take an option. OSError: there is no such model.
    """
    if isinstance(dtype, str):
        dtype = parse_dtype(dtype)
    check_runtime(runtime)
    path = Path(model) if isinstance(model, (str, Path)) else None
    exported = isinstance(model, OnnxManner) or (path is not None and path.suffix == ".onnx")
    if (revision is not None or token is not None) and (exported or path is None or path.exists()):
        raise ValueError(f"revision and token are for a Hub id, got {path or type(model).__name__}")
    if exported:
        what = path or "an exported model"
        if str(device or "cpu").partition(":")[0] != "cpu":
            raise ValueError(f"{what} runs on the CPU, got device {device}")
        if dtype is not None:
            raise ValueError(f"{what} computes as it was exported, got dtype {dtype}")
        return model if isinstance(model, OnnxManner) else load_exported(str(model), runtime, precision)
    on_cpu = str(device or "cpu") == "cpu"
    if runtime not in ("auto", "torch") and not (on_cpu and dtype is None):
        raise ValueError(f"runtime {runtime} runs on the CPU in float32, got device {device}, dtype {dtype}")
    loaded: Any = model
    if isinstance(model, (str, Path)):
        if fault := name_fault(model):
            raise ValueError(f"model {str(model)!r} {fault}" if model == "" else f"{model} {fault}")
        named = {"dtype": dtype, "revision": revision, "token": token}
        options: dict[str, Any] = {key: value for key, value in named.items() if value is not None}
        by_graph = runtime != "torch" and on_cpu and dtype is None
        chosen = load_checkpoint(model, runtime, precision, seconds, options) if by_graph else None
        if chosen is not None:
            return chosen
        from ..models.manner import MannerModel

        logger.info(f"{model}: PyTorch")
        loaded = MannerModel.from_pretrained(model, **options)
    elif not isinstance(model, Enhancer):
        raise ValueError(f"model must be a model, a Hub id, a folder or a .onnx file, got {type(model).__name__}")
    elif runtime not in ("auto", "torch"):
        from ..acceleration.export import onnx_graph

        return OnnxManner(onnx_graph(loaded), runtime, precision)
    elif dtype not in (None, "auto"):  # that is what it has
        loaded = loaded.to(dtype)
    try:
        return loaded if device is None else loaded.to(device)
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
