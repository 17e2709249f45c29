"""Does the package run on other versions of Python, torch and transformers? Each in an environment of its own.

python3.13 -m venv /tmp/newest && /tmp/newest/bin/pip install . --upgrade torch transformers
python3.11 -m venv /tmp/oldest && /tmp/oldest/bin/pip install . 'torch==2.6.0' 'transformers==5.11.0'
.venv/bin/python scripts/check_versions.py /tmp/newest/bin/python /tmp/oldest/bin/python

In each, the embedded model enhances the demo's sample as it does here, is saved, and loads from that folder by
`AutoModel` and `pipeline` with the code beside its weights, where the package is hidden. A row for each interpreter.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
SAMPLE = REPOSITORY / "scripts" / "demo" / "sample_noisy.flac"
MODEL = "mvat/manner-s-8.1gf"
TOLERANCE = 1e-4
SHOWN = ("torch", "transformers", "huggingface_hub", "numpy")


def with_package(folder: Path) -> None:
    """Enhance with the package, and save what the other process loads."""
    import numpy as np
    from transformers import pipeline

    from mvat_hf import MannerModel, enhance

    model = MannerModel.from_pretrained(MODEL)
    np.save(folder / "enhance.npy", enhance(model, SAMPLE)["audio"])
    make: Any = pipeline  # transformers types it by the tasks that are its own
    np.save(folder / "pipeline.npy", make("audio-to-audio", model=model)(str(SAMPLE))["audio"])
    model.save_pretrained(folder / "saved")


def without_package(folder: Path) -> None:
    """Enhance with the code that was saved beside the weights."""
    sys.modules["mvat_hf"] = None  # type: ignore[assignment]
    import numpy as np
    import soundfile
    import torch
    from transformers import AutoModel, pipeline

    audio = torch.from_numpy(soundfile.read(SAMPLE, dtype="float32")[0])[None]
    model = AutoModel.from_pretrained(folder / "saved", trust_remote_code=True)
    with torch.inference_mode():
        np.save(folder / "remote.npy", model(audio).audio_values[0].numpy())
    make: Any = pipeline
    clean = make("audio-to-audio", model=str(folder / "saved"), trust_remote_code=True)
    np.save(folder / "remote_pipeline.npy", clean(str(SAMPLE))["audio"])


def versions(folder: Path) -> None:
    print(json.dumps([sys.version.split()[0], *(metadata.version(name) for name in SHOWN)]))


STEPS = {step.__name__: step for step in (with_package, without_package, versions)}


def run(python: str, step: str, folder: Path) -> str:
    """Output of a function of this file in another interpreter; RuntimeError with the last line of its error."""
    path = {"PYTHONPATH": str(REPOSITORY / "src")} if step == "with_package" else {}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | path
    environment |= {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(folder / "modules")}
    # -P: the folders beside this file are no packages
    command = [python, "-P", __file__, "--step", step, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{step}: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout


def check(python: str, expected) -> str:
    """The largest difference to `expected`, (time,), of all outputs in `python`, "fails" if that is large; errors of
    `run`."""
    import numpy as np

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(python, "with_package", folder)
        run(python, "without_package", folder)
        outputs = {path.stem: np.load(path) for path in sorted(folder.glob("*.npy"))}
    differences = {name: float(np.abs(output - expected).max()) for name, output in outputs.items()}
    wrong = {name: value for name, value in differences.items() if not value <= TOLERANCE}  # NaN is wrong too
    return f"fails: {wrong}" if wrong else f"{max(differences.values()):.0e}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("interpreters", metavar="PYTHON", nargs="+", help="of an environment with the package's needs")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)  # what such an interpreter runs in a folder
    options = parser.parse_args()
    if options.step:
        STEPS[options.step](Path(options.interpreters[0]))
        return 0
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        run(sys.executable, "with_package", Path(folder))
        expected = np.load(Path(folder) / "enhance.npy")
    print(f"| {' | '.join(('Python', *SHOWN, 'largest difference'))} |\n|{' --- |' * (len(SHOWN) + 2)}")
    failed = False
    for python in options.interpreters:
        found = [python, *["unknown"] * len(SHOWN)]
        try:
            found = json.loads(run(python, "versions", Path.cwd()))
            result = check(python, expected)
        except (OSError, RuntimeError) as error:
            result = f"fails: {error}"
        failed |= result.startswith("fails")
        print(f"| {' | '.join((*found, result))} |", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
