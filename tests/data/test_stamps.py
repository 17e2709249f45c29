"""A digest that changes with the recordings of a data set."""

from datasets import Dataset

from mvat_hf.data.stamps import stamp


def test_a_stamp_changes_with_audio_that_the_data_set_holds():
    def rows(content):
        return Dataset.from_list([{"id": "a", "noisy": {"bytes": content, "path": "a.flac"}}])

    assert stamp(rows(b"one")) == stamp(rows(b"one")) != stamp(rows(b"two"))
