"""The errors that are about what a user gave, and how commands tell them: one line."""

from huggingface_hub.errors import StrictDataclassError

# files and the Hub; values; configurations, whose strict classes have errors of their own
USER_ERRORS = (OSError, ValueError, StrictDataclassError)


def one_line(error: BaseException) -> str:
    """ "error: …" without line breaks."""
    return f"error: {' '.join(str(error).split())}"
