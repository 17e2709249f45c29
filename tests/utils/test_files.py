"""Files that appear whole or not at all, and text that is utf-8 whatever the locale."""

import ast
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import REPOSITORY
from mvat_hf.utils.errors import message_of
from mvat_hf.utils.files import made_folders, replaced_at_end


def test_a_file_takes_its_place_when_it_is_whole(tmp_path):
    target = tmp_path / "new" / "a.txt"
    with replaced_at_end(target) as partial:
        partial.write_bytes(b"new")
        assert not target.exists() and partial.parent == target.parent
    assert target.read_bytes() == b"new"
    with pytest.raises(KeyError), replaced_at_end(target) as partial:
        partial.write_bytes(b"half")
        raise KeyError
    assert target.read_bytes() == b"new" and len(list(tmp_path.rglob("*"))) == 2


def test_a_chain_of_links_stays_and_the_mode_too(tmp_path):
    (tmp_path / "there").mkdir()
    real = tmp_path / "there" / "real.txt"
    real.write_bytes(b"old")
    real.chmod(0o604)
    (tmp_path / "middle").symlink_to("there/real.txt")
    (tmp_path / "link").symlink_to(tmp_path / "middle")
    with replaced_at_end(tmp_path / "link") as partial:
        partial.write_bytes(b"new")
    assert real.read_bytes() == b"new" and real.stat().st_mode & 0o777 == 0o604
    assert (tmp_path / "link").is_symlink() and (tmp_path / "middle").is_symlink()


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(28, "No space left on device")])
def test_an_error_tells_of_the_target(tmp_path, error):
    with pytest.raises(type(error)) as caught, replaced_at_end(tmp_path / "a.txt") as partial:
        raise OSError(error.errno, error.strerror, str(partial))
    assert caught.value.filename == str(tmp_path / "a.txt") and "partial" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="other.txt"), replaced_at_end(tmp_path / "a.txt"):
        raise FileNotFoundError(2, "No such file or directory", "other.txt")


def test_a_full_disk_is_told_of_the_target_where_the_system_names_no_file(tmp_path):
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.txt'"), replaced_at_end(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")
    copied = OSError(errno.ENOSPC, "No space left on device", "source.py", None, "target.py")  # as shutil.copy says it
    assert message_of(copied) == "target.py: No space left on device"
    assert (
        message_of(OSError(errno.ENOENT, "No such file", "source.py", None, "target.py")) == "source.py: No such file"
    )


def test_a_folder_that_cannot_be_made_is_told_or_left_to_the_writer(tmp_path):
    (tmp_path / "file").touch()
    folders = [tmp_path / "file" / "below", tmp_path / "other"]
    with pytest.raises(NotADirectoryError), made_folders(folders):
        pass
    with made_folders(folders, lenient=True):
        assert (tmp_path / "other").is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_not_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder") as caught, replaced_at_end(tmp_path / "folder") as partial:
        partial.write_bytes(b"")
    assert "partial" not in str(caught.value) and [path.name for path in tmp_path.iterdir()] == ["folder"]


def without_encoding(source: str) -> list[int]:
    """Lines of calls that open text files in the encoding of the locale."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
            continue
        name = ast.unparse(node.func)
        modes = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        binary = any("b" in str(mode) for mode in modes) or name.endswith(("os.open", "av.open", "library().open"))
        if name.endswith((".read_text", ".write_text")) or ((name == "open" or name.endswith(".open")) and not binary):
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize("folder", ["src", "scripts"])
def test_text_is_opened_as_utf_8(folder):
    files = sorted((REPOSITORY / folder).rglob("*.py"))
    assert files
    found = {str(path): lines for path in files if (lines := without_encoding(path.read_text(encoding="utf-8")))}
    assert not found
    lines = ['Path("x").read_text()', 'open("x", "a")', "p.open()", 'open("x", "rb")', 'p.write_text(t, encoding="a")']
    assert without_encoding("\n".join(lines)) == [1, 2, 3]


def test_a_record_is_utf_8_where_the_locale_is_not(tmp_path):
    code = "import sys; from mvat_hf.utils.records import write_text; write_text(sys.argv[1], 'caf\\u00e9 \\u00b1')"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.md"], env=environment, check=True)
    assert Path(tmp_path / "a.md").read_bytes() == "café ±".encode()
