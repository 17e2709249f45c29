"""Run the benchmarks of a CPU, then render all tables from their records.

    python scripts/benchmark.py --data_root FOLDER           # the records of scripts/benchmarks/, anew
    python scripts/benchmark.py --data_root FOLDER --small   # minutes: see that all run, in runs/benchmarks

FOLDER holds `dns/` and `valentini/`. Each benchmark is a script in `scripts/benchmarks/` with options of its own; what
fails is told at the end, and the rest goes on. `cold_start.py` wants an install without torch beside this one,
`inference_gpu.py` a GPU: these are run by themselves.
"""

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent / "benchmarks"
SMALL_RECORDS = Path("runs/benchmarks")
FULL_BAND = [
    "--clean", "{data}/valentini/clean_trainset_28spk_wav", "--noisy", "{data}/valentini/noisy_trainset_28spk_wav",
    "--noise", "{data}/dns/datasets/noise",
]  # fmt: skip
# options of each benchmark: in full, and small
OPTIONS = {
    "inference": (
        ["--quality", "{data}", "--threads", "1", "2", "--peers", "rnnoise", "nsnet2", "deepfilternet3"],
        ["--models", "manner-s-8.1gf", "--seconds", "1", "10", "--repeats", "2", "--peers", "rnnoise"],
    ),
    "training_step": (["--threads", "1", "2"], ["--batch", "1", "--seconds", "1", "--repeats", "2"]),
    "loader": (["--data_root", "{data}/dns"], ["--data_root", "{data}/dns", "--batches", "4"]),
    "long_file": ([], ["--files", "1.mp3", "2.wav"]),
    "many_files": ([], ["--files", "40"]),
    "chunking": (["--data_root", "{data}/dns"], ["--data_root", "{data}/dns", "--pairs", "2"]),
    "recogniser": (
        ["--data_root", "{data}/dns"],
        ["--data_root", "{data}/dns", "--recordings", "2", "--seconds", "4", "--snrs", "10"],
    ),
    "full_band": (FULL_BAND, [*FULL_BAND, "--types", "2"]),
    "live": (["--data_root", "{data}/dns"], ["--data_root", "{data}/dns", "--pairs", "2"]),
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the benchmarks of a CPU and render their tables.")
    parser.add_argument("--data_root", required=True, type=Path, help="folder with dns/ and valentini/")
    parser.add_argument("--small", action="store_true", help=f"shorter, with records in {SMALL_RECORDS}")
    parser.add_argument("--only", nargs="+", choices=OPTIONS, default=list(OPTIONS), help="these alone")
    options = parser.parse_args()
    failed = []
    for name in options.only:
        command = [argument.format(data=options.data_root) for argument in OPTIONS[name][options.small]]
        if options.small:
            command += ["--output", str(SMALL_RECORDS / f"{name}.json")]
        print(f"{name}: {' '.join(command)}", flush=True)
        if subprocess.run([sys.executable, HERE / f"{name}.py", *command], check=False).returncode:
            failed.append(name)
    if not options.small:
        subprocess.run([sys.executable, Path(__file__).with_name("render_cards.py")], check=True)
    for name in failed:
        print(f"failed: {name}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
