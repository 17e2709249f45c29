"""MANNER: a U-Net on the waveform whose levels carry multi-view attention (channel, global, local).

The file reads from the small parts to the whole, in the order of the papers' figures. Shapes: B batch, T samples,
C channels, L frames, P chunks, S chunk length. Sources: see `configuration_manner.py`.
"""

import math
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import ModelOutput
from transformers.utils import FEATURE_EXTRACTOR_NAME, SAFE_WEIGHTS_INDEX_NAME, logging

from .configuration_manner import MannerConfig
from .feature_extraction_manner import MannerFeatureExtractor
from .high_pass_manner import high_pass
from .loss_manner import enhancement_loss
from .snapshot_manner import CheckpointError, SnapshotFallback, check_weights, weights_fault

BLOCK_BN_MOMENTUM = 0.01  # batch norms of ConvNorm; every other one keeps PyTorch's 0.1
DEPTHWISE_KERNEL = 31
SCALE_EPS = 1e-3  # beside the deviation that the input is divided by
QUIET = threading.RLock()  # what transformers is told holds for all threads: one at a time


@dataclass
class MannerViewFeatures(ModelOutput):
    """The three views of one attention block, each (B, C // 3, L); what MV-AT transfers."""

    channel_view: Tensor | None = None
    global_view: Tensor | None = None
    local_view: Tensor | None = None


@dataclass
class MannerOutput(ModelOutput):
    """
    loss (scalar): enhancement loss L_SE, given `labels`.
    audio_values (B, T): the enhanced audio, in the scale of the input; None given `last_level`.
    loss_components (dict of scalars): the terms of `loss` before weighting, given `labels`.
    view_features: `MannerViewFeatures` of each attention block, keyed "encoder.LEVEL" or "decoder.LEVEL", on request.
    hidden_states: output (B, C, L) of each U-Net level under the same keys, on request.
    """

    loss: Tensor | None = None
    audio_values: Tensor | None = None
    loss_components: dict[str, Tensor] | None = None
    view_features: dict[str, MannerViewFeatures] | None = None
    hidden_states: dict[str, Tensor] | None = None


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch norm, optional ReLU; the length is kept."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, relu: bool):
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm1d(out_channels, momentum=BLOCK_BN_MOMENTUM)
        if relu:
            self.relu = nn.ReLU()


class DepthwiseConv(nn.Sequential):
    """Depthwise convolution without bias, batch norm, SiLU; the length is kept."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv1d(
            channels, channels, DEPTHWISE_KERNEL, padding=DEPTHWISE_KERNEL // 2, groups=channels, bias=False
        )
        self.norm = nn.BatchNorm1d(channels)
        self.activation = nn.SiLU()


class Gate(nn.Module):
    """ReLU(Conv(tanh(Conv(x)) * sigmoid(Conv(x)))), 1x1 convolutions: the mask, and the end of an attention block."""

    def __init__(self, channels: int):
        super().__init__()
        self.content = nn.Conv1d(channels, channels, 1)
        self.gate = nn.Conv1d(channels, channels, 1)
        self.out = nn.Conv1d(channels, channels, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        return F.relu(self.out(torch.tanh(self.content(hidden)) * torch.sigmoid(self.gate(hidden))))


class ResidualConv(nn.Module):
    """ResCon: a convolution module in the manner of Conformer with a 1x1 shortcut; (B, I, L) to (B, O, L)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.expand = nn.Conv1d(in_channels, 2 * in_channels, 1)
        self.expand_norm = nn.BatchNorm1d(2 * in_channels)
        self.depthwise = DepthwiseConv(in_channels)
        self.project = nn.Conv1d(in_channels, out_channels, 1)
        self.project_norm = nn.BatchNorm1d(out_channels)
        self.out = ConvNorm(out_channels, out_channels, 1, relu=False)
        self.shortcut = ConvNorm(in_channels, out_channels, 1, relu=False)

    def forward(self, hidden: Tensor) -> Tensor:
        inner = F.glu(self.expand_norm(self.expand(hidden)), dim=1)
        inner = self.depthwise(inner)
        inner = F.silu(self.project_norm(self.project(inner)))
        return F.relu(self.out(inner) + self.shortcut(hidden))


def split_chunks(hidden: Tensor, length: int) -> Tensor:
    """Overlapping chunks, (B, C, L) to (B, C, P, S): S = `length`, hop S/2, zeros of length S on both sides."""
    return F.pad(hidden, (length, length)).unfold(-1, length, length // 2)


def join_chunks(chunks: Tensor, frames: int) -> Tensor:
    """Overlap-add of `split_chunks` divided by two, (B, C, P, S) back to (B, C, `frames`)."""
    hop = chunks.shape[-1] // 2
    # (B, C, P, S) -> two (B, C, P + 1, S/2): chunk p adds its first half to half p, its second half to half p + 1
    halves = F.pad(chunks[..., :hop], (0, 0, 0, 1)) + F.pad(chunks[..., hop:], (0, 0, 1, 0))
    return halves.flatten(-2)[..., 2 * hop : 2 * hop + frames] / 2


class ChannelView(nn.Module):
    """Channel attention: pooled over time, a shared two-layer MLP, a sigmoid weight for every channel."""

    def __init__(self, channels: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(channels, channels // 2), nn.ReLU(), nn.Linear(channels // 2, channels))

    def forward(self, hidden: Tensor) -> Tensor:
        # (B, C, L) -> (B, C)
        weight = torch.sigmoid(self.mlp(hidden.amax(dim=-1)) + self.mlp(hidden.mean(dim=-1)))
        return hidden * weight.unsqueeze(-1)


class GlobalView(nn.Module):
    """Self-attention across chunks, for every channel by itself; a token is one chunk of S frames."""

    def __init__(self, segment_len: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        width = num_heads * segment_len * num_heads  # num_heads heads of width segment_len * num_heads
        self.query = nn.Linear(segment_len, width, bias=False)
        self.key = nn.Linear(segment_len, width, bias=False)
        self.value = nn.Linear(segment_len, width, bias=False)
        self.out = nn.Linear(width, segment_len, bias=False)

    def forward(self, chunks: Tensor) -> Tensor:
        # (B, C, P, S) -> (B * C, heads, P, width of a head)
        tokens = chunks.flatten(0, 1)
        query, key, value = (
            project(tokens).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        # (B * C, heads, P, width of a head) -> (B, C, P, S)
        return self.out(mixed.transpose(1, 2).flatten(-2)).view_as(chunks)


class LocalView(nn.Module):
    """A sigmoid weight for every frame of a chunk, from its neighbourhood within the chunk."""

    def __init__(self, channels: int):
        super().__init__()
        self.depthwise = DepthwiseConv(channels)
        self.weight = ConvNorm(2, 1, 7, relu=False)

    def forward(self, chunks: Tensor) -> Tensor:
        # (B, C, P, S) -> (B * P, C, S)
        inner = self.depthwise(chunks.transpose(1, 2).flatten(0, 1))
        # (B * P, C, S) -> (B * P, 2, S) -> (B * P, 1, S) -> (B, 1, P, S)
        pooled = torch.stack([inner.amax(dim=1), inner.mean(dim=1)], dim=1)
        weight = torch.sigmoid(self.weight(pooled))
        return chunks * weight.unflatten(0, (chunks.shape[0], -1)).transpose(1, 2)


class MultiViewAttention(nn.Module):
    """Three branches of a third of the channels each (channel, global, local), joined, gated, plus a shortcut."""

    def __init__(self, config: MannerConfig, channels: int):
        super().__init__()
        self.segment_len = config.segment_len
        third = channels // 3
        self.branches = nn.ModuleList(ConvNorm(channels, third, 1, relu=True) for _ in range(3))
        self.channel_view = ChannelView(third)
        self.global_view = GlobalView(config.segment_len, config.num_heads)
        self.local_view = LocalView(third)
        self.refine = nn.ModuleList(ConvNorm(third, third, 3, relu=True) for _ in range(3))
        self.join = ConvNorm(3 * third, channels, 1, relu=False)
        self.gate = Gate(channels)
        self.shortcut = ConvNorm(channels, channels, 1, relu=False)

    def forward(self, hidden: Tensor) -> tuple[Tensor, list[Tensor]]:
        frames = hidden.shape[-1]
        by_channel, by_chunk, by_frame = (branch(hidden) for branch in self.branches)
        by_channel = self.channel_view(by_channel)
        by_chunk = join_chunks(self.global_view(split_chunks(by_chunk, self.segment_len)), frames)
        by_frame = join_chunks(self.local_view(split_chunks(by_frame, self.segment_len)), frames)
        views = [refine(view) for refine, view in zip(self.refine, (by_channel, by_chunk, by_frame), strict=True)]
        gated = self.gate(self.join(torch.cat(views, dim=1)))
        return gated + self.shortcut(hidden), views


class MannerLevel(nn.Module):
    """One encoder or decoder level: returns its output and, where attention stands, the view features."""

    attention: MultiViewAttention | None

    def attend(self, hidden: Tensor) -> tuple[Tensor, list[Tensor] | None]:
        return (hidden, None) if self.attention is None else self.attention(hidden)


class EncoderLevel(MannerLevel):
    """Strided convolution, ResCon to `growth` times the channels, attention; (B, C, L) to (B, growth C, L / stride)."""

    def __init__(self, config: MannerConfig, level: int):
        super().__init__()
        narrow, wide = config.level_channels(level), config.level_channels(level + 1)
        self.down = nn.Conv1d(narrow, narrow, config.kernel_size, config.stride)
        self.down_norm = nn.BatchNorm1d(narrow)
        self.residual = ResidualConv(narrow, wide)
        self.attention = MultiViewAttention(config, wide) if level in config.attended_levels else None

    def forward(self, hidden: Tensor) -> tuple[Tensor, list[Tensor] | None]:
        return self.attend(self.residual(F.relu(self.down_norm(self.down(hidden)))))


class DecoderLevel(MannerLevel):
    """Skip connection, ResCon to a `growth`-th of the channels, transposed convolution, attention."""

    def __init__(self, config: MannerConfig, level: int):
        super().__init__()
        narrow, wide = config.level_channels(level), config.level_channels(level + 1)
        self.residual = ResidualConv(wide, narrow)
        self.up = nn.ConvTranspose1d(narrow, narrow, config.kernel_size, config.stride)
        self.up_norm = nn.BatchNorm1d(narrow)
        self.attention = MultiViewAttention(config, narrow) if level in config.attended_levels else None

    def forward(self, hidden: Tensor, skip: Tensor) -> tuple[Tensor, list[Tensor] | None]:
        hidden = self.residual(hidden + skip[..., : hidden.shape[-1]])
        return self.attend(F.relu(self.up_norm(self.up(hidden))))


class MannerPreTrainedModel(SnapshotFallback, PreTrainedModel):
    """Weight initialisation and loading shared by MANNER models."""

    config: MannerConfig
    config_class = MannerConfig
    base_model_prefix = "manner"
    main_input_name = "input_values"
    hub_file = "model.safetensors"
    _supports_sdpa = True  # the one way the global view is computed
    accepts_loss_kwargs = False  # the loss is a mean over the batch: the Trainer averages it over accumulation steps

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, output_loading_info: bool = False, **kwargs):
        """As in transformers (evaluation mode), but safetensors only, and every weight must come from the checkpoint.

        Raises:
            OSError: nothing to load under that name, or weights that are missing, left over, of another shape or type,
                not those that the Hub speaks of, or not finite.
        """
        name = pretrained_model_name_or_path
        kwargs = {"use_safetensors": True, **kwargs}
        try:
            with quiet_transformers():
                model, info = super().from_pretrained(name, *args, output_loading_info=True, **kwargs)
        except SafetensorError as error:
            raise OSError(f"{name}: the weights are no safetensors file: {error}") from error
        except CheckpointError as error:
            raise OSError(f"{name}: {error}") from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if "get_checkpoint_shard_files" not in [frame.name for frame in traceback.extract_tb(error.__traceback__)]:
                raise
            raise OSError(f"{name}: {SAFE_WEIGHTS_INDEX_NAME} is no index of files: {error!r}") from error
        if fault := weights_fault(model):
            raise OSError(f"{name}: {fault}")
        return (model, info) if output_loading_info else model

    @staticmethod
    def _load_pretrained_model(model, state_dict, checkpoint_files, load_config, *args, **kwargs):
        """As in transformers, if the weights are what the model, which has no memory yet, has a place for."""
        check_weights(model, state_dict, checkpoint_files or (), load_config.sharded_metadata)
        return PreTrainedModel._load_pretrained_model(model, state_dict, checkpoint_files, load_config, *args, **kwargs)

    def save_pretrained(self, save_directory, *args, **kwargs):
        """As in transformers, with the feature extractor: a saved folder and a pushed repo are complete."""
        MannerFeatureExtractor(sampling_rate=self.config.sampling_rate).save_pretrained(save_directory)
        with quiet_transformers():
            super().save_pretrained(save_directory, *args, **kwargs)

    def _get_files_timestamps(self, working_dir):
        """What is newer is pushed, the feature extractor's file too, which `save_pretrained` saves before it asks."""
        found = super()._get_files_timestamps(working_dir)
        return {name: changed for name, changed in found.items() if name != FEATURE_EXTRACTOR_NAME}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """PyTorch's default; then convolutions are rescaled so that their weights' deviation comes near the scale."""
        own = list(module.parameters(recurse=False))
        if not own or any(getattr(parameter, "_is_hf_initialized", False) for parameter in own):
            return
        module.reset_parameters()  # type: ignore[operator]  # every layer with parameters of its own has it
        if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)):
            factor = math.sqrt(module.weight.std().item() / self.config.initializer_scale)
            for parameter in own:
                parameter.div_(factor)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No loading report and no progress bar of transformers: a small model loads at once, and errors speak for it."""
    with QUIET:
        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()


class MannerModel(MannerPreTrainedModel):
    """MANNER: input layer, encoder, bottleneck, decoder, mask on the input layer's output, output layer.

    Not causal, and not invariant to padding: enhance whole recordings or long chunks (`mvat_hf.enhance`).

    Example:
        >>> import torch
        >>> model = MannerModel(MannerConfig.from_preset("manner-s-2.2gf")).eval()
        >>> model(torch.randn(1, 16000)).audio_values.shape
        torch.Size([1, 16000])
    """

    def __init__(self, config: MannerConfig):
        super().__init__(config)
        hidden_size, deepest = config.hidden_size, config.level_channels(config.depth)
        self.input = nn.Conv1d(1, hidden_size, 3, padding=1)
        self.input_norm = nn.BatchNorm1d(hidden_size)
        self.encoder = nn.ModuleList(EncoderLevel(config, level) for level in range(config.depth))
        self.bottleneck = nn.Linear(deepest, deepest, bias=False)
        # decoder[level] mirrors encoder[level]; the deepest runs first
        self.decoder = nn.ModuleList(DecoderLevel(config, level) for level in range(config.depth))
        self.mask = Gate(hidden_size)
        self.output = nn.Conv1d(hidden_size, 1, 3, padding=1)
        self.fast_estimate: Callable | None = None  # in place of `estimate` in evaluation without gradients, see `fuse`
        self.post_init()

    def forward(
        self,
        input_values: Tensor,
        labels: Tensor | None = None,
        output_view_features: bool = False,
        output_hidden_states: bool = False,
        last_level: int | None = None,
        return_dict: bool = True,
    ) -> MannerOutput | tuple:
        """
        Args:
            input_values: noisy audio (B, T) at `config.sampling_rate`. Any scale, but below an RMS of about -45 dBFS
                the output is turned down too: upstream's normalisation divides by the deviation plus 1e-3 of full scale
                and multiplies by the deviation.
            labels: clean audio (B, T); adds the enhancement loss L_SE to the output, see `heard`.
            output_view_features: return the view features of every attention block.
            output_hidden_states: return the output of every U-Net level.
            last_level: end after this level of the decoder, whose deepest level runs first: what follows is not
                computed, and there is no enhanced audio.
            return_dict: False for a plain tuple.

        Raises:
            ValueError: `input_values` is not (B, T) with at least one sample, `labels` has another shape, or
                `last_level` is no level, or stands beside `labels`.
        """
        if input_values.ndim != 2 or input_values.shape[-1] == 0:
            raise ValueError(f"input_values must be (batch, time) with a sample, got {tuple(input_values.shape)}")
        if labels is not None and labels.shape != input_values.shape:
            raise ValueError(
                f"labels must have the shape of input_values {tuple(input_values.shape)}, got {tuple(labels.shape)}"
            )
        if last_level is not None and (labels is not None or not 0 <= last_level < self.config.depth):
            beside = "" if labels is None else " and labels"
            expected = f"a decoder level from 0 to {self.config.depth - 1}, without labels"
            raise ValueError(f"last_level must be {expected}, got {last_level}{beside}")
        normalized, scale = self.normalize(input_values)
        fast = self.fast_estimate
        if fast is None or self.training or torch.is_grad_enabled():
            output, levels = self.estimate(normalized, last_level)
        else:
            output, levels = fast(self, normalized, output_view_features or output_hidden_states, last_level)
        audio_values, loss, components = None, None, None
        if output is not None:
            audio_values = output[..., : input_values.shape[-1]] * scale
        if audio_values is not None and labels is not None:
            loss, components = enhancement_loss(audio_values, self.heard(labels), self.heard(input_values))
        result = MannerOutput(loss=loss, audio_values=audio_values, loss_components=components)
        if output_view_features:
            result.view_features = {
                name: MannerViewFeatures(*views) for name, (_, views) in levels.items() if views is not None
            }
        if output_hidden_states:
            result.hidden_states = {name: hidden for name, (hidden, _) in levels.items()}
        return result if return_dict else result.to_tuple()

    def fuse(self, dtype: torch.dtype | None = None) -> "MannerModel":
        """Let evaluation passes without gradients run on folded weights: `mvat_hf.acceleration.folding.fuse`.

        Raises:
            ImportError: the package is not installed, and this code came with a checkpoint.
        """
        try:
            from mvat_hf.acceleration.folding import fuse
        except ImportError as error:
            raise ImportError("fuse() takes the package: pip install mvat_hf") from error
        return fuse(self, dtype)

    def unfuse(self) -> "MannerModel":
        """Undo `fuse`."""
        self.fast_estimate = None
        return self

    @property
    def fused(self) -> bool:
        """Whether `fuse` is in force."""
        return self.fast_estimate is not None

    def train(self, mode: bool = True) -> "MannerModel":
        """As of any module; training mode undoes `fuse`."""
        if mode:
            self.unfuse()
        return super().train(mode)

    def heard(self, audio: Tensor) -> Tensor:
        """
        Audio (B, T) as the network hears it: without what is below `high_pass_hz` of the configuration.

        Every loss compares with this, of the clean and of the noisy audio alike: what the network never hears is
        neither speech that it misses nor noise that it leaves. Scores (PESQ, STOI, SI-SDR; validation and
        `mvat evaluate` alike) compare with the clean recording as it is, since that is what listeners and other
        systems have.
        """
        return high_pass(audio, self.config.high_pass_hz, self.config.sampling_rate)

    def normalize(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """High pass, unit deviation and zeros on the right: (B, T) to (B, padded T), and the deviation (B, 1)."""
        audio = self.heard(audio)
        # a single sample has no deviation
        scale = audio.std(dim=-1, keepdim=True) if audio.shape[-1] > 1 else audio.abs()
        padding = self.config.padded_length(audio.shape[-1]) - audio.shape[-1]
        return F.pad(audio / (scale + SCALE_EPS), (0, padding)), scale

    def estimate(
        self, normalized: Tensor, last_level: int | None = None
    ) -> tuple[Tensor | None, dict[str, tuple[Tensor, list[Tensor] | None]]]:
        """The network between normalisation and trimming: (B, padded T) to the same, and what every level gave; None
        for the former if it ends at `last_level` of the decoder."""
        levels: dict[str, tuple[Tensor, list[Tensor] | None]] = {}
        # (B, T) -> (B, 1, T) -> (B, N, T)
        hidden = first = F.relu(self.input_norm(self.input(normalized.unsqueeze(1))))
        for level, encode in enumerate(self.encoder):
            hidden, _ = levels[f"encoder.{level}"] = encode(hidden)
        # (B, C, L) -> (B, L, C) -> (B, C, L)
        hidden = F.relu(self.bottleneck(hidden.transpose(1, 2))).transpose(1, 2)
        for level in reversed(range(self.config.depth)):
            skip, _ = levels[f"encoder.{level}"]
            hidden, _ = levels[f"decoder.{level}"] = self.decoder[level](hidden, skip)
            if level == last_level:
                return None, levels
        # (B, N, T) -> (B, 1, T) -> (B, T)
        return self.output(first * self.mask(hidden)).squeeze(1), levels


__all__ = ["MannerModel", "MannerOutput", "MannerPreTrainedModel", "MannerViewFeatures"]
