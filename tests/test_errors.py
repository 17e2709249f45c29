"""How errors are told: on one line, as they were raised."""

import pytest
from torch.utils.data import DataLoader

from mvat_hf.data.audio import AudioError
from mvat_hf.errors import one_line


class Broken:
    """Items that fail with an error that another one caused."""

    def __init__(self, error: Exception):
        self.error = error

    def __len__(self):
        return 1

    def __getitem__(self, index):
        try:
            raise OSError("AudioError: the cause")
        except OSError as cause:
            raise self.error from cause


@pytest.mark.parametrize(
    "error", [AudioError("a.wav is empty,\nexpected audio"), FileNotFoundError("no such file: a.wav")]
)
def test_an_error_in_a_worker_is_told_as_one_in_the_process(error):
    with pytest.raises(type(error)) as caught:
        next(iter(DataLoader(Broken(error), num_workers=1)))
    assert "Original Traceback" in str(caught.value)
    assert one_line(caught.value) == one_line(error) and "\n" not in one_line(error)


def test_an_error_without_a_message_is_told_by_its_name():
    with pytest.raises(AudioError) as caught:
        next(iter(DataLoader(Broken(AudioError()), num_workers=1)))
    assert one_line(caught.value) == "error: AudioError"
