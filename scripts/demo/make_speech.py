"""Regenerate the synthetic speech beside this file (`speech/VOICE/N.ogg`) and the noisy sample, with espeak-ng.

    python scripts/demo/make_speech.py

The files are in the repo, so only someone who wants other ones needs espeak-ng and this script.
"""

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from mvat_hf.data.audio import read_mono
from mvat_hf.data.mixing import mix

HERE = Path(__file__).parent
RATE = 16000
# espeak-ng voice, pitch (0 to 99), words a minute
VOICES = {
    "anna": ("en-us+f2", 60, 160),
    "bert": ("en-gb+m3", 35, 150),
    "cora": ("en-gb-scotland+f3", 70, 170),
    "dave": ("en-us+m7", 45, 175),
    "ella": ("en-gb-x-rp+f4", 55, 145),
    "finn": ("en-us+m1", 25, 165),
}
SENTENCES = (
    "The kettle had boiled twice before anyone came down to the kitchen.",
    "Please leave the small parcel with the neighbour on the second floor.",
    "Seven grey geese were crossing the road, and nobody was in a hurry.",
    "A good microphone cannot help you when the window is open.",
    "We measured the same room three times and got three different answers.",
)


def speak(text: str, voice: str, pitch: int, speed: int) -> np.ndarray:
    """One sentence as (time,) at 16 kHz, its peak at 0.5."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        subprocess.run(["espeak-ng", "-v", voice, "-p", str(pitch), "-s", str(speed), "-w", path, text], check=True)
        audio = read_mono(path, RATE)
    return 0.5 * audio / np.abs(audio).max()


def main() -> None:
    for name, (voice, pitch, speed) in VOICES.items():
        (HERE / "speech" / name).mkdir(parents=True, exist_ok=True)
        for number, text in enumerate(SENTENCES):
            soundfile.write(HERE / "speech" / name / f"{number}.ogg", speak(text, voice, pitch, speed), RATE)

    # the sample to enhance: a sentence of its own in rain-like noise with a hum
    clean = speak("Could you turn the fan off for a moment? I can hardly hear what she is saying.", "en-gb+f5", 50, 150)
    rng = np.random.default_rng(0)
    time = np.arange(len(clean)) / RATE
    noise = np.convolve(rng.standard_normal(len(clean)), [1, 0.6, 0.3], "same")
    noise *= 1 + 0.3 * np.sin(2 * np.pi * 0.7 * time)
    noise += 0.7 * np.sin(2 * np.pi * 120 * time)
    clean, noisy = mix(clean, noise, snr_db=5, level_dbfs=-25)
    soundfile.write(HERE / "sample_clean.flac", clean, RATE)
    soundfile.write(HERE / "sample_noisy.flac", noisy, RATE)


if __name__ == "__main__":
    main()
