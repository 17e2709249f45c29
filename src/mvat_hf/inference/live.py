"""Enhancing while the audio still arrives: blocks of a microphone in, enhanced blocks out, with a stated latency.

MANNER is not causal: its normalisation, pooling and attention see all of the audio that a pass is given. Live, every
`hop_seconds` a step gives out the hop that lies `lookahead_seconds` before the end of what has come, from the newest
`context_seconds`. There are two ways to compute it:
- incremental, for a `MannerModel` on a CPU: features of the past are kept, and only what is new is computed
  (`mvat_hf.acceleration.incremental` says what that changes);
- windows, for every other model: the newest `context_seconds` go through it anew, context / hop times the work of one
  pass over the whole recording.
`scripts/benchmarks/live.py` measures quality and cost of both.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..acceleration.runtime import OnnxManner
from ..data.audio import AudioError, check_finite
from ..models.manner.chunking_manner import FULL_SCALE, cross_fade
from .chunks import FastChunkedEnhancer
from .enhancer import Enhancer, model_to_use
from .enhancing import from_unit_scale

if TYPE_CHECKING:
    import torch

    from ..acceleration.incremental import IncrementalManner

FADE_SECONDS = 0.01  # each step is faded in over the one before, where the look-ahead is as long
PCM: dict[str, np.dtype] = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}
READ_BYTES = 2**16
MOST_SECONDS = 1e6  # that a step may see: beyond is a slip
HEADER = re.compile(rb"RIFF|RF64|RIFX|FORM|fLaC|OggS|\.snd|caff|riff|\x1a\x45\xdf\xa3|ID3[\x02-\x04]|(?s:....)ftyp")
HEADER_BYTES = 8  # that tell a file from samples


class StreamingEnhancer:
    """
    A model on audio that arrives in blocks of any length; where they are cut changes nothing in the result.

    Holds the newest block, and `context_seconds + hop_seconds` of audio, or some of their features. Not causal inside
    these, see above.

    Args:
        model: or what `MannerModel.from_pretrained` takes, or a file of `mvat export` for any length.
        context_seconds: of audio that a step sees, look-ahead included; at the start of a stream what there is of it.
        hop_seconds: between two steps.
        lookahead_seconds: of audio that a step sees after what it gives out.
        incremental: False for windows, whatever the model.
        dry, attenuation_limit: see `ChunkedEnhancer`.
        device: where the model is moved; None leaves it where it is.
        dtype, revision, token: of the model, see `load_model`.

    Attributes:
        rate: the model's sampling rate in Hz, of what is fed and of what comes out.
        latency: `hop_seconds + lookahead_seconds`: a sample comes out when so much audio is there from it on, or
            before; the time of a step comes on top.
        network: what computes the stream under way incrementally, with the model's weights as they were at its start;
            None for windows, and before the first block.

    Raises:
        ValueError: an option out of its range, or a file of `mvat export` for one length.

    Example:
        >>> from mvat_hf import MannerConfig, MannerModel
        >>> live = StreamingEnhancer(MannerModel(MannerConfig.from_preset("manner-s-2.2gf")), hop_seconds=0.1)
        >>> live.feed(np.zeros(6000)).shape, live.feed(np.zeros(1300)).shape, live.flush().shape
        ((1600,), (1600,), (4100,))
    """

    def __init__(
        self,
        model: Enhancer | str | Path,
        context_seconds: float = 2.0,
        hop_seconds: float = 0.25,
        lookahead_seconds: float = 0.25,
        *,
        incremental: bool = True,
        dry: float = 0.0,
        attenuation_limit: float | None = None,
        device: "str | torch.device | None" = None,
        dtype: "str | torch.dtype | None" = None,
        revision: str | None = None,
        token: str | bool | None = None,
    ):
        of_model = {"dtype": dtype, "revision": revision, "token": token}
        loaded = model_to_use(model, device, runtime=live_runtime(model, incremental=incremental), **of_model)
        if isinstance(loaded, OnnxManner) and loaded.samples is not None:
            raise ValueError(f"live, an ONNX file must take any length, got one that takes {loaded.samples} samples")
        self.passes = FastChunkedEnhancer(loaded, dry, attenuation_limit, chunk_seconds=None)
        self.rate = self.passes.rate
        seconds = np.array([context_seconds, hop_seconds, lookahead_seconds])
        usable = np.abs(seconds) < MOST_SECONDS  # NaN is not
        self.context, self.hop, self.lookahead = (np.where(usable, seconds, 0) * self.rate).round().astype(int).tolist()
        if not (usable.all() and self.hop > 0 <= self.lookahead <= self.context - self.hop):
            raise ValueError(
                f"expected hop_seconds > 0, lookahead_seconds >= 0 and context_seconds at least as long as both, got "
                f"context_seconds={context_seconds}, hop_seconds={hop_seconds}, lookahead_seconds={lookahead_seconds}"
            )
        self.fade = min(round(FADE_SECONDS * self.rate), self.hop, self.lookahead)
        self.incremental = incremental
        self.restart()

    @property
    def latency(self) -> float:
        return (self.hop + self.lookahead) / self.rate

    def restart(self) -> None:
        """Forget what was fed: the next block begins a new stream."""
        self.shape: tuple[int, ...] | None = None  # of the blocks, less the time
        self.network: IncrementalManner | None = None
        self.given = 0  # samples given out so far
        self.taken = 0  # samples that `network` has
        self.start = 0  # which sample of the stream `held` begins with
        self.held = np.empty((0, 0), dtype=np.float32)
        self.tail = np.empty((0, 0), dtype=np.float32)  # what the next step fades out

    def feed(self, block: np.ndarray) -> np.ndarray:
        """
        The output that is ready after `block`, perhaps none.

        Args:
            block: (time,) or (channels, time), floating, in [-1, 1], at `rate`; channels as in the first block.

        Returns:
            (time,) or (channels, time) float32.

        Raises:
            AudioError: another shape or type, NaN or infinity; then nothing of the block was taken.
        """
        rows = self.as_rows(block)
        self.held = np.concatenate([self.held, rows], axis=1)
        outputs = [rows[:, :0]]
        while self.start + self.held.shape[1] >= self.given + self.hop + self.lookahead:
            outputs.append(self.advance(self.given + self.hop + self.lookahead, self.given + self.hop))
        return np.concatenate(outputs, axis=1).reshape(*block.shape[:-1], -1)

    def flush(self) -> np.ndarray:
        """The rest: as much has come out as went in. The next block begins a new stream."""
        end = self.start + self.held.shape[1]
        rest = self.advance(end, end) if end > self.given else self.held[:, :0]
        shape = self.shape or ()
        self.restart()
        return rest.reshape(*shape, -1)

    def as_rows(self, block: np.ndarray) -> np.ndarray:
        """A checked block as (channels, time) float32; the first one says how many channels there are."""
        if not isinstance(block, np.ndarray) or block.ndim not in (1, 2) or not np.issubdtype(block.dtype, np.floating):
            got = f"{block.dtype} {block.shape}" if isinstance(block, np.ndarray) else type(block).__name__
            raise AudioError(f"a block must be a floating array (time,) or (channels, time), got {got}")
        if self.shape not in (None, block.shape[:-1]):
            raise AudioError(f"blocks of this stream are {(*self.shape, 'time')}, got {block.shape}")
        if block.ndim == 2 and not len(block):
            raise AudioError(f"a block must have at least one channel, got {block.shape}")
        with np.errstate(over="ignore"):  # what float32 does not hold is infinite there
            rows = check_finite(np.atleast_2d(block).astype(np.float32), "block")
        if self.shape is None:
            self.shape = block.shape[:-1]
            self.held = self.tail = rows[:, :0]
            if self.incremental:
                self.network = incremental_network(self.passes.model, len(rows), self.context)
        return rows

    def advance(self, end: int, ready: int) -> np.ndarray:
        """The stream from `given` to `ready`, computed from the samples before `end`."""
        fed = self.held[:, self.given - self.start :][:, : ready - self.given]
        estimate = self.window(end) if self.network is None else self.step(self.network, end, ready)
        estimate = cross_fade(self.tail, check_finite(estimate, "enhanced audio"))
        enhanced, self.tail = estimate[:, : fed.shape[1]], estimate[:, fed.shape[1] :][:, : self.fade]
        self.given = ready
        return (1 - self.passes.share) * enhanced + self.passes.share * fed

    def window(self, end: int) -> np.ndarray:
        """From `given` to `end`, by a pass over the window before that."""
        first = max(end - self.context, self.start)
        self.held, self.start = self.held[:, first - self.start :], first
        return self.passes.enhance_chunk(self.held[:, : end - first])[:, self.given - end :]

    def step(self, network: "IncrementalManner", end: int, ready: int) -> np.ndarray:
        """From `given` to `ready`, and what the next step fades out, by features that are kept."""
        import torch

        stop = min(ready + self.fade, end)
        samples = torch.from_numpy(self.held[:, self.taken - self.start : end - self.start])
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            estimate = network.advance(samples, self.given, stop).numpy()
        self.held, self.start, self.taken = self.held[:, ready - self.start :], ready, end
        return estimate


def live_runtime(model: Any, runtime: str = "auto", incremental: bool = True) -> str:
    """PyTorch for "auto", as it alone computes incrementally; for a file of `mvat export` what is asked for."""
    return "torch" if runtime == "auto" and incremental and not str(model).endswith(".onnx") else runtime


def incremental_network(model: Any, batch: int, context: int) -> "IncrementalManner | None":
    """An `IncrementalManner` of `model`, see there; None if it is not to be folded, or not on a CPU."""
    if isinstance(model, OnnxManner) or model.device.type != "cpu":
        return None
    from ..acceleration.folding import folded_copy
    from ..acceleration.incremental import IncrementalManner

    folded = folded_copy(model)
    return None if folded is None else IncrementalManner(folded, batch, context)


def enhance_pcm(enhancer: StreamingEnhancer, source: BinaryIO, target: BinaryIO, encoding: str = "s16le") -> None:
    """
    Enhance raw mono PCM from `source` to `target`, as it comes, to its end.

    Args:
        enhancer: at the start of a stream.
        source: has `read1`, as what `open` and `sys.stdin.buffer` give.
        encoding: "s16le" or "f32le".

    Raises:
        AudioError: a file, which begins with a header, and nothing was written; or the last sample is not whole (all
            before it was written), or not finite.
        ValueError: another encoding.
    """
    if encoding not in PCM:
        raise ValueError(f"encoding must be one of {', '.join(PCM)}, got {encoding}")
    dtype, rest = PCM[encoding], b""
    scale = FULL_SCALE.get(dtype.name, 1)
    received = source.read1(READ_BYTES)  # type: ignore[attr-defined]
    while len(received) < HEADER_BYTES and (more := source.read1(READ_BYTES)):  # type: ignore[attr-defined]
        received += more
    refuse_file(received, enhancer.rate, encoding)
    while received:
        whole = len(rest + received) // dtype.itemsize * dtype.itemsize
        samples, rest = np.frombuffer((rest + received)[:whole], dtype), (rest + received)[whole:]
        write_pcm(enhancer.feed(samples.astype(np.float32) / scale), dtype, target)
        received = source.read1(READ_BYTES)  # type: ignore[attr-defined]
    write_pcm(enhancer.flush(), dtype, target)
    if rest:
        raise AudioError(f"the stream ends with {len(rest)} bytes of a sample, expected {dtype.itemsize} ({encoding})")


def refuse_file(start: bytes, rate: int, encoding: str) -> None:
    """AudioError if a stream starts with a file's header: as samples it would be a click and a delay."""
    if found := HEADER.match(start):
        raw = f"| mvat stream --pcm {encoding}"
        record = {"s16le": "S16_LE", "f32le": "FLOAT_LE"}[encoding]
        raise AudioError(
            f"the stream is a file's (it begins with {found[0].decode('ascii', 'replace')!r}), expected raw mono PCM: "
            f"arecord -t raw -f {record} -c 1 -r {rate} {raw}, or ffmpeg -i FILE -f {encoding} -ac 1 -ar {rate} - {raw}"
        )


def write_pcm(block: np.ndarray, dtype: np.dtype, target: BinaryIO) -> None:
    """A float block (time,) at once, rounded and clipped if `dtype` is an integer."""
    target.write(from_unit_scale(block, dtype).tobytes())
    target.flush()


__all__ = ["StreamingEnhancer", "enhance_pcm"]
