"""The DNS data: what is trained on is never validated on, whoever asks; test files are matched by fileid.

Every speaker and noise type of the miniature hums a note of its own, so that a mixture tells what it was made of.
"""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from mvat_hf import load_dns
from mvat_hf.data.audio import AudioError, read_mono
from mvat_hf.data.augment import Augmentation
from mvat_hf.data.dns import fileid, hold_out
from mvat_hf.data.matching import DataError
from mvat_hf.data.mixing import MixingOptions
from mvat_hf.data.reverb import Rooms

SPEAKERS = {f"reader_{number}": 200 + 50 * number for number in range(11)}  # Hz
NOISES = {f"type_{number}": 2000 + 100 * number for number in range(20)}
VALID = {"other_0": 6000, "other_1": 6100}
SHORT = MixingOptions(seconds=0.25, snr_db=(0, 5))


def hum(path, frequency, seconds=0.5, rate=16000):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate), rate)


def heard(item):
    """(speaker's note, noise's note) of a mixture in Hz."""
    clean, noisy = np.asarray(item["clean"]), np.asarray(item["noisy"])
    notes = (np.abs(np.fft.rfft(part * np.hanning(len(part)))).argmax() for part in (clean, noisy - clean))
    return tuple(round(float(note) * 16000 / len(clean) / 50) * 50 for note in notes)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Eleven speakers with two files each, twenty types of noise (one at 48 kHz)."""
    folder = tmp_path_factory.mktemp("dns")
    for speaker, note in SPEAKERS.items():
        for take in range(2):
            hum(folder / "datasets" / "clean" / speaker / f"{take}.wav", note, seconds=0.4 + 0.1 * take)
    for name, note in NOISES.items():
        hum(folder / "datasets" / "noise" / name / "a.wav", note, rate=48000 if note == 2000 else 16000)
    return folder


@pytest.fixture(scope="module")
def rooms(root):
    """(notes of training, notes of validation), each (speakers, noises), as heard in many mixtures."""
    train = [heard(item) for item in load_dns(root, "train", size=250, mixing=SHORT)]
    validation = [heard(item) for item in load_dns(root, "validation", size=40)]
    return [tuple(set(notes) for notes in zip(*part, strict=True)) for part in (train, validation)]


def test_validation_is_held_out_of_training(rooms):
    (speakers, noises), (held_speakers, held_noises) = rooms
    assert not speakers & held_speakers and not noises & held_noises
    # a tenth of each, and nothing is lost
    assert (len(held_speakers), len(held_noises)) == (1, 2)
    assert speakers | held_speakers == set(SPEAKERS.values())
    assert noises | held_noises == set(NOISES.values())


@pytest.mark.parametrize(("power", "share"), [(1.0, 8 / 10), (0.5, 2 / 3), (0.0, 1 / 2)])
def test_speakers_are_heard_by_a_power_of_their_files(power, share, root, tmp_path):
    for take in range(8):
        hum(tmp_path / "clean" / "many" / f"{take}.wav", 300)
    for take in range(2):
        hum(tmp_path / "clean" / "few" / f"{take}.wav", 600)
    hum(tmp_path / "clean_valid" / "other" / "a.wav", 900)
    (tmp_path / "noise").symlink_to(root / "datasets" / "noise")
    items = load_dns(tmp_path, "train", size=400, mixing=replace(SHORT, speaker_power=power))
    assert np.mean([heard(item)[0] == 300 for item in items]) == pytest.approx(share, abs=0.07)


def test_validation_is_the_same_in_every_call(root):
    one, other = load_dns(root, "validation"), load_dns(str(root), "validation", seed=7)
    assert len(one) == len(other) == 2  # the files of one speaker
    for first, second in zip(one, other, strict=True):
        assert first["id"] == second["id"]
        np.testing.assert_array_equal(first["clean"], second["clean"])
        np.testing.assert_array_equal(first["noisy"], second["noisy"])
    assert sorted(len(item["clean"]) for item in one) == [6400, 8000]  # whole files


def test_training_depends_on_the_seed(root):
    items = [load_dns(root, "train", mixing=SHORT, seed=seed)[3] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(items[0]["noisy"], items[1]["noisy"])
    assert not np.array_equal(items[0]["noisy"], items[2]["noisy"])


def test_sizes(root):
    assert len(load_dns(root, "train")) == 10 * 20  # ten for each file of the ten speakers left
    assert len(load_dns(root, "train", size=7)) == 7
    assert len(load_dns(root, "validation", size=5)) == 5
    assert len(load_dns(root, "train", size=1)[0]["clean"]) == 64000  # 4 s
    item = load_dns(root, "train", mixing=SHORT, sampling_rate=8000)[0]
    assert set(item) == {"id", "clean", "noisy"} and len(item["clean"]) == len(item["noisy"]) == 2000


def test_the_folder_itself_may_be_given(root):
    items = [load_dns(folder, "train", mixing=SHORT)[0]["noisy"] for folder in (root, root / "datasets")]
    np.testing.assert_array_equal(*items)


def test_clean_valid_is_the_validation_speech(root, tmp_path):
    (tmp_path / "datasets").mkdir()
    for name in ("clean", "noise"):
        (tmp_path / "datasets" / name).symlink_to(root / "datasets" / name)
    for speaker, note in VALID.items():
        hum(tmp_path / "datasets" / "clean_valid" / speaker / "a.wav", note)
    validation = load_dns(tmp_path, "validation")
    assert {heard(item)[0] for item in validation} == set(VALID.values()) and len(validation) == 2
    speakers, noises = zip(*(heard(item) for item in load_dns(tmp_path, "train", size=250, mixing=SHORT)), strict=True)
    assert set(speakers) == set(SPEAKERS.values())  # all of them train
    held_noises = {heard(item)[1] for item in load_dns(tmp_path, "validation", size=40)}
    assert len(held_noises) == 2 and not held_noises & set(noises)


def test_holding_out_goes_by_folder_and_name_alone(root, tmp_path):
    files = sorted((root / "datasets" / "noise").rglob("*.wav"))
    kept, held = hold_out(files, root / "datasets" / "noise")
    assert sorted(kept + held) == files
    moved = [tmp_path / path.relative_to(root) for path in files]
    _, held_there = hold_out(moved[::-1], tmp_path / "datasets" / "noise")
    assert {path.relative_to(tmp_path) for path in held_there} == {path.relative_to(root) for path in held}
    # a second file of a type goes where the first went
    more = [path.with_name("b.wav") for path in files]
    _, held_more = hold_out(files + more, root / "datasets" / "noise")
    assert {path.parent for path in held_more} == {path.parent for path in held} and len(held_more) == 4
    # files without folders are held out one by one
    kept, held = hold_out([tmp_path / f"{number}.wav" for number in range(30)], tmp_path)
    assert len(held) == 3 and not set(kept) & set(held)


def test_what_cannot_be_split(root, tmp_path):
    with pytest.raises(DataError, match="has 1 group or file, expected at least 2"):
        hold_out([tmp_path / "only" / "a.wav", tmp_path / "only" / "b.wav"], tmp_path)
    with pytest.raises(DataError, match='unknown split "dev".*train, validation, test'):
        load_dns(root, "dev")
    with pytest.raises(DataError, match=r"no such folder: .*nowhere"):
        load_dns(tmp_path / "nowhere", "train")
    with pytest.raises(DataError, match=r"no such folder: .*clean"):
        load_dns(tmp_path, "train")
    hum(tmp_path / "clean" / "a" / "0.wav", 200)
    hum(tmp_path / "clean" / "b" / "0.wav", 300)
    with pytest.raises(DataError, match=r"no such folder: .*noise"):
        load_dns(tmp_path, "train")
    (tmp_path / "noise").mkdir()
    with pytest.raises(DataError, match="noise holds no audio files"):
        load_dns(tmp_path, "train")
    with pytest.raises(DataError, match=r"no such folder: .*with_reverb"):
        load_dns(root, "with_reverb")


def test_a_broken_file_is_named(root, tmp_path):
    (tmp_path / "clean").symlink_to(root / "datasets" / "clean")
    for name in ("a", "b"):
        (tmp_path / "noise" / name).mkdir(parents=True)
        (tmp_path / "noise" / name / "broken.wav").write_bytes(b"")
    with pytest.raises(AudioError, match=r"broken\.wav is empty"):
        load_dns(tmp_path, "train", mixing=SHORT)[0]


@pytest.fixture
def tests(tmp_path):
    """Both test sets, three pairs each, in an order of names that is not that of the ids."""
    for room, offset in (("no_reverb", 0), ("with_reverb", 1000)):
        for number in (0, 2, 10):
            folder = tmp_path / "datasets" / "test_set" / "synthetic" / room
            hum(folder / "clean" / f"clean_fileid_{number}.wav", 300 + number + offset, 0.1)
            hum(folder / "noisy" / f"clnsp{9 - number % 7}_snr5_tl-20_fileid_{number}.flac", 400 + number + offset, 0.1)
    return tmp_path


@pytest.mark.parametrize(
    ("split", "room"), [("test", "no_reverb"), ("no_reverb", "no_reverb"), ("with_reverb", "with_reverb")]
)
def test_test_files_are_matched_by_fileid(split, room, tests):
    dataset = load_dns(tests, split)
    assert sorted(dataset["id"]) == ["fileid_0", "fileid_10", "fileid_2"]
    folder = tests / "datasets" / "test_set" / "synthetic" / room
    for item in dataset:
        for side in ("clean", "noisy"):
            (path,) = (path for path in (folder / side).iterdir() if fileid(path) == item["id"])
            np.testing.assert_array_equal(item[side], read_mono(path, 16000))


def test_test_files_that_do_not_match(tests):
    folder = tests / "datasets" / "test_set" / "synthetic" / "no_reverb"
    hum(folder / "clean" / "clean_fileid_3.wav", 300, 0.1)
    with pytest.raises(DataError, match=r"1 files .*no partner.*: fileid_3$"):
        load_dns(tests, "test")
    hum(folder / "noisy" / "noisy.wav", 300, 0.1)
    with pytest.raises(DataError, match=r"noisy\.wav has no fileid_N"):
        load_dns(tests, "test")
    hum(folder / "clean" / "other_fileid_3.wav", 300, 0.1)
    with pytest.raises(DataError, match="both fileid_3"):
        load_dns(tests, "test")


@pytest.mark.parametrize(("split", "count"), [("test", 150), ("validation", 100)])
def test_the_corpus_itself(split, count, shared):
    dataset = load_dns(shared / "data" / "dns", split)
    assert len(dataset) == count
    item = dataset[0]
    assert len(item["clean"]) == len(item["noisy"]) >= 16000
    assert 0 < np.abs(item["noisy"]).max() <= 1


def test_training_on_the_corpus_itself(shared):
    item = load_dns(shared / "data" / "dns", "train", size=1)[0]
    assert len(item["clean"]) == len(item["noisy"]) == 64000


@pytest.fixture
def synthesised(tmp_path):
    """Forty pairs of ten readers as the challenge's synthesiser names them."""
    for number in range(40):
        folder = tmp_path / "training"
        hum(folder / "clean" / f"clean_fileid_{number}.wav", 300, 0.05)
        name = f"book_1_chp_2_reader_{number % 10:05}_0_hum_snr5_tl-20_fileid_{number}.wav"
        hum(folder / "noisy" / name, 400, 0.05)
        hum(folder / "noise" / f"noise_fileid_{number}.wav", 400, 0.05)
    return tmp_path


def test_synthesised_pairs_hold_readers_out(synthesised):
    train, validation = (load_dns(synthesised, split) for split in ("train", "validation"))
    assert (len(train), len(validation)) == (36, 4)
    numbers = [{int(name.removeprefix("fileid_")) for name in part["id"]} for part in (train, validation)]
    assert sorted(numbers[0] | numbers[1]) == list(range(40))
    assert not {n % 10 for n in numbers[0]} & {n % 10 for n in numbers[1]}  # whole readers
    assert set(train[0]) == {"id", "clean", "noisy"}


def test_synthesised_pairs_without_readers_are_held_out_one_by_one(synthesised):
    for path in (synthesised / "training" / "noisy").iterdir():
        path.rename(path.with_name(path.name[path.name.index("hum") :]))
    assert len(load_dns(synthesised, "validation")) == 4


def test_a_synthesised_file_without_partner_is_named(synthesised):
    (synthesised / "training" / "clean" / "clean_fileid_7.wav").unlink()
    with pytest.raises(DataError, match=r"1 files .*no partner.*: fileid_7$"):
        load_dns(synthesised, "train")


def test_where_there_is_speech_to_mix_it_is_mixed(root, synthesised):
    (synthesised / "datasets").symlink_to(root / "datasets")
    assert len(load_dns(synthesised, "train")) == 200
    for given in (synthesised, synthesised / "datasets"):
        assert len(load_dns(given, "train", source="synthesised")) == 36
    with pytest.raises(DataError, match=r"no such folder: .*training"):
        load_dns(root, "train", source="synthesised")
    with pytest.raises(DataError, match='unknown source "both" of DNS, expected one of: mixed, synthesised'):
        load_dns(root, "train", source="both")


def test_a_stream_is_the_same_mixtures_without_end(root):
    stream, dataset = load_dns(root, "train", mixing=SHORT, streaming=True), load_dns(root, "train", mixing=SHORT)
    for streamed, item in zip(stream, dataset.select(range(5)), strict=False):
        assert streamed["id"] == item["id"]
        np.testing.assert_array_equal(streamed["noisy"], item["noisy"])
    for options in (
        {"split": "validation"},
        {"split": "train", "size": 3},
        {"split": "train", "source": "synthesised"},
    ):
        with pytest.raises(DataError, match="a stream is endless"):
            load_dns(root, streaming=True, **options)


@pytest.mark.parametrize(
    ("split", "source", "options", "says"),
    [
        ("train", "synthesised", {"size": 5}, "synthesised already.*expected no size, got size=5"),
        ("validation", "synthesised", {"size": 1}, "synthesised already.*expected no size, got size=1"),
        ("train", "synthesised", {"mixing": MixingOptions(snr_db=(0, 5))}, "synthesised already.*expected no mixing"),
        ("train", "synthesised", {"rooms": Rooms(room_count=2)}, "synthesised already.*expected no rooms"),
        ("train", "synthesised", {"batch_size": 4}, "batch_size is that of a stream"),
        ("train", "mixed", {"batch_size": 4}, "batch_size is that of a stream"),
        ("train", "mixed", {"mixing": MixingOptions(sampling_rate=8000)}, "for 8000 Hz, sampling_rate is 16000"),
        ("validation", "mixed", {"rooms": Rooms(room_count=2)}, "no reverberation: expected no rooms"),
        ("test", None, {"size": 5}, "taken whole and as it is: expected no size, got size=5"),
        ("test", None, {"mixing": SHORT}, "taken whole and as it is: expected no mixing"),
        ("with_reverb", None, {"rooms": Rooms(room_count=2)}, "taken whole and as it is: expected no rooms"),
        ("test", "mixed", {}, "taken whole and as it is: expected no source, got source=mixed"),
    ],
)
def test_options_that_would_do_nothing_are_refused(split, source, options, says, root, synthesised):
    (synthesised / "datasets").symlink_to(root / "datasets")
    with pytest.raises(DataError, match=says):
        load_dns(synthesised, split, source=source, **options)


def test_rooms_come_from_the_folder_or_are_simulated(root, tmp_path):
    mixing = MixingOptions(seconds=0.25, snr_db=(60, 60), augmentation=Augmentation(reverb_probability=1))
    plain = load_dns(root, "validation", mixing=SHORT)[0]["noisy"]
    augmented = replace(SHORT, augmentation=mixing.augmentation)
    np.testing.assert_array_equal(load_dns(root, "validation", mixing=augmented)[0]["noisy"], plain)  # without rooms
    (tmp_path / "datasets").mkdir()
    for name in ("clean", "noise"):
        (tmp_path / "datasets" / name).symlink_to(root / "datasets" / name)
    (tmp_path / "datasets" / "impulse_responses" / "SLR26").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no impulse responses; without that folder rooms are simulated"):
        load_dns(tmp_path, "train", mixing=mixing)
    echo = np.zeros(1000)
    echo[[100, 500]] = 0.9, 0.45
    soundfile.write(tmp_path / "datasets" / "impulse_responses" / "SLR26" / "a.wav", echo, 16000)
    item = load_dns(tmp_path, "train", mixing=mixing)[0]
    expected = item["clean"] + 0.5 * np.pad(item["clean"], (400, 0))[:-400]
    assert np.abs(item["noisy"] - expected).max() < 0.01 * np.abs(expected).max()

    pytest.importorskip("pyroomacoustics")
    rooms = Rooms(room_count=2, rt60_high=0.25)
    item = load_dns(root, "train", mixing=mixing, rooms=rooms)[0]
    assert np.abs(item["noisy"] - item["clean"]).max() / np.abs(item["noisy"]).max() > 0.1
