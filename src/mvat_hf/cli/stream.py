"""`mvat stream`: live audio through a pipe, or from the microphone."""

import sys
from typing import Annotated, Any, Literal

import typer

from ..models import DEFAULT_MODEL
from ..utils.errors import need
from .options import Device, Dry, Dtype, Limit, Model, Precision, Revision, Runtime, Token, Verbose, load_runtime

Rate = Annotated[int, typer.Option(help="Sampling rate of the PCM in Hz.")]
Pcm = Annotated[Literal["s16le", "f32le"], typer.Option(help="Format of the PCM.")]
Context = Annotated[float, typer.Option(help="Seconds of audio that the model sees in a step.")]
Hop = Annotated[float, typer.Option(help="Seconds between steps.")]
Lookahead = Annotated[
    float,
    typer.Option(
        help="Seconds of audio that the model sees after a step's output; the latency is hop plus look-ahead."
    ),
]
Microphone = Annotated[
    bool, typer.Option("--microphone", help="Take the microphone and play to the loudspeakers, until interrupted.")
]


def stream(
    source: Annotated[str, typer.Argument(metavar="IN", help="Must be - (standard input), the default.")] = "-",
    target: Annotated[str, typer.Argument(metavar="OUT", help="Must be - (standard output), the default.")] = "-",
    model: Model = DEFAULT_MODEL,
    runtime: Runtime = "auto",
    precision: Precision = "exact",
    rate: Rate = 16000,
    pcm: Pcm = "s16le",
    context_seconds: Context = 2.0,
    hop_seconds: Hop = 0.25,
    lookahead_seconds: Lookahead = 0.25,
    microphone: Microphone = False,
    dry: Dry = 0.0,
    attenuation_limit: Limit = None,
    device: Device = None,
    dtype: Dtype = None,
    revision: Revision = None,
    token: Token = None,
    verbose: Verbose = False,
) -> int:
    """Clean live audio in a pipe, or from the microphone.

    Raw mono PCM goes from standard input to standard output as it comes.

    For example: arecord -t raw -f S16_LE -r 16000 | mvat stream | aplay -t raw -f S16_LE -r 16000
    """
    if (source, target) != ("-", "-"):
        raise ValueError(f"live audio goes from - to -, got {source} and {target}: mvat enhance takes files")
    if not microphone and None in (sys.stdin, sys.stdout):
        raise ValueError("live audio goes from standard input to standard output, and one of them is closed")
    from ..inference.live import StreamingEnhancer, enhance_pcm, live_runtime
    from ..inference.microphone import enhance_microphone

    if microphone:
        need("live", "sounddevice")
    of_model: dict[str, Any] = {"precision": precision, "dtype": dtype, "revision": revision, "token": token}
    enhancer = StreamingEnhancer(
        load_runtime(model, live_runtime(model, runtime), device, verbose, **of_model),
        context_seconds,
        hop_seconds,
        lookahead_seconds,
        dry=dry,
        attenuation_limit=attenuation_limit,
    )
    if rate != enhancer.rate:
        raise ValueError(f"live, the model takes {enhancer.rate} Hz, got --rate {rate}: resample in the pipe")
    print(f"latency {enhancer.latency:g} s plus the time of a step; the model is not causal", file=sys.stderr)
    if microphone:
        enhance_microphone(enhancer)
        return 0
    enhance_pcm(enhancer, sys.stdin.buffer, sys.stdout.buffer, pcm)
    return 0
