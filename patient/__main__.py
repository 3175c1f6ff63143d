"""`python -m patient PATIENT_ID` is `telemed-patient run PATIENT_ID`."""

from __future__ import annotations

import sys

from patient.cli import main

sys.exit(main(["run", *sys.argv[1:]]))
