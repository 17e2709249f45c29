"""How near two ways to compute the same must come."""

import torch


def assert_close(output: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    """To `tolerance` of the peak of what is expected."""
    torch.testing.assert_close(output, expected, rtol=0, atol=tolerance * float(expected.abs().max()))
