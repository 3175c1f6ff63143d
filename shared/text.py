"""Other people's words, made safe to show: what came over the network cannot steer a terminal.

Law: every text that the other side wrote passes through `readable` before it is printed for a person.
"""

from __future__ import annotations


def readable(text: str) -> str:
    """The text with every character that does not print escaped as Python writes it; line breaks stay.

    That covers terminal escapes, marks that change the direction of writing, and invisible characters.
    """
    return "".join(
        character
        if character.isprintable() or character == "\n"
        else character.encode("unicode_escape").decode()
        for character in text
    )
