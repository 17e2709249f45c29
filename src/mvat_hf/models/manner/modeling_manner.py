"""MANNER: a U-Net on the waveform whose levels carry multi-view attention, see `attention_manner.py`.

Both files read from the small parts to the whole, in the order of the papers' figures. Shapes: B batch, T samples,
C channels, L frames. Sources: see `configuration_manner.py`.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import ModelOutput
from transformers.utils import can_return_tuple

from .attention_manner import ConvNorm, DepthwiseConv, Gate, MultiViewAttention
from .configuration_manner import MannerConfig
from .feature_extraction_manner import MannerFeatureExtractor
from .loss_manner import enhancement_loss

try:
    from mvat_hf.models.services import ModelServices
except ImportError:  # the code came with a checkpoint and stands alone
    ModelServices = type("Alone", (), {"fast_estimate": None})  # type: ignore[assignment,misc]

Levels = dict[str, tuple[Tensor, list[Tensor] | None]]  # of each U-Net level: its output, its views where it attends
SCALE_EPS = 1e-3  # beside the deviation that the input is divided by
# of the high-pass filter: order of the Butterworth filter, a length of transforms that is quick, silence to die away in
HIGH_PASS_ORDER, HIGH_PASS_STEP, HIGH_PASS_SECONDS = 8, 1024, 0.25


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
    loss_components (dict of scalars): terms of `loss`, weighted by a, not by 0.5 (`enhancement_loss`); given `labels`.
    view_features: `MannerViewFeatures` of each attention block, keyed "encoder.LEVEL" or "decoder.LEVEL", on request.
    hidden_states: output (B, C, L) of each U-Net level under the same keys, on request.
    """

    loss: Tensor | None = None
    audio_values: Tensor | None = None
    loss_components: dict[str, Tensor] | None = None
    view_features: dict[str, MannerViewFeatures] | None = None
    hidden_states: dict[str, Tensor] | None = None


def high_pass(audio: Tensor, hertz: float, sampling_rate: int) -> Tensor:
    """
    Audio (B, T) without its mean and without what is below `hertz`: 6 dB less there, 22 dB at 6/7 of it, 1 dB at 8/7.

    The response is that of a Butterworth filter run forwards and backwards, so there is no delay. For what recordings
    hold below the voice: hum of the mains, rumble, an offset. 0 Hz gives `audio` itself.
    """
    if hertz == 0:
        return audio
    samples = audio.shape[-1]
    size = -(-(samples + int(HIGH_PASS_SECONDS * sampling_rate)) // HIGH_PASS_STEP) * HIGH_PASS_STEP
    spectrum = torch.fft.rfft((audio - audio.mean(dim=-1, keepdim=True)).float(), size)
    # from four times as high on the response is 1 but for rounding
    turned_down = min(math.ceil(4 * hertz * size / sampling_rate), spectrum.shape[-1])
    ratio = torch.arange(turned_down, device=audio.device) * (sampling_rate / size / hertz)
    power = ratio ** (2 * HIGH_PASS_ORDER)
    spectrum[..., :turned_down] *= power / (1 + power)  # 0 at 0 Hz; to divide by infinity there is NaN on torch 2.6
    return torch.fft.irfft(spectrum, size)[..., :samples].to(audio.dtype)


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


class EncoderLevel(nn.Module):
    """Strided convolution, ResCon to `growth` times the channels, attention; (B, C, L) to (B, growth C, L / stride)."""

    def __init__(self, config: MannerConfig, level: int):
        super().__init__()
        narrow, wide = config.level_channels(level), config.level_channels(level + 1)
        self.down = nn.Conv1d(narrow, narrow, config.kernel_size, config.stride)
        self.down_norm = nn.BatchNorm1d(narrow)
        self.residual = ResidualConv(narrow, wide)
        self.attention = MultiViewAttention(config, wide) if level in config.attended_levels else None

    def forward(self, hidden: Tensor) -> tuple[Tensor, list[Tensor] | None]:
        hidden = self.residual(F.relu(self.down_norm(self.down(hidden))))
        return (hidden, None) if self.attention is None else self.attention(hidden)


class DecoderLevel(nn.Module):
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
        hidden = F.relu(self.up_norm(self.up(hidden)))
        return (hidden, None) if self.attention is None else self.attention(hidden)


class MannerPreTrainedModel(ModelServices, PreTrainedModel):
    """Weight initialisation and loading shared by MANNER models."""

    config: MannerConfig
    config_class = MannerConfig
    feature_extractor_class = MannerFeatureExtractor
    base_model_prefix = "manner"
    main_input_name = "input_values"
    _supports_sdpa = True  # the one way the global view is computed
    accepts_loss_kwargs = False  # the loss is a mean over the batch: the Trainer averages it over accumulation steps

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
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        labels: Tensor | None = None,
        output_view_features: bool = False,
        output_hidden_states: bool | None = None,
        last_level: int | None = None,
    ) -> MannerOutput:
        """
        Args:
            input_values: noisy audio (B, T) at `config.sampling_rate`, of any scale; but what is below an RMS of about
                -45 dBFS is turned down, as in upstream's normalisation (see `SCALE_EPS`).
            labels: clean audio (B, T); adds the enhancement loss L_SE to the output, see `high_passed`.
            output_view_features, output_hidden_states: give them, see `MannerOutput`; the latter as the configuration
                says by default.
            last_level: end after this level of the decoder, whose deepest runs first, without `audio_values`.

        Raises:
            ValueError: audio that is not (B, T), or has no sample; `labels` of another shape, or beside a `last_level`;
                no such level.
        """
        shape, depth = tuple(input_values.shape), self.config.depth
        if len(shape) != 2 or shape[-1] == 0:
            raise ValueError(f"input_values must be (batch, time) with a sample, got {shape}")
        if labels is not None and labels.shape != shape:
            raise ValueError(f"labels must have the shape of input_values {shape}, got {tuple(labels.shape)}")
        if last_level is not None and (labels is not None or not 0 <= last_level < depth):
            got = f"{last_level}{' and labels' if labels is not None else ''}"
            raise ValueError(f"last_level must be a decoder level from 0 to {depth - 1}, without labels, got {got}")
        if output_hidden_states is None:
            output_hidden_states = bool(self.config.output_hidden_states)
        normalized, scale = self.normalize(input_values)
        if self.fast_estimate is None or self.training or torch.is_grad_enabled():
            audio, levels = self.estimate(normalized, last_level)
        else:
            inside = output_view_features or output_hidden_states
            audio, levels = self.fast_estimate(self, normalized, inside, last_level)
        loss = components = None
        if audio is not None:
            audio = audio[..., : shape[-1]] * scale
            if labels is not None:
                loss, components = enhancement_loss(audio, self.high_passed(labels), self.high_passed(input_values))
        views = {name: MannerViewFeatures(*views) for name, (_, views) in levels.items() if views is not None}
        return MannerOutput(
            loss=loss,
            audio_values=audio,
            loss_components=components,
            view_features=views if output_view_features else None,
            hidden_states={name: hidden for name, (hidden, _) in levels.items()} if output_hidden_states else None,
        )

    def high_passed(self, audio: Tensor) -> Tensor:
        """Audio (B, T) without what is below `config.high_pass_hz`, as the network hears it. Every loss compares with
        this, of clean and noisy audio alike: the network cannot miss speech or leave noise that it never hears. Scores
        (PESQ, STOI, SI-SDR) compare with the clean recording itself, which listeners and other systems have."""
        return high_pass(audio, self.config.high_pass_hz, self.config.sampling_rate)

    def normalize(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """High pass, unit deviation and zeros on the right: (B, T) to (B, padded T), and the deviation (B, 1)."""
        audio = self.high_passed(audio)
        # a single sample has no deviation
        scale = audio.std(dim=-1, keepdim=True) if audio.shape[-1] > 1 else audio.abs()
        padding = self.config.padded_length(audio.shape[-1]) - audio.shape[-1]
        return F.pad(audio / (scale + SCALE_EPS), (0, padding)), scale

    def estimate(self, normalized: Tensor, last_level: int | None = None) -> tuple[Tensor | None, Levels]:
        """The network between normalisation and trimming: (B, padded T) to the same, or None after `last_level`."""
        levels: Levels = {}
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
