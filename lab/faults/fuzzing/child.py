"""The process that fuzzes one target: `python -m lab.faults.fuzzing.child NAME DIRECTORY RUNS SECONDS SEED`.

Law: the code under test is imported here and nowhere earlier, because it is instrumented as it is imported. libFuzzer chooses the
inputs, the jury judges them. An input that hangs is ended by libFuzzer itself, which leaves it in DIRECTORY.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import atheris

HANG = 20  # seconds after which libFuzzer ends the process


def main(name: str, directory: str, runs: str, seconds: str, seed: str) -> None:
    """Fuzz one target until its attempts or its seconds are used up; never returns."""
    with atheris.instrument_imports(include=["shared", "doctor", "patient"]):
        from lab.faults.fuzzing.jury import Jury
        from lab.faults.fuzzing.targets import TARGETS
    target = next(target for target in TARGETS if target.name == name)
    home = Path(directory)
    corpus = home / "corpus"
    corpus.mkdir()
    with target.open() as subject:
        for seed_input in subject.seeds:
            (corpus / hashlib.sha256(seed_input).hexdigest()).write_bytes(seed_input)
        jury = Jury(name, subject, home, int(runs), float(seconds), lambda: os._exit(0))
        options = [
            f"-timeout={HANG}",
            f"-seed={seed}",
            f"-max_len={target.longest}",
            f"-artifact_prefix={home}/",
        ]
        options += ["-rss_limit_mb=2048", "-print_final_stats=0", "-verbosity=0"]
        atheris.Setup([name, *options, str(corpus)], jury)
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
