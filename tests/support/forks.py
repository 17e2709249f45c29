"""Programs in processes of their own that start at once: each is forked from one that has imported what is slow.

That is what the package and transformers import of others, and nothing of either: what is imported when is up to the
program, and so is what they read of the environment. Where processes are not forked, each starts from nothing.
"""

import contextlib
import gc
import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from typing import NamedTuple

SLOW = (
    *("torch._dynamo", "torch.distributed.tensor", "scipy.optimize", "scipy.signal", "PIL.Image", "soundfile", "soxr"),
    *("httpx", "httpx2", "jinja2", "psutil", "regex", "safetensors.torch", "tokenizers", "tqdm.auto", "yaml"),
)
LEFT = ("mvat_hf", "transformers", "huggingface_hub", "accelerate", "datasets")


class Ended(NamedTuple):
    """How a program ended."""

    status: int
    stdout: str
    stderr: str


class Forks:
    """A process that forks others, from the first program to `close`."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def run(self, code: str, *arguments: str, env: Mapping[str, str] | None = None) -> Ended:
        """`python -c CODE ARGUMENTS…`, with the environment `env`, or that of now."""
        env = dict(os.environ if env is None else env)
        if sys.platform != "linux":
            done = subprocess.run([sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True)
            return Ended(done.returncode, done.stdout, done.stderr)
        if self.process is None:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            self.process = subprocess.Popen([sys.executable, __file__], **pipes)
        print(json.dumps([code, arguments, env]), file=self.process.stdin, flush=True)
        return Ended(*json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        if self.process is not None:
            self.process.communicate()


def fork(code: str, arguments: Sequence[str], env: Mapping[str, str]) -> Ended:
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        child = os.fork()
        if not child:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out.fileno(), 1)
            os.dup2(errors.fileno(), 2)
            os._exit(run(code, arguments, env))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for output in (out, errors):
            output.seek(0)
        return Ended(status, out.read(), errors.read())


def run(code: str, arguments: Sequence[str], env: Mapping[str, str]) -> int:
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = [folder for folder in env.get("PYTHONPATH", "").split(os.pathsep) if folder]
    sys.argv = ["-c", *arguments]
    try:
        exec(code, {"__name__": "__main__"})
        return 0
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def serve() -> None:
    sys.path[0] = ""  # as of `python -c`, not the folder of this file
    for module in SLOW:
        with contextlib.suppress(ImportError):  # the program that needs it will tell
            importlib.import_module(module)
    early = [name for name in LEFT if name in sys.modules]
    assert not early, early
    gc.freeze()  # what is there is not looked through again in each
    for line in sys.stdin:
        print(json.dumps(fork(*json.loads(line))), flush=True)


if __name__ == "__main__":
    serve()
