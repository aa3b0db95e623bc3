"""Built-in models: made whole, the same every time, and checked like any other."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from freehold.config import FreeholdError
from freehold.local import tiny_models
from freehold.local.models import check_folder


def test_made_folders_pass_the_check_of_model_folders(tmp_path: Path) -> None:
    for name in ("tiny-chat", "tiny-draft"):
        check_folder(tiny_models.ensure(name, tmp_path), name)
    check_folder(tiny_models.ensure("tiny-lora", tmp_path), "tiny-lora", is_adapter=True)


def test_a_folder_is_made_once_and_always_the_same(tmp_path: Path) -> None:
    first = tiny_models.ensure("tiny-chat", tmp_path / "a")
    made = (first / "model.safetensors").stat().st_mtime_ns
    assert tiny_models.ensure("tiny-chat", tmp_path / "a") == first
    assert (first / "model.safetensors").stat().st_mtime_ns == made
    second = tiny_models.ensure("tiny-chat", tmp_path / "b")
    for file in ("model.safetensors", "tokenizer.json"):
        digests = {hashlib.sha256((f / file).read_bytes()).digest() for f in (first, second)}
        assert len(digests) == 1, file


def test_a_folder_that_was_not_finished_is_made_anew(tmp_path: Path) -> None:
    partial = (tmp_path / tiny_models.folder_name("tiny-chat")).with_suffix(".partial")
    partial.mkdir()
    (partial / "junk").write_text("x")
    folder = tiny_models.ensure("tiny-chat", tmp_path)
    assert not partial.exists() and not (folder / "junk").exists()


def test_the_tokenizer_gives_text_back_unchanged(tmp_path: Path) -> None:
    folder = tiny_models.ensure("tiny-chat", tmp_path)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = "The quick brown fox, 42 times — naïve café 東京."
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def damaged(folder: Path, file: str, content: bytes | None) -> None:
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", None, "holds no config.json"),
        ("config.json", b"{", "cannot be read"),
        ("config.json", b"{}", "architectures"),
        ("model.safetensors", None, r"holds no \*.safetensors"),
        ("model.safetensors", b"\0" * 64, "is damaged"),
    ],
)
def test_a_corrupt_model_folder_is_refused_with_the_file_at_fault(
    tmp_path: Path, file: str, content: bytes | None, words: str
) -> None:
    folder = tiny_models.ensure("tiny-draft", tmp_path)
    damaged(folder, file, content)
    with pytest.raises(FreeholdError, match=words):
        check_folder(folder, "pool chat")
