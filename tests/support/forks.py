"""Programs in processes of their own that start at once: each is forked from one that has imported what is slow.

That is what the package and transformers import of others, and nothing of either: what is imported when is up to the
program. Where processes are not forked, each starts from nothing.
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
from typing import NamedTuple

SLOW = (
    *("torch._dynamo", "torch.distributed.tensor", "scipy.optimize", "scipy.signal", "PIL.Image", "soundfile", "soxr"),
    *("httpx", "httpx2", "jinja2", "psutil", "regex", "safetensors.torch", "tokenizers", "tqdm.auto", "yaml"),
)
LEFT = ("mvat_hf", "transformers", "huggingface_hub", "accelerate", "datasets")


class Ended(NamedTuple):
    status: int
    output: str  # and errors


def run_programs(programs: dict[str, str]) -> dict[str, Ended]:
    """How each of the programs ended, which are Python."""
    if sys.platform != "linux":
        return {name: from_nothing(code) for name, code in programs.items()}
    command = [sys.executable, __file__]
    done = subprocess.run(command, input=json.dumps(programs), stdout=subprocess.PIPE, text=True, check=True)
    return {name: Ended(*ended) for name, ended in json.loads(done.stdout).items()}


def from_nothing(code: str) -> Ended:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return Ended(done.returncode, done.stdout)


def fork(name: str, code: str) -> Ended:
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if not child:
            for stream in (sys.stdout, sys.stderr):
                os.dup2(output.fileno(), stream.fileno())
            os._exit(run(name, code))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        return Ended(status, output.read())


def run(name: str, code: str) -> int:
    try:
        exec(compile(code, name, "exec"), {"__name__": "__main__"})
        return 0
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    del sys.path[0]  # the folder of this file, which a program has not
    sys.path.insert(0, "")
    asked = json.load(sys.stdin)
    for module in SLOW:
        with contextlib.suppress(ImportError):  # what is not there is not missed: the programs tell
            importlib.import_module(module)
    early = [name for name in LEFT if name in sys.modules]
    assert not early, early
    gc.freeze()  # what is there is not looked through again in each
    print(json.dumps({name: fork(name, code) for name, code in asked.items()}))
