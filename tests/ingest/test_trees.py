"""Text and code trees: what is a document, its licence by header, folder or source, and files that are no text."""

import pytest

from k2model.documents.spans import segments_of
from k2model.ingest.trees import licence_of_text
from k2model.recipe.schema import SourceFormat, TextUnit
from tests.ingest.samples import ingest, reasons, source


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def test_a_text_file_is_a_document(tmp_path):
    write(tmp_path / "in", {
        "a/one.txt": "\ufeffOne,\n\ntwo.\n", "two.md": "# Two", "empty.txt": " \n", "bad.txt": b"ok \xff",
        "image.txt": b"\x89PNG\0\0\xff", "long.txt": "x" * 101, "skipped.bin": "no text by its name",
    })  # fmt: skip
    found = ingest(source(tmp_path / "in", heldout=0.0, max_row_bytes=100), tmp_path / "out")
    read = {d["origin"]: segments_of(d)[1]["text"] for d in found.train}
    assert read == {"a/one.txt": "One,\n\ntwo.\n", "two.md": "# Two"}
    assert {row["file"]: row["reason"] for row in found.quarantine} == {
        "bad.txt": "encoding", "empty.txt": "empty_field", "image.txt": "binary", "long.txt": "over_long",
    }  # fmt: skip
    assert "byte 3 of the file (0xff) is not utf-8" in [row["detail"] for row in found.quarantine]


def test_a_paragraph_is_a_document(tmp_path):
    write(tmp_path / "in", {"a.txt": "\n\nOne\ngoes on.\r\n\r\n  Two\n \t\n\nThree\n"})
    found = ingest(source(tmp_path / "in", unit=TextUnit.PARAGRAPH, heldout=0.0), tmp_path / "out")
    assert [(d["origin"], segments_of(d)[1]["text"]) for d in found.train] == [
        ("a.txt#1", "One\ngoes on."), ("a.txt#2", "  Two"), ("a.txt#3", "Three"),
    ]  # fmt: skip


def test_text_in_another_encoding(tmp_path):
    write(tmp_path / "in", {"a.txt": "नमस्ते".encode("utf-16"), "b.txt": b"odd"})
    config = source(tmp_path / "in", format=SourceFormat.TEXT, encoding="utf-16", heldout=0.0)
    found = ingest(config, tmp_path / "out")
    assert [segments_of(d)[1]["text"] for d in found.train] == ["नमस्ते"] and reasons(found) == [("encoding", 0)]


MIT = "Copyright X\n\nPermission is hereby granted, free of charge, to any person obtaining a copy"


def test_source_code_has_its_language_and_licence(tmp_path):
    write(tmp_path / "in", {
        "LICENSE": MIT,
        "a.py": "print(1)",
        "lib/b.c": "/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */\nint x;",
        "lib/deep/c.rs": "fn main() {}",
        "vendored/COPYING.txt": "All rights reserved. You may not use this.",
        "vendored/d.go": "package d",
        "license.py": "import licence_tools",
        "notes.pdf": b"%PDF",
        "data.py": b"\0\0",
    })  # fmt: skip
    config = source(tmp_path / "in", format=SourceFormat.CODE, domain="code", licence="", heldout=0.0)
    found = ingest(config, tmp_path / "out")
    assert {d["origin"]: d["licence"] for d in found.train} == {
        "a.py": "MIT", "license.py": "MIT", "lib/b.c": "GPL-2.0-only OR BSD-3-Clause", "lib/deep/c.rs": "MIT",
        "vendored/d.go": "unknown",
    }  # fmt: skip
    assert found.counts["languages"] == {"C": 1, "Go": 1, "Python": 2, "Rust": 1}
    assert [(row["file"], row["reason"]) for row in found.quarantine] == [("data.py", "binary")]


def test_code_without_any_licence_has_what_the_source_declares(tmp_path):
    write(tmp_path / "in", {"a.py": "print(1)", "b/LICENSE.md": MIT})
    for declared, expected in (("Apache-2.0", "Apache-2.0"), ("", "unknown")):
        config = source(tmp_path / "in", format=SourceFormat.CODE, licence=declared)
        assert ingest(config, tmp_path / f"out{declared}").documents[0]["licence"] == expected


@pytest.mark.parametrize(
    ("wording", "licence"),
    [
        ("Apache License\n   Version 2.0, January 2004", "Apache-2.0"),
        ("GNU GENERAL PUBLIC LICENSE\n Version 3, 29 June 2007", "GPL-3.0-only"),
        ("GNU LESSER GENERAL PUBLIC LICENSE Version 3 ... the GNU General Public License version 3", "LGPL-3.0-only"),
        ("Redistribution and use in source and binary forms ... Neither the name of", "BSD-3-Clause"),
        ("Redistribution and use in source and binary forms, with or without", "BSD-2-Clause"),
        ("SPDX-License-Identifier: EUPL-1.2\nwhatever follows", "EUPL-1.2"),
        ("Do as you please.", ""),
    ],
)
def test_licences_are_known_by_their_wording(wording, licence):
    assert licence_of_text(wording) == licence
