"""Run records (`results.json`): what was measured, on what, by which code and machine; never written by hand."""

import hashlib
import json
import platform
import subprocess
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cores import cpu_field, usable_cores
from .files import replaced_at_end

if TYPE_CHECKING:
    from torch import nn

PACKAGES = (
    "mvat_hf", "torch", "transformers", "datasets", "accelerate", "numpy", "av", "soundfile", "soxr", "pesq", "pystoi",
    "onnxruntime", "openvino",
)  # fmt: skip


def environment() -> dict[str, Any]:
    """Commit, package versions and machine of this process; without torch not all of the machine is known."""
    instructions, accelerators = "unknown", []
    if find_spec("torch") is not None:
        import torch

        instructions = torch.backends.cpu.get_cpu_capability()
        accelerators = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "commit": current_commit(),
        "versions": {"python": platform.python_version(), **package_versions()},
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": processor_name(),
            "instructions": instructions,
            "cores": usable_cores(),
            "accelerators": accelerators,
        },
    }


def package_versions() -> dict[str, str]:
    """Installed versions of `PACKAGES`; "not installed" where there is none."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def current_commit() -> str | None:
    """Commit of the checkout this package runs from, with a "+" if it has uncommitted changes; None outside one."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        # installed below someone else's checkout, this file is not tracked there
        subprocess.run([*git, "ls-files", "--error-unmatch", Path(__file__).name], capture_output=True, check=True)
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changes = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changes.stdout.strip() else "")


def processor_name() -> str:
    """Marketing name of the CPU where the system tells it."""
    return cpu_field("model name") or platform.processor() or "unknown"


def weights_hash(model: "nn.Module") -> str:
    """SHA-256 over the names and bytes of a model's weights and buffers, sorted by name, and over the high-pass filter
    before them where there is one; devices do not matter."""
    import torch

    digest = hashlib.sha256()
    if high_pass_hz := getattr(getattr(model, "config", None), "high_pass_hz", 0):
        digest.update(f"high_pass_hz {high_pass_hz:g}".encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_json(path: str | Path, content: Any) -> Path:
    """Write `content` as JSON, see `write_text`."""
    return write_text(path, json.dumps(content, indent=1) + "\n")


def read_json(path: str | Path) -> Any:
    """What a file of JSON holds; ValueError that names it where it is not whole."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # of JSON, or of text
        raise ValueError(f"{path} is no whole JSON file: {error}") from error


def write_text(path: str | Path, text: str) -> Path:
    """Write `text` under a temporary name and rename it: a reader sees the old file or the new one."""
    path = Path(path)
    with replaced_at_end(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path
