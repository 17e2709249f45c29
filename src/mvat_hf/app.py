"""The demo page: a recording before and after a model. `mvat demo` serves it, `scripts/space` puts it on the Hub.

enhance_upload    a file enhanced and drawn
press             what the button does with it, without the page
build_page        the page, of Gradio
serve             the page on a port, until interrupted
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING

from .data.audio import AudioError, open_audio, read_audio
from .evaluation.figures import spectrograms
from .inference.enhancer import Enhancer, load_model
from .inference.enhancing import enhance_file
from .utils.errors import USER_ERRORS, extra, one_line

if TYPE_CHECKING:
    import gradio

PICTURE_SECONDS = 30  # what a picture as wide as half a page can show
KEPT_SECONDS = 3600  # recordings older than this are deleted from the server
AT_ONCE = 8  # recordings in work: a long one holds up nobody, while seven others are not long too
EXAMPLE = Path(__file__).parent / "data" / "example.flac"  # synthetic speech in noise, the sample of `scripts/demo.py`
DRAWING = Lock()  # Matplotlib is for one thread at a time

TITLE = "Speech enhancement with MANNER"
ABOUT = """# {title}
Record or drop speech, up to {seconds:g} s, of any sampling rate and number of channels: the result keeps both. Limits:
the models work at **16 kHz**, so the band above 8 kHz only gets the gain of the band below. They are **not causal**:
they answer after the end of a recording, or of a chunk of a long one."""


@dataclass(frozen=True)
class EnhancedUpload:
    """
    audio: WAV file with the rate, channels and length of the input.
    pictures: PNG files of the spectrograms before and after, the mean of the channels.
    seconds: length of the recording.
    taken: seconds that it took to read, enhance and write it.
    """

    audio: Path
    pictures: tuple[Path, Path]
    seconds: float
    taken: float

    def timing(self) -> str:
        """The two times and their ratio, as a line of text."""
        return (
            f"{self.seconds:.2f} s of audio in {self.taken:.2f} s: real-time factor {self.taken / self.seconds:.3f} "
            "(with reading, resampling and writing)"
        )


def enhance_upload(
    model: Enhancer,
    source: str | Path,
    folder: str | Path,
    *,
    dry: float = 0.0,
    attenuation_limit: float | None = None,
    max_seconds: float,
) -> EnhancedUpload:
    """
    Enhance the file `source` and draw it before and after, all into `folder`. Options: see `ChunkedEnhancer`.

    Raises:
        AudioError: the file cannot be used, or lasts longer than `max_seconds`. ValueError: an option out of its range.
    """
    source, folder = Path(source), Path(folder)
    with open_audio(source) as file:
        seconds, rate = file.frames / file.samplerate, file.samplerate
    if seconds > max_seconds:
        raise AudioError(f"{source} lasts {seconds:.1f} s, expected at most {max_seconds:g} s (--max-seconds)")
    audio = folder / f"{source.stem}_enhanced.wav"
    started = time.perf_counter()
    enhance_file(model, source, audio, dry=dry, attenuation_limit=attenuation_limit)
    taken = time.perf_counter() - started

    excerpt = f", the first {PICTURE_SECONDS} s" if seconds > PICTURE_SECONDS else ""
    before, after = folder / "before.png", folder / "after.png"
    for path, picture, title in ((source, before, "before"), (audio, after, "after")):
        shown, _ = read_audio(path, frames=PICTURE_SECONDS * rate)
        with DRAWING:
            spectrograms({title + excerpt: shown.mean(axis=0)}, rate, picture)
    return EnhancedUpload(audio, (before, after), seconds, taken)


def press(
    source: str | None,
    name: str,
    wet: float,
    attenuation_limit: float,
    *,
    models: Mapping[str, Enhancer],
    max_seconds: float,
) -> Iterator[tuple[str | None, str | None, str | None, str]]:
    """
    The action of the button, on the recording and the three options above it. Gives the file for the player, the two
    pictures and the timing, or three times None and the error. The files are there until the generator is resumed.

    A visitor can only choose among `models`, by name; no other name is ever loaded.
    """
    try:
        if source is None:
            raise ValueError("no recording yet: record one or drop a file")
        if name not in models:
            raise ValueError(f"expected a model of {', '.join(models)}, got {name!r}")
        options = {"dry": 1 - wet, "attenuation_limit": attenuation_limit, "max_seconds": max_seconds}
        with TemporaryDirectory() as folder:
            done = enhance_upload(models[name], source, folder, **options)
            yield str(done.audio), str(done.pictures[0]), str(done.pictures[1]), done.timing()
    except (*USER_ERRORS, RuntimeError) as error:  # RuntimeError: of libsndfile and of torch
        message = one_line(error)
        if source is not None:  # the user knows the file, not the folder that it was put in
            message = message.replace(f"{Path(source).parent}/", "")
        yield None, None, None, message


def build_page(models: Sequence[str], max_seconds: float) -> "gradio.Blocks":
    """
    The page, without telemetry. It offers `models` (folders, Hub ids or .onnx files) and no others; all are loaded
    now, and the first is chosen.

    Raises:
        MissingExtraError: Gradio is not installed. OSError, ValueError: a model does not load.
    """
    with extra("demo"):
        import gradio as gr

    loaded = {name: load_model(name) for name in models}
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)) as page:
        gr.Markdown(ABOUT.format(title=TITLE, seconds=max_seconds))
        with gr.Row():
            name = gr.Dropdown(list(loaded), label="Model")
            wet = gr.Slider(0, 1, 1, step=0.05, label="Wet / dry mix", info="1: the enhanced only, 0: the input only")
            limit = gr.Slider(
                0, 100, 100, step=1, label="Attenuation limit (dB)", info="0: the input, 100: in effect none"
            )
        with gr.Row(equal_height=True):
            source = gr.Audio(type="filepath", label="Before", editable=False, buttons=[])
            audio = gr.Audio(type="filepath", label="After", interactive=False, buttons=["download"])
        gr.Examples([[str(EXAMPLE)]], [source], label="Example")
        with gr.Row():
            button = gr.Button("Enhance", variant="primary", elem_id="enhance")
            report = gr.Textbox(placeholder="Timing", container=False, interactive=False, elem_id="report")
        with gr.Row():
            pictures = [
                gr.Image(
                    type="filepath", interactive=False, show_label=False, buttons=[], alt_text=f"Spectrogram {when}"
                )
                for when in ("before", "after")
            ]
        action = partial(press, models=loaded, max_seconds=max_seconds)
        button.click(
            action, [source, name, wet, limit], [audio, *pictures, report], api_name="enhance",
            concurrency_limit=AT_ONCE,
        )  # fmt: skip
    return page


def serve(models: Sequence[str], *, host: str, port: int | None, share: bool, max_seconds: float) -> None:
    """
    Serve the page until interrupted.

    Args:
        models, max_seconds: see `build_page`, and what it raises.
        port: None for the first free one from 7860.
        share: also through a public address that Gradio's servers lend.

    Raises:
        OSError: the port is taken.
    """
    with extra("demo"):
        import gradio as gr

    # of the usual weights, 400 and 600, the second has no Latin letters in Gradio 6.31
    theme = gr.themes.Default(font=[gr.themes.LocalFont("Source Sans Pro", weights=(400, 700)), "sans-serif"])
    build_page(models, max_seconds).launch(
        server_name=host,
        server_port=port,
        share=share,
        theme=theme,
        ssr_mode=False,  # needs Node.js
        run_history=False,
        footer_links=[],
    )
