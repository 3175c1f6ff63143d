"""The second implementation: a patient and a doctor written from SPEC.md alone.

Law: nothing in this package imports anything else of this project. What both implementations get wrong in the same way
would never show if they shared a line.
"""
